"""When the certificates in use expire: those in files, and those that servers and identity providers showed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path

from cryptography import x509

from gateway.config.models import GatewaySettings
from gateway.config.sources import WALLET_FILE, OracleSettings
from gateway.server.snapshot import Snapshot


class Certificates:
    """Looks into certificate files, and again when they change."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[float, float | None]] = {}

    def left(self, snapshot: Snapshot, now: float) -> Mapping[tuple[str, str], float]:
        """Seconds until the first certificate of each role and name expires; negative afterwards.

        Args:
            snapshot: its settings name the files; its sources, verifier and Redis saw the servers.
            now: Unix time.
        """
        found: dict[tuple[str, str], float] = {}
        files = ((role, name, self._end(path)) for role, name, path in _files(snapshot.settings))
        for role, name, ends in (*files, *_shown(snapshot)):
            if ends is not None:
                # A source may be called as the gateway calls its own: "redis", "server".
                found[role, name] = min(ends - now, found.get((role, name), inf))
        return found

    def _end(self, path: Path) -> float | None:
        """When the first certificate of a file expires; None where there is none to be read."""
        try:
            changed = path.stat().st_mtime
            if path in self._known and self._known[path][0] == changed:
                return self._known[path][1]
            certificates = x509.load_pem_x509_certificates(path.read_bytes())
            ends = min(each.not_valid_after_utc.timestamp() for each in certificates)
        except (OSError, ValueError):
            return None
        self._known[path] = (changed, ends)
        return ends


def _shown(snapshot: Snapshot) -> Iterator[tuple[str, str, float | None]]:
    for name, source in snapshot.sources.items():
        yield "server", name, source.certificate_expires_at
        yield "token", name, source.token_certificate_expires_at
    for name, ends in snapshot.verifier.certificates().items():
        yield "issuer", name, ends
    if snapshot.redis is not None:
        yield "server", "redis", snapshot.redis.certificate_expires_at


def _files(settings: GatewaySettings) -> Iterator[tuple[str, str, Path]]:
    if (listener := settings.server.tls) is not None:
        yield "listener", "server", listener.certificate
        if listener.client_ca is not None:
            yield "ca", "server", listener.client_ca
    if settings.redis is not None and settings.redis.ca is not None:
        yield "ca", "redis", settings.redis.ca
    for name, source in settings.sources.items():
        if isinstance(source, OracleSettings) and source.wallet is not None:
            yield "client", name, source.wallet / WALLET_FILE
        block = getattr(source, "tls", None)
        if block is not None:
            if block.certificate is not None:
                yield "client", name, block.certificate
            if block.ca is not None:
                yield "ca", name, block.ca
