"""What `/metrics` shows of the house: numbers that the rooms keep anyway, read when somebody asks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web

from gateway.auth.base import Verifier
from gateway.config.models import GatewaySettings
from gateway.database.sources import Source
from gateway.resilience.breaker import State
from gateway.server.expiry import Certificates
from gateway.server.routes import Handler
from gateway.server.snapshot import Snapshot
from gateway.telemetry import instruments as known
from gateway.telemetry.audit.configuration import settings_hash
from gateway.telemetry.audit.recorder import Audit
from gateway.telemetry.instruments import Reading
from gateway.telemetry.metrics import Metrics, exposition

_HASH: Final = 16


class House:
    """Reads a gateway's rooms.

    Args:
        current: gives the snapshot in force.

    Attributes:
        reloads: configurations loaded after the first: "ok", "failed"; whoever reloads counts here.
    """

    def __init__(self, current: Callable[[], Snapshot]) -> None:
        self._current = current
        self._certificates = Certificates()
        self._hashed: tuple[GatewaySettings | None, str] = (None, "")
        self.reloads: Counter[str] = Counter({"ok": 0, "failed": 0})

    def _hash(self, snapshot: Snapshot) -> str:
        if self._hashed[0] is not snapshot.settings:
            self._hashed = (snapshot.settings, settings_hash(snapshot.settings)[:_HASH])
        return self._hashed[1]

    def read(self) -> Iterator[Reading]:
        """The numbers now."""
        snapshot = self._current()
        yield Reading(known.READY, (), float(snapshot.is_ready))
        yield Reading(known.TOOLS, (), len(snapshot.catalog))
        yield Reading(known.CONFIGURATION, (self._hash(snapshot),), 1)
        for result, number in self.reloads.items():
            yield Reading(known.RELOADS, (result,), number)
        yield from _audit(snapshot.audit)
        yield Reading(known.RATE_FALLBACKS, (), snapshot.admission.fallbacks)
        yield Reading(known.CLIENTS, (), snapshot.admission.remembered)
        yield Reading(known.LISTENERS, (), len(snapshot.listening))
        if snapshot.redis is not None:
            yield Reading(known.REDIS_UP, (), float(snapshot.redis.is_up))
        for source in snapshot.sources.values():
            yield from _source(source)
        yield from _verifier(snapshot.verifier)
        for (role, name), seconds in self._certificates.left(snapshot, time.time()).items():
            yield Reading(known.CERTIFICATE, (role, name), seconds)


def _audit(audit: Audit) -> Iterator[Reading]:
    yield Reading(known.AUDIT_REFUSED, (), audit.refused)
    for name, sink in audit.sinks.items():
        for result, number in (("written", sink.written), ("failed", sink.failed), ("lost", sink.lost)):
            yield Reading(known.AUDIT, (name, result), number)
        yield Reading(known.AUDIT_UP, (name,), float(sink.is_up))
        yield Reading(known.AUDIT_PENDING, (name,), sink.pending)


def _verifier(verifier: Verifier) -> Iterator[Reading]:
    counters = verifier.counters
    misses = counters.misses - counters.shared_hits
    for result, number in (("hit", counters.hits), ("shared_hit", counters.shared_hits), ("miss", misses)):
        yield Reading(known.LOOKUPS, (result,), number)
    yield Reading(known.VERIFICATIONS, ("ok",), counters.verified)
    for reason, number in counters.refusals.items():
        yield Reading(known.VERIFICATIONS, (reason,), number)
    yield Reading(known.VERIFICATIONS, ("unavailable",), counters.unavailable)
    yield Reading(known.INTROSPECTIONS, (), counters.introspections)
    for issuer, status in verifier.status().items():
        yield Reading(known.KEYS_READY, (issuer,), float(status == "ready"))
    for (issuer, result), number in verifier.key_fetches().items():
        yield Reading(known.KEY_FETCHES, (issuer, result), number)


def _source(source: Source) -> Iterator[Reading]:
    name, stats, times = source.name, source.stats, source.times
    yield Reading(known.SOURCE_UP, (name,), float(source.is_up))
    for state in State:
        yield Reading(known.BREAKER, (name, state.value), float(source.breaker == state.value))
    for label, number in (("idle", stats.idle), ("used", stats.active), ("opening", stats.opening)):
        yield Reading(known.POOL_COUNT, (name, label), number)
    yield Reading(known.POOL_MAX, (name,), stats.max)
    yield Reading(known.POOL_MIN, (name,), source.settings.pool.min)
    yield Reading(known.POOL_PENDING, (name,), stats.waiting)
    yield Reading(known.POOL_TIMEOUTS, (name,), times.timeouts)
    yield Reading(known.POOL_WAIT, (name,), times.wait)
    yield Reading(known.POOL_CREATE, (name,), times.create)
    yield Reading(known.POOL_USE, (name,), times.use)


def metrics_page(metrics: Metrics) -> Handler:
    """What answers `GET /metrics`."""

    async def answer(request: web.BaseRequest) -> web.Response:
        readings = metrics.read()  # here, where they change; writing many down takes milliseconds
        body, media_type = await asyncio.to_thread(exposition, readings, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    return answer
