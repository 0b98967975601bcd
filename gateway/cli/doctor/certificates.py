"""What a certificate says, for people: whose it is, by whom, and for how much longer."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509

_SOON: Final = timedelta(days=30)
_SHARE: Final = 3
"""A certificate made for days only is renewed when a third of its life is left, and no sooner."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate.

    Attributes:
        subject: whose, as RFC 4514 writes it.
        issuer: by whom.
        names: the host names and addresses that it is for.
        begins: when it becomes valid.
        ends: when it expires.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    begins: datetime
    ends: datetime

    @property
    def days(self) -> int:
        """Whole days until it expires; negative when it has."""
        return (self.ends - datetime.now(UTC)).days

    @property
    def is_ending(self) -> bool:
        """Whether it is time to renew it."""
        left = self.ends - datetime.now(UTC)
        return left < min(_SOON, (self.ends - self.begins) / _SHARE)

    def life(self) -> str:
        """Until when, in words."""
        day = f"{self.ends:%Y-%m-%d}"
        if self.begins > datetime.now(UTC):
            return f"valid only from {self.begins:%Y-%m-%d} on"
        left = self.ends - datetime.now(UTC)
        if left < timedelta(0):
            return f"expired on {day}, {f'{-left.days - 1} days ago' if left.days < -1 else 'within the last day'}"
        return f"expires on {day}, {f'in {left.days} days' if left.days else 'within a day'}"

    def facts(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "not_before": self.begins.isoformat(),
            "not_after": self.ends.isoformat(),
            "days_left": self.days,
        }


def read(der: bytes) -> Certificate:
    """A certificate in DER.

    Raises:
        ValueError: it is none.
    """
    return _certificate(x509.load_der_x509_certificate(der))


def read_file(path: Path) -> Certificate:
    """The first certificate of a PEM file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none.
    """
    return _certificate(x509.load_pem_x509_certificate(path.read_bytes()))


def _certificate(found: x509.Certificate) -> Certificate:
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [
            *extension.get_values_for_type(x509.DNSName),
            *map(str, extension.get_values_for_type(x509.IPAddress)),
        ]
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        names = []
    return Certificate(
        found.subject.rfc4514_string(),
        found.issuer.rfc4514_string(),
        tuple(names),
        found.not_valid_before_utc,
        found.not_valid_after_utc,
    )


def chain_of(tls: ssl.SSLObject) -> Sequence[Certificate]:
    """What the server sent, its own certificate first; without those that cannot be read."""
    # Public since Python 3.13 only; what it gives changed on the way.
    ask = getattr(tls, "get_unverified_chain", None) or getattr(tls, "_sslobj").get_unverified_chain  # noqa: B009
    sent = [each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in ask()]
    return [found for der in sent if (found := _readable(der)) is not None]


def _readable(der: bytes) -> Certificate | None:
    try:
        return read(der)
    except ValueError:  # OpenSSL reads some that this reader is too strict for
        return None
