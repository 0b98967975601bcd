"""The one way out of some networks: the proxy that `HTTPS_PROXY` names, for all hosts that `NO_PROXY` does not.

HTTPS only, by CONNECT (RFC 9110 section 9.3.6): the proxy sees which host is asked, and nothing of what is said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Final

import aiohttp
from yarl import URL

from gateway.config.addresses import is_loopback
from gateway.errors import GatewayError

_PORT: Final = 3128


class ProxyError(GatewayError):
    """`HTTPS_PROXY` cannot be used; the message does not repeat it, since it may hold a password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, as `host:port` where it is told.

    Attributes:
        host: its name or address.
        port: where it listens.
        authorization: the header that says who asks; empty for nobody in particular.
    """

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The proxy without its credentials."""
        return str(URL.build(scheme="http", host=self.host, port=self.port))

    @property
    def headers(self) -> dict[str, str]:
        """What CONNECT carries beside the host."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


def way(url: str) -> dict[str, Any]:
    """How aiohttp is told to reach a URL.

    Raises:
        ProxyError: as for `proxy_for`.
    """
    proxy = proxy_for(url)
    return {} if proxy is None else {"proxy": proxy.url, "proxy_headers": proxy.headers}


def proxy_for(url: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy by which a URL is reached; None for the straight way.

    Lower-case names of the variables count as well, and before the others, as
    in other programs. `NO_PROXY` has names (`example.com` and `.example.com`
    stand for the name and all below it), addresses, networks such as
    `10.0.0.0/8`, each with `:port` or without; `*` is everything.

    Raises:
        ProxyError: the variable is no `http://HOST:PORT`.
    """
    target = URL(url)
    if target.scheme != "https" or not target.host or is_loopback(target.host):
        return None
    told = environment.get("https_proxy") or environment.get("HTTPS_PROXY") or ""
    spared = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if not told or _is_spared(target.host, target.port or 443, spared):
        return None
    return _parsed(told)


@lru_cache(4)
def _parsed(told: str) -> Proxy:
    try:
        url = URL(told if "://" in told else f"http://{told}")
        if url.scheme != "http" or not url.host:
            raise ValueError
        who = "" if url.user is None else aiohttp.encode_basic_auth(url.user, url.password or "")
    except ValueError:
        raise ProxyError("HTTPS_PROXY must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT") from None
    return Proxy(url.host, url.explicit_port or _PORT, who)


def _is_spared(host: str, port: int, spared: str) -> bool:
    asked = (host.lower(), f"{host.lower()}:{port}")
    for each in (part.strip().lower().lstrip(".") for part in spared.split(",")):
        if each == "*" or (each and any(name == each or name.endswith(f".{each}") for name in asked)):
            return True
        if "/" in each and _is_within(host, each):
            return True
    return False


def _is_within(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False  # a name, or no network
