"""Transport security towards databases: one block of settings, one context for every engine."""

from __future__ import annotations

import ipaddress
import ssl
from typing import Any, Final, Literal

from gateway.config.models import TlsSettings
from gateway.errors import GatewayError

Mode = Literal["disable", "require", "verify-ca", "verify-full"]

# RFC 7525 section 4.2: forward secrecy and authenticated encryption only; TLS 1.3 has nothing else.
_CIPHERS_1_2: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


class TlsUnusable(GatewayError):
    """A file named in a `tls:` block cannot be used."""


class _NamedContext(ssl.SSLContext):
    """A context that expects a certificate for a name of its own choice, whatever host is dialled."""

    expected_name: str | None = None

    def wrap_bio(self, incoming: Any, outgoing: Any, server_side: bool = False, *args: Any, **options: Any) -> Any:
        """Begin a handshake in memory, as asyncio does."""
        if self.expected_name is not None:
            options["server_hostname"] = self.expected_name
        return super().wrap_bio(incoming, outgoing, server_side, *args, **options)


def mode_of(settings: TlsSettings, host: str) -> Mode:
    """The mode in force: as written, else verify-full, except on loopback and Unix sockets."""
    if settings.mode is not None:
        return settings.mode
    return "disable" if is_local(host) else "verify-full"


def is_local(host: str) -> bool:
    """Whether a host is this machine by its very name: loopback, or the folder of a Unix socket."""
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def context_of(settings: TlsSettings, host: str) -> ssl.SSLContext | None:
    """The context for a source; None where TLS is off.

    Raises:
        TlsUnusable: a certificate, key or authority cannot be read.
    """
    mode = mode_of(settings, host)
    if mode == "disable":
        return None
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS_1_2)
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if mode == "require" else ssl.CERT_REQUIRED
    context.expected_name = settings.server_name
    try:
        if settings.ca is not None:
            context.load_verify_locations(cafile=settings.ca)
        elif mode != "require":
            context.load_default_certs()
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        files = [str(path) for path in (settings.ca, settings.certificate, settings.key) if path is not None]
        raise TlsUnusable(f"tls: cannot use {', '.join(files)}: {error}") from error
    return context


def explain(error: ssl.SSLError) -> str:
    """Why a handshake failed, in the operator's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {error.verify_message}"
    return f"the TLS handshake failed: {error.reason or error}"
