"""The TLS step: a handshake as the gateway makes it, and, where that fails, a look at the certificate all the same."""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway.cli.doctor.certificates import Certificate, chain_of
from gateway.cli.doctor.network import Address, Endpoint
from gateway.cli.doctor.report import Outcome, Step
from gateway.database import tls
from gateway.errors import GatewayError

Opening = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What a protocol says in the clear before the handshake."""

_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
_CLIENT_FLAGS: Final = 0x0200 | 0x0800 | 0x8000
"""CLIENT_PROTOCOL_41, CLIENT_SSL, CLIENT_SECURE_CONNECTION."""
_SSL_FLAG: Final = 0x0800
_UTF8MB4: Final = 45
_MAX_GREETING: Final = 4096
_NAME: Final = (62, 64)
_UNTRUSTED: Final = (18, 19, 20, 21)
_EXPIRED: Final = 10
_NOT_YET: Final = 9


class NoTls(GatewayError):
    """The server will not speak TLS; the message says what it said.

    Args:
        advice: what to do, where that is known better here.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Security:
    """How a connection is to be encrypted.

    Attributes:
        make: the context; raises TlsUnusable.
        name: the name to expect in the certificate.
        trust: which setting says whom to trust.
        naming: how to expect another name, in advice.
        opening: what is said before the handshake; None where TLS begins at once.
    """

    make: Callable[[], ssl.SSLContext]
    name: str
    trust: str
    naming: str
    opening: Opening | None = None


async def postgresql_opening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for TLS (PostgreSQL documentation, section 55.2.10)."""
    writer.write(_SSL_REQUEST)
    answer = await reader.readexactly(1)
    if answer != b"S":
        raise NoTls("the server offers no TLS" if answer == b"N" else "the server does not speak PostgreSQL's protocol")


async def mysql_opening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the greeting and ask for TLS (MySQL internals manual, "SSL Connection Request Packet")."""
    head = await reader.readexactly(4)
    size = int.from_bytes(head[:3], "little")
    if not 0 < size <= _MAX_GREETING:
        raise NoTls("the server does not speak MySQL's protocol")
    body = await reader.readexactly(size)
    if body[0] == 0xFF:
        number = int.from_bytes(body[1:3], "little")
        raise NoTls(f"the server turned us away: [{number}] {body[3:].decode('utf-8', 'replace')}")
    end = body.find(b"\0", 1)
    flags = int.from_bytes(body[end + 14 : end + 16], "little")
    if body[0] != 10 or end < 0:
        raise NoTls("the server does not speak MySQL's protocol")
    if not flags & _SSL_FLAG:
        raise NoTls("the server offers no TLS")
    request = struct.pack("<IIB23x", _CLIENT_FLAGS, 1 << 24, _UTF8MB4)
    writer.write(len(request).to_bytes(3, "little") + b"\1" + request)


async def shake(endpoint: Endpoint, address: Address, security: Security, limit: float) -> Step:
    """Make the handshake and tell of it."""
    started = time.perf_counter()
    try:
        context = security.make()
    except tls.TlsUnusable as error:
        return Step("tls", Outcome.FAILED, error.message, "Correct the files or their paths; are they mounted?")
    try:
        session, chain = await asyncio.wait_for(_handshake(address, context, security), limit)
    except NoTls as error:
        advice = f"Set TLS up at the {endpoint.peer}, or say tls.mode: disable on a network you trust."
        if error.advice:
            advice = error.advice
        elif "offers no TLS" not in error.message:
            advice = f"Is port {endpoint.port} the {endpoint.peer}'s, and may this machine connect?"
        return Step("tls", Outcome.FAILED, error.message, advice, time.perf_counter() - started)
    except TimeoutError:
        advice = (
            "The port takes connections, but nobody speaks there: the server is frozen or overloaded,"
            " a load balancer has no backend, or the port is another protocol's."
        )
        return Step("tls", Outcome.TIMED_OUT, f"no handshake within {limit:g} s", advice, limit)
    except (OSError, EOFError) as error:
        return await _refused(endpoint, address, security, error, time.perf_counter() - started, limit)
    return _done(context, session, chain, security, time.perf_counter() - started)


