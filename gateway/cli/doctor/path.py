"""The way to one endpoint: name, port, handshake; each only where the one before it succeeded."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from yarl import URL

from gateway.cli.doctor import handshake, network
from gateway.cli.doctor.handshake import Security
from gateway.cli.doctor.network import Endpoint
from gateway.cli.doctor.report import Step
from gateway.database.tls import TlsUnusable


async def walk(endpoint: Endpoint, security: Security | None, limit: float) -> tuple[list[Step], bool]:
    """Go as far as the way is open.

    Args:
        security: how to encrypt; None for plain TCP.
        limit: seconds for each step.

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
    shaken = await handshake.shake(endpoint, taking[0], security, limit)
    return [*steps, shaken], not shaken.outcome.is_bad


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
