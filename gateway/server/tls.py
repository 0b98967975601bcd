"""The listener's own TLS: one certificate at a time, exchanged while the gateway runs."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from gateway.config.server import ListenerTlsSettings
from gateway.errors import GatewayError
from gateway.net.tls import modest

EXPIRES_SOON: Final = timedelta(days=14)
"""How long before its end a certificate is warned about."""
POLL: Final = 5.0
"""Seconds between looks at the files."""
_WARN_EVERY: Final = timedelta(days=1)
_MAX_FILE: Final = 1 << 20
# RFC 9325 section 4.2: forward secrecy and authenticated encryption only; TLS 1.3 has nothing else.
_CIPHERS_1_2: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_log: Final = logging.getLogger("gateway.server")


class CertificateError(GatewayError):
    """A file of `server.tls` cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class _Files:
    """What the files of one moment hold."""

    certificate: bytes
    key: bytes
    client_ca: bytes

    @property
    def digest(self) -> bytes:
        parts = (self.certificate, self.key, self.client_ca)
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


class Certificates:
    """The certificate in force, and how it is replaced.

    Attributes:
        context: for the next handshake; connections that stand keep theirs.
        not_after: when the certificate expires.

    Raises:
        CertificateError: the files cannot be used.
    """

    def __init__(self, settings: ListenerTlsSettings) -> None:
        self._settings = settings
        files = _read(settings)
        self.context, self.not_after = _load(settings, files)
        self._digest = files.digest
        self._failed = b""
        self._is_failure_told = False
        self._next_warning = datetime.min.replace(tzinfo=UTC)
        self._warn_of_expiry()

    async def watch(self) -> None:
        """Look after the files until cancelled."""
        while True:
            await asyncio.sleep(POLL)
            await self.refresh()

    async def refresh(self) -> None:
        """Take new files if there are any; what cannot be used is said once, and the old ones stay."""
        try:
            files = await asyncio.to_thread(_read, self._settings)
            if files.digest != self._digest:
                self.context, self.not_after = await asyncio.to_thread(_load, self._settings, files)
                self._digest = files.digest
                self._next_warning = datetime.min.replace(tzinfo=UTC)
                _log.info("certificate replaced", extra={"not_after": self.not_after.isoformat()})
            self._failed, self._is_failure_told = b"", False
        except CertificateError as error:
            self._tell(error)
        self._warn_of_expiry()

    def _tell(self, error: CertificateError) -> None:
        """Log a failure when it is seen twice: a certificate and its key are often replaced one after the other."""
        mark = hashlib.sha256(error.message.encode()).digest()
        if mark != self._failed:
            self._failed, self._is_failure_told = mark, False
        elif not self._is_failure_told:
            self._is_failure_told = True
            _log.error("new certificate refused; the old one stays", extra={"detail": error.message})

    def _warn_of_expiry(self) -> None:
        now = datetime.now(UTC)
        if self.not_after - now < EXPIRES_SOON and now >= self._next_warning:
            self._next_warning = now + _WARN_EVERY
            event = "certificate has expired" if self.not_after <= now else "certificate expires soon"
            _log.warning(event, extra={"not_after": self.not_after.isoformat()})


def _read(settings: ListenerTlsSettings) -> _Files:
    paths = (settings.certificate, settings.key, settings.client_ca)
    return _Files(*(_content(path) if path is not None else b"" for path in paths))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_FILE + 1)
    except OSError as error:
        raise CertificateError(f"server.tls: cannot read {path}: {error.strerror}") from error
    if len(content) > _MAX_FILE:
        raise CertificateError(f"server.tls: {path} is larger than {_MAX_FILE >> 20} MiB")
    return content


def _load(settings: ListenerTlsSettings, files: _Files) -> tuple[ssl.SSLContext, datetime]:
    """A context and the end of the certificate."""
    context = modest(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS_1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        leaf = x509.load_pem_x509_certificate(files.certificate)
    except ValueError as error:
        raise CertificateError(f"server.tls.certificate: {settings.certificate} holds no certificate in PEM") from error
    password = settings.key_password
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(
            settings.certificate, settings.key, lambda: password.get_secret_value() if password is not None else ""
        )
    except (OSError, ValueError) as error:
        raise CertificateError(_pair_trouble(settings, error)) from error
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(cadata=files.client_ca.decode("ascii"))
        except (OSError, ValueError) as error:
            message = f"server.tls.client_ca: {settings.client_ca} holds no certificates in PEM"
            raise CertificateError(message) from error
        is_required = settings.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    return context, leaf.not_valid_after_utc


def _pair_trouble(settings: ListenerTlsSettings, error: Exception) -> str:
    """What is wrong with a certificate and its key; OpenSSL tells it in its own words only."""
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"server.tls.key: {settings.key} is not the key of {settings.certificate}"
    if settings.key_password is None:
        return f"server.tls.key: {settings.key} holds no usable key in PEM, or needs server.tls.key_password"
    return f"server.tls.key: {settings.key} holds no key in PEM that server.tls.key_password opens"