async def _handshake(
    address: Address, context: ssl.SSLContext, security: Security
) -> tuple[dict[str, str], list[Certificate]]:
    reader, writer = await asyncio.open_connection(address.ip, address.place[1])
    try:
        if security.opening is not None:
            await security.opening(reader, writer)
        await writer.start_tls(context, server_hostname=security.name)
        found: ssl.SSLObject = writer.get_extra_info("ssl_object")
        cipher = found.cipher()
        return {"version": found.version() or "", "cipher": cipher[0] if cipher else ""}, list(chain_of(found))
    finally:
        writer.transport.abort()


def _done(
    context: ssl.SSLContext, session: dict[str, str], chain: list[Certificate], security: Security, seconds: float
) -> Step:
    text = f"{session['version']} {session['cipher']}"
    facts: dict[str, Any] = session | {"chain": [each.subject for each in chain]}
    if chain:
        text += f"; certificate for {_listed(chain[0])} {chain[0].life()}"
        facts["certificate"] = chain[0].facts()
    facts["is_verified"] = context.verify_mode is ssl.CERT_REQUIRED
    if context.verify_mode is ssl.CERT_NONE:
        advice = f"Whoever stands between could read along: use tls.mode: verify-full with {security.trust}."
        return Step("tls", Outcome.WARNING, f"{text}; it is not verified", advice, seconds, facts)
    if any(each.is_ending for each in chain):
        first = min(chain, key=lambda each: each.ends)
        advice = f"Renew the certificate of {first.subject}: it {first.life()}."
        return Step("tls", Outcome.WARNING, text, advice, seconds, facts)
    return Step("tls", Outcome.OK, text, "", seconds, facts)


async def _refused(
    endpoint: Endpoint, address: Address, security: Security, error: Exception, seconds: float, limit: float
) -> Step:
    if not isinstance(error, ssl.SSLError):
        text = f"the {endpoint.peer} closed the connection during the handshake"
        advice = f"Does port {endpoint.port} speak TLS? A firewall or a service mesh that inspects TLS does this too."
        return Step("tls", Outcome.FAILED, text, advice, seconds)
    leaf = await _look(address, security, limit)
    facts = {"certificate": leaf.facts()} if leaf else {}
    if not isinstance(error, ssl.SSLCertVerificationError):
        return Step("tls", Outcome.FAILED, tls.explain(error), _next(error, security), seconds, facts)
    reason, advice = _verdict(error.verify_code, leaf, security)
    text = f"the {endpoint.peer}'s certificate is refused: {reason} ({error.verify_message})"
    return Step("tls", Outcome.FAILED, text, advice, seconds, facts)


def _next(error: ssl.SSLError, security: Security) -> str:
    reason = getattr(error, "reason", None) or ""
    if "ALERT" in reason and any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA")):
        return "Give the gateway a certificate (tls.certificate, tls.key) that the server's authority signed."
    return f"Compare the server's TLS versions and ciphers with tls.min_version; trust is set by {security.trust}."


def _verdict(number: int, leaf: Certificate | None, security: Security) -> tuple[str, str]:
    if number == _EXPIRED:
        life = f"it {leaf.life()}" if leaf and leaf.days < 0 else "a certificate in its chain has expired"
        return life, "Renew the certificate at the server, then reload the server."
    if number == _NOT_YET:
        return "it is not valid yet", "Is this machine's clock right? Else wait, or issue the certificate again."
    if number in _NAME:
        names = _listed(leaf) if leaf else "another name"
        return (
            f"it is for {names}, not for {security.name}",
            f"Dial one of those names{security.naming}, or issue a certificate that has {security.name}.",
        )
    if number in _UNTRUSTED:
        by = f"; it was issued by {leaf.issuer}" if leaf else ""
        return (
            f"nobody we trust has signed it{by}",
            f"Put that authority's certificate where it is read: {security.trust}.",
        )
    return "it does not verify", f"Check the chain that the server sends, and {security.trust}."


async def _look(address: Address, security: Security, limit: float) -> Certificate | None:
    """The certificate that was refused, unverified: only to tell of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _, chain = await asyncio.wait_for(_handshake(address, context, security), limit)
    except (NoTls, OSError, EOFError):
        return None
    return chain[0] if chain else None


def _listed(leaf: Certificate) -> str:
    names = leaf.names or (leaf.subject,)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
