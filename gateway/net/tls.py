"""TLS as event loops make it, in memory: reads of a modest size, and what servers show in handshakes remembered."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from cryptography import x509

RECORD: Final = 16_384
"""Bytes that one record carries at most (RFC 8446 section 5.1), and one read of OpenSSL returns at most."""
Context = TypeVar("Context", bound=ssl.SSLContext)


class Modest(ssl.SSLObject):
    """One end of a connection, for whose reads no more memory is set aside than a record fills.

    asyncio and uvloop ask for 256 KB each time. Python takes them from the heap before OpenSSL answers with the few
    hundred bytes that have come, and gives back the rest: holes that small things then settle in, all over the heap.
    """

    def read(self, size: int = 1024, buffer: Any = None) -> bytes:
        """What the next record holds, or as much of it as is asked for."""
        if buffer is None and size > RECORD:
            size = RECORD  # min() would take as long as all else here
        return super().read(size, buffer)


def modest(context: Context) -> Context:
    """The context, whose connections read modestly."""
    context.sslobject_class = Modest
    return context


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
    """Remember what servers show in a context's handshakes, those that event loops make in memory; make it modest."""

    class Watched(Modest):
        def do_handshake(self) -> None:
            super().do_handshake()
            sighting.see(self.getpeercert(binary_form=True))

    context.sslobject_class = Watched
