"""Transport security towards Oracle: a wallet's files, or the `tls:` block, as one context for the driver."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from gateway.config.sources import WALLET_FILE, OracleSettings
from gateway.database import tls
from gateway.database.tls import TlsUnusable
from gateway.net.tls import Sighting

_OTHERS: Final = ("ewallet.p12", "cwallet.sso")
_OTHERS_READ: Final = 0o004
_SOON: Final = timedelta(days=30)
_KEY: Final = b"PRIVATE KEY-----"
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"


def context_of(settings: OracleSettings, host: str, sighting: Sighting | None = None) -> ssl.SSLContext | None:
    """The context for a source, which remembers what the server showed; None where TLS is off.

    Raises:
        TlsUnusable: a file of the wallet or of `tls:` cannot be used.
    """
    mode = mode_of(settings, host)
    if mode == "disable":
        return None
    context = tls.new_context(settings.tls, mode, sighting)
    context.check_hostname = False  # the driver matches names itself, as Oracle's own clients do
    if settings.wallet is not None:
        load(
            context, settings.wallet, settings.wallet_password.get_secret_value() if settings.wallet_password else None
        )
    return context


def mode_of(settings: OracleSettings, host: str) -> tls.Mode:
    """The mode in force; a wallet asks for TLS on loopback too."""
    if settings.tls.mode is None and settings.wallet is not None:
        return "verify-full"
    return tls.mode_of(settings.tls, host)


def load(context: ssl.SSLContext, folder: Path, password: str | None) -> None:
    """Trust what a wallet trusts, and show its own certificate where it has one.

    Raises:
        TlsUnusable: naming the file and what to do.
    """
    file = folder / WALLET_FILE
    data = _read(folder)
    if _CERTIFICATE not in data:
        raise TlsUnusable(f"wallet: {file} holds no certificate; it must be in PEM format")
    try:
        context.load_verify_locations(cadata=_certificates(data))
        if _KEY in data:
            context.load_cert_chain(file, password=lambda: password or "")
    except (OSError, ValueError) as error:
        is_locked = b"ENCRYPTED" in data
        locked = "; its private key is encrypted: check wallet_password" if is_locked else ""
        raise TlsUnusable(f"wallet: cannot use {file}: {error}{locked}") from error


def certificates_of(folder: Path) -> tuple[x509.Certificate, ...]:
    """Every certificate of a wallet: the gateway's own, and the authorities that it trusts.

    Raises:
        TlsUnusable: there is no wallet that could be read.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(_certificates(_read(folder)).encode()))
    except ValueError as error:
        raise TlsUnusable(f"wallet: {folder / WALLET_FILE} holds no certificate; it must be in PEM format") from error


def warnings_of(folder: Path) -> tuple[str, ...]:
    """What will become of a wallet, or may: certificates that end within 30 days, a key that anybody may read.

    Raises:
        TlsUnusable: there is no wallet that could be read.
    """
    now = datetime.now(UTC)
    told = []
    for each in certificates_of(folder):
        if each.not_valid_after_utc - now < _SOON:
            verb = "expired" if each.not_valid_after_utc < now else "expires"
            told.append(f"{each.subject.rfc4514_string()} {verb} on {each.not_valid_after_utc:%Y-%m-%d}")
    data, mode = _read(folder), (folder / WALLET_FILE).stat().st_mode & 0o777
    if mode & _OTHERS_READ and _KEY in data and b"ENCRYPTED" not in data:
        told.append(f"its private key may be read by every user of this machine (file mode {mode:o}); give it mode 400")
    return tuple(told)


def _certificates(data: bytes) -> str:
    """The certificates alone: wallets also hold keys, and lines of attributes."""
    parts = data.decode("ascii", "replace").split("-----BEGIN CERTIFICATE-----")[1:]
    ends = (part.partition("-----END CERTIFICATE-----")[0] for part in parts)
    return "".join(f"-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----\n" for body in ends)


def _read(folder: Path) -> bytes:
    file = folder / WALLET_FILE
    try:
        if not folder.is_dir():
            is_file = "is a file; give the folder that holds it" if folder.exists() else "does not exist"
            raise TlsUnusable(f"wallet: {folder} {is_file}")
        return file.read_bytes()
    except FileNotFoundError:
        raise TlsUnusable(f"wallet: {file} is missing; {_advice(folder)}") from None
    except PermissionError:
        raise TlsUnusable(f"wallet: {_locked(folder, file)}") from None
    except OSError as error:
        raise TlsUnusable(f"wallet: cannot read {file}: {error.strerror}") from error


def _locked(folder: Path, file: Path) -> str:
    """Which of folder and file this process may not read."""
    try:
        mode = file.stat().st_mode & 0o777
    except PermissionError:
        return (
            f"the folder {folder} may not be entered by this process (uid {os.geteuid()}); give it, and every folder"
            " above, mode 711 or that user"
        )
    return (
        f"{file} may not be read by this process (uid {os.geteuid()}, file mode {mode:o});"
        " give it to that user with mode 400"
    )


def _advice(folder: Path) -> str:
    others = [name for name in _OTHERS if (folder / name).exists()]
    if others:
        return (
            f"{' and '.join(others)} there are for Oracle's own client libraries; the gateway needs the same in PEM:"
            " openssl pkcs12 -in ewallet.p12 -out ewallet.pem"
        )
    inside = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    return f"the folder holds {inside}"
