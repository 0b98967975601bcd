"""What servers show in TLS handshakes, remembered for whoever watches over certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from cryptography import x509


class Sighting:
    """The certificate that a server showed last."""

    def __init__(self) -> None:
        self._shown: bytes | None = None
        self._expires_at: float | None = None

    def see(self, shown: bytes | None) -> None:
        """Remember a certificate (DER)."""
        if shown != self._shown:
            self._shown, self._expires_at = shown, None

    @property
    def expires_at(self) -> float | None:
        """When it expires, in Unix time; None before any was seen, and for one that cannot be read."""
        if self._expires_at is None and self._shown is not None:
            try:
                self._expires_at = x509.load_der_x509_certificate(self._shown).not_valid_after_utc.timestamp()
            except ValueError:  # OpenSSL takes some that this parser does not
                self._shown = None
        return self._expires_at


def first_end(sightings: Iterable[Sighting]) -> float | None:
    """When the first of several certificates expires, in Unix time; None while none was seen."""
    return min((ends for each in sightings if (ends := each.expires_at) is not None), default=None)


def watch(context: ssl.SSLContext, sighting: Sighting) -> None:
    """Remember what servers show in a context's handshakes, those that asyncio makes in memory."""

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            sighting.see(self.getpeercert(binary_form=True))

    context.sslobject_class = Watched
