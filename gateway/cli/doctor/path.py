"""The way to one endpoint: name, port, handshake; each only where the one before it succeeded."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from yarl import URL

from gateway.cli.doctor import handshake, network
from gateway.cli.doctor.handshake import NoTls, Opening, Security
from gateway.cli.doctor.network import Endpoint
from gateway.cli.doctor.report import Outcome, Step
from gateway.database.tls import TlsUnusable
from gateway.net.proxy import Proxy, ProxyError, proxy_for

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


async def walk(
    endpoint: Endpoint, security: Security | None, limit: float, beyond: Endpoint | None = None
) -> tuple[list[Step], bool]:
    """Go as far as the way is open.

    Args:
        security: how to encrypt; None for plain TCP.
        limit: seconds for each step.
        beyond: who is spoken to, where `endpoint` only passes it on.

    Returns:
        What was seen, and whether the way is open to its end at one address at least.
    """
    found, addresses = await network.look_up(endpoint, limit)
    steps = [found]
    knocks, taking = await network.knock(endpoint, addresses, limit)
    steps += knocks
    if not taking:
        return steps, False
    if security is None:
        return steps, True
    shaken = await handshake.shake(beyond or endpoint, taking[0], security, limit)
    return [*steps, shaken], not shaken.outcome.is_bad


async def walk_web(url: str, peer: str, trust: str, ca: Path | None, limit: float) -> tuple[list[Step], bool]:
    """The way to a URL as the gateway goes it: by the proxy of `HTTPS_PROXY` where that counts.

    Args:
        peer: who listens there, in advice.
        trust: which setting says whom to trust.
        ca: authorities to trust; the system's when absent.
        limit: seconds for each step.
    """
    endpoint, security = endpoint_of(url, peer), web_security(url, trust, ca)
    try:
        proxy = proxy_for(url)
    except ProxyError as error:
        return [Step("proxy", Outcome.FAILED, error.message, "Correct it where this process is started.")], False
    if proxy is None or security is None:
        return await walk(endpoint, security, limit)
    by = Step("proxy", Outcome.OK, f"HTTPS_PROXY leads by {proxy}")
    through = replace(security, opening=_connecting(endpoint, proxy))
    steps, is_open = await walk(Endpoint(proxy.host, proxy.port, "proxy"), through, limit, endpoint)
    return [by, *steps], is_open


def _connecting(endpoint: Endpoint, proxy: Proxy) -> Opening:
    """Ask a proxy for the way (RFC 9110 section 9.3.6)."""
    place = f"{endpoint.host}:{endpoint.port}"
    headers = "".join(f"{name}: {value}\r\n" for name, value in proxy.headers.items())

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{headers}\r\n".encode())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            head = b""
        found = _STATUS.match(head)
        if found is None:
            raise NoTls("the proxy does not speak HTTP", "Does HTTPS_PROXY have the right port?")
        if not found[1].startswith(b"2"):
            advice = (
                f"May this machine go to {place}? Ask whoever runs the proxy; a host that needs none is for NO_PROXY."
            )
            if found[1] == b"407":
                advice = "Write the proxy's user and password into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT."
            raise NoTls(f"the proxy refuses the way to {place}: HTTP status {found[1].decode()}", advice)

    return connect


def endpoint_of(url: str, peer: str, default_port: int | None = None) -> Endpoint:
    """Where a URL leads."""
    parsed = URL(url)
    return Endpoint(parsed.host or "", parsed.explicit_port or default_port or parsed.port or 443, peer)


def web_security(url: str, trust: str, ca: Path | None = None, *, is_grpc: bool = False) -> Security | None:
    """How a client of a URL encrypts; None for plain HTTP or Redis."""
    parsed = URL(url)
    if parsed.scheme not in ("https", "rediss"):
        return None
    return Security(trusting(ca, trust, is_grpc=is_grpc), parsed.host or "", trust, "")


def trusting(ca: Path | None, trust: str, *, is_grpc: bool = False) -> Callable[[], ssl.SSLContext]:
    """A context that trusts a file, or the system's store without one."""

    def make() -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise TlsUnusable(f"{trust}: cannot use {ca}: {error}") from error
        if is_grpc:
            context.set_alpn_protocols(["h2"])  # servers of gRPC hang up on clients that do not say so
        return context

    return make
