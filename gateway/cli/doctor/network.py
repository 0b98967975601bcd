"""Names and ports: DNS look-up and TCP connect, each address by itself, each bounded in time."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from gateway.cli.doctor.report import Outcome, Step

_NO_NAME: Final = (socket.EAI_NONAME, socket.EAI_NODATA)
_RESOLVER_TIMEOUT: Final = 1.0
"""Seconds: the shortest time after which a resolver gives up waiting (resolv.conf(5), `timeout`)."""
_UNREACHABLE: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL)
_SPELLING: Final = (
    "Check the spelling. In Kubernetes a short name is looked up in the pod's own namespace:"
    " write NAME.NAMESPACE.svc.cluster.local, or the full public name."
)
_RESOLVER: Final = (
    "The DNS server does not answer. Does the network policy let DNS out (UDP and TCP 53),"
    " and is the server in /etc/resolv.conf up?"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where something listens.

    Attributes:
        host: name or address.
        port: TCP port.
        peer: what it is, in advice: "database", "identity provider", ...
    """

    host: str
    port: int
    peer: str


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an endpoint, as the socket module writes it."""

    family: socket.AddressFamily
    place: tuple[Any, ...]

    @property
    def ip(self) -> str:
        """The address without its port."""
        return str(self.place[0])

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.place[1]}" if self.family == socket.AF_INET6 else f"{self.ip}:{self.place[1]}"


async def look_up(endpoint: Endpoint, limit: float) -> tuple[Step, list[Address]]:
    """All addresses of a name, and what the look-up says of DNS."""
    started = time.perf_counter()
    host = endpoint.host
    try:
        async with asyncio.timeout(limit):
            found = await _resolve(host, endpoint.port)
    except TimeoutError:
        return Step("dns", Outcome.TIMED_OUT, f"{host}: no answer within {limit:g} s", _RESOLVER, limit), []
    except (OSError, UnicodeError) as error:
        return _nameless(host, error, time.perf_counter() - started), []
    seconds = time.perf_counter() - started
    addresses = list(dict.fromkeys(Address(family, place) for family, _, _, _, place in found))
    ips = [address.ip for address in addresses]
    if _is_literal(host):
        return Step("dns", Outcome.SKIPPED, f"{host} is an address"), addresses
    text = f"{host}: {', '.join(ips)}"
    return Step("dns", Outcome.OK, text, seconds=seconds, facts={"host": host, "addresses": ips}), addresses


def _nameless(host: str, error: Exception, seconds: float) -> Step:
    number = error.args[0] if isinstance(error, socket.gaierror) else None
    if number in _NO_NAME or isinstance(error, UnicodeError):
        return Step("dns", Outcome.FAILED, f"{host}: there is no such name", _SPELLING, seconds)
    if number == socket.EAI_AGAIN:
        # The same number says "servers refused" at once, and "nobody answered" after the resolver's own patience.
        outcome = Outcome.TIMED_OUT if seconds >= _RESOLVER_TIMEOUT else Outcome.FAILED
        return Step("dns", outcome, f"{host}: the look-up failed for now", _RESOLVER, seconds)
    return Step("dns", Outcome.FAILED, f"{host}: {error}", _SPELLING, seconds)


async def _resolve(host: str, port: int) -> list[Any]:
    """`getaddrinfo` in a thread that nobody has to wait for: the loop's own would hold the process up at its end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Any]] = loop.create_future()

    def settle(found: list[Any] | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(found or [])

    def work() -> None:
        outcome: tuple[list[Any] | None, Exception | None]
        try:
            outcome = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), None
        except (OSError, UnicodeError) as error:
            outcome = None, error
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, daemon=True, name=f"dns {host}").start()
    return await future


async def knock(endpoint: Endpoint, addresses: list[Address], limit: float) -> tuple[list[Step], list[Address]]:
    """Connect to each address at once; the steps, and the addresses that are open."""
    steps = await asyncio.gather(*(_connect(endpoint, address, limit) for address in addresses))
    taking = [address for address, step in zip(addresses, steps, strict=True) if step.outcome is Outcome.OK]
    if taking:
        # A name with an IPv6 address is usual where only IPv4 is routed, and clients go on to the next address.
        steps = [_lesser(step) if step.facts.get("state") == "unreachable" else step for step in steps]
    return list(steps), taking


def _lesser(step: Step) -> Step:
    advice = "Another address is open, and clients go on to it; this one only costs time."
    return Step(step.name, Outcome.WARNING, step.text, advice, step.seconds, step.facts)


async def _connect(endpoint: Endpoint, address: Address, limit: float) -> Step:
    loop, started = asyncio.get_running_loop(), time.perf_counter()
    own = source_address(address)
    with socket.socket(address.family, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            async with asyncio.timeout(limit):
                await loop.sock_connect(probe, address.place)
        except OSError as error:
            # What is over the limit is this machine's own slowness.
            return _closed(endpoint, address, own, error, min(limit, time.perf_counter() - started))
    facts = {"address": str(address), "state": "open", "source": own}
    return Step("tcp", Outcome.OK, f"{address} is open", seconds=time.perf_counter() - started, facts=facts)


def _closed(endpoint: Endpoint, address: Address, own: str | None, error: OSError, seconds: float) -> Step:
    facts = {"address": str(address), "source": own}
    if isinstance(error, TimeoutError):
        facts["state"], text = "timed_out", f"{address} timed out after {seconds:.1f} s: a firewall drops packets"
        return Step("tcp", Outcome.TIMED_OUT, text, dropped(endpoint.peer, address, own), seconds, facts)
    if isinstance(error, ConnectionRefusedError):
        facts["state"] = "refused"
        advice = (
            f"The machine answers, but nothing listens on port {endpoint.port}, or a firewall rejects."
            f" Is the {endpoint.peer} up, does it listen on this address, is the port right?"
        )
        return Step("tcp", Outcome.FAILED, f"{address} refused the connection", advice, seconds, facts)
    if error.errno in _UNREACHABLE:
        facts["state"] = "unreachable"
        advice = (
            "There is no route, or a firewall rejects. Check routes, peering and VPN, security groups,"
            f" and the network policy.{_whoami(address, own)}"
        )
        text = f"{address} is unreachable ({os.strerror(error.errno or 0)})"
        return Step("tcp", Outcome.FAILED, text, advice, seconds, facts)
    facts["state"] = "failed"
    advice = "The connection ended while it was made: a proxy or a load balancer on the way has no backend."
    return Step("tcp", Outcome.FAILED, f"{address}: {error}", advice, seconds, facts)


def dropped(peer: str, address: Address, own: str | None) -> str:
    """What to do about packets that vanish: the lesson that cost the paper's authors two weeks."""
    return (
        f"Does the {peer}'s firewall allow the pod network, not only the node network, to reach it?"
        f"{_whoami(address, own)} Does the network policy let this port out?"
    )


def _whoami(address: Address, own: str | None, environment: Mapping[str, str] = os.environ) -> str:
    what = "pod" if "KUBERNETES_SERVICE_HOST" in environment else "machine"
    return f" This {what}'s address towards {address.ip} is {own}." if own else ""


def source_address(address: Address) -> str | None:
    """The address that this machine would send from; None without a route. Sends nothing."""
    with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address.place)
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _is_literal(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
