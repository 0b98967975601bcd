"""Transport security towards databases: one block of settings, one context for every engine."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from gateway.config.addresses import is_loopback
from gateway.config.files import Stamp, stamp_of
from gateway.config.logins import TlsSettings
from gateway.errors import GatewayError
from gateway.net.tls import Sighting, modest, watch

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
    return host.startswith(("/", "@")) or is_loopback(host)


def context_of(settings: TlsSettings, host: str, sighting: Sighting | None = None) -> ssl.SSLContext | None:
    """The context for a source, the same until one of its files changes; None where TLS is off.

    Args:
        settings: the source's block.
        host: as dialled.
        sighting: where the server's certificate is remembered.

    Raises:
        TlsUnusable: a certificate, key or authority cannot be read.
    """
    mode = mode_of(settings, host)
    if mode == "disable":
        return None
    paths = (settings.ca or ssl.get_default_verify_paths().cafile, settings.certificate, settings.key)
    stamps = tuple(stamp_of(Path(path)) for path in paths if path is not None)
    # To read the system's authorities takes 45 ms, in which nothing else is served.
    if all(stamp is not None and stamp.is_old for stamp in stamps):
        return _kept(settings, mode, sighting, stamps)
    return new_context(settings, mode, sighting)


@lru_cache(maxsize=64)
def _kept(
    settings: TlsSettings, mode: Mode, sighting: Sighting | None, _: tuple[Stamp | None, ...], /
) -> ssl.SSLContext:
    return new_context(settings, mode, sighting)


def new_context(settings: TlsSettings, mode: Mode, sighting: Sighting | None = None) -> ssl.SSLContext:
    """A context of its own, for whoever changes it.

    Args:
        settings: the source's block; its mode is not looked at.
        mode: any but "disable".
        sighting: where the server's certificate is remembered.

    Raises:
        TlsUnusable: a certificate, key or authority cannot be read.
    """
    context = modest(_NamedContext(ssl.PROTOCOL_TLS_CLIENT))
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS_1_2)
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if mode == "require" else ssl.CERT_REQUIRED
    context.expected_name = settings.server_name
    if sighting is not None:
        watch(context, sighting)
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


_VERIFY: Final = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed and not the one in tls.ca",
    19: "it is not signed by an authority in tls.ca, or in the system's store where tls.ca is not set",
    20: "it is not signed by an authority in tls.ca, or in the system's store where tls.ca is not set",
    21: "it is not signed by an authority in tls.ca, or in the system's store where tls.ca is not set",
    23: "it has been revoked",
    62: "it is for another name than the host; correct the host, or set tls.server_name",
    64: "it is for another address than the host; correct the host, or set tls.server_name",
}
"""OpenSSL's X509_V_ERR numbers (x509_vfy.h)."""
_REASONS: Final = {
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server speaks no TLS as new as tls.min_version asks for",
    "UNSUPPORTED_PROTOCOL": "the server speaks no TLS as new as tls.min_version asks for",
    "WRONG_VERSION_NUMBER": "the server does not answer in TLS",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server shares no cipher, or asks for tls.certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server asks for a client certificate: set tls.certificate and tls.key",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust the authority that signed tls.certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the server refuses tls.certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the server says that tls.certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the server refuses tls.certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the server refuses the kind of tls.certificate",
}
"""OpenSSL's words for a handshake that failed."""
NOT_OFFERED: Final = "TLS: the server offers none; set it up there, or say tls.mode: disable on a network you trust"


def explain(error: ssl.SSLError) -> str:
    """Why a handshake failed, in the operator's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _VERIFY.get(error.verify_code, "it does not verify")
        return f"TLS: the server's certificate is refused: {reason} ({error.verify_message})"
    # An error that Python itself made up has no reason.
    reason = getattr(error, "reason", None) or str(error)
    return f"TLS: the handshake failed: {_REASONS.get(reason, reason)} ({reason})"
