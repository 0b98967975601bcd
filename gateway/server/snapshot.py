"""What a call works with: verifier, sources and catalogue, immutable together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from gateway.auth.base import Verifier
from gateway.auth.verifier import open_verifier
from gateway.config.loader import Configuration
from gateway.config.models import GatewaySettings
from gateway.config.sources import AnySource
from gateway.database.engine import Engine
from gateway.database.sources import Source, open_pools
from gateway.net.redis import Redis, open_redis
from gateway.server.admission import Admission
from gateway.server.audiences import accepting
from gateway.server.events import Announcements
from gateway.server.listen import Listening
from gateway.server.parts import Parts
from gateway.telemetry.audit.recorder import Audit
from gateway.tools.catalog import Catalog, build, toolsets
from gateway.tools.loading import engines_of
from gateway.tools.scopes import ScopeRules, scope_rules


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One configuration, alive. A call holds the snapshot it started with until it ends."""

    settings: GatewaySettings
    verifier: Verifier
    catalog: Catalog
    toolsets: Mapping[str, Catalog]
    scopes: ScopeRules
    sources: Mapping[str, Source]
    admission: Admission
    listening: Listening
    audit: Audit
    redis: Redis | None
    parts: Parts

    @property
    def is_ready(self) -> bool:
        """Whether calls can be served: keys were loaded, one source is up and every required one is, the audit too."""
        sources = self.sources.values()
        any_up = not sources or any(source.is_up for source in sources)
        all_up = all(source.is_up for source in sources if source.required)
        return self.verifier.is_ready and any_up and all_up and not self.audit.is_refusing

    @property
    def is_settled(self) -> bool:
        """Whether every database has judged its statements, but for those that were down already."""
        return all(source.is_settled for source in self.sources.values())

    @property
    def troubles(self) -> dict[str, str]:
        """What is not ready, issuers, sources and the audit, in the operators' words."""
        issuers = {name: status for name, status in self.verifier.status().items() if status != "ready"}
        sources = {name: source.trouble for name, source in self.sources.items() if not source.is_up}
        return issuers | sources | dict(self.audit.troubles)

    async def close(self) -> None:
        """Let go of everything; what no other snapshot uses is closed, bounded."""
        await _stop(self.sources.values())
        await self.parts.close()


async def open_snapshot(configuration: Configuration, audit: Audit, before: Snapshot | None = None) -> Snapshot:
    """Build everything a configuration names; databases and providers are reached in the background.

    Args:
        configuration: the settings, and where they are written.
        audit: outlives the snapshot.
        before: the snapshot whose parts are taken over where their settings are the same.

    Raises:
        ConfigError: a tool cannot be built, or a package is missing.
    """
    # In a thread: calls go on while a thousand tools are compiled.
    engines, catalog = await asyncio.to_thread(_plan, configuration)
    parts = Parts(before.parts if before is not None else None)
    sources: dict[str, Source] = {}
    listening = before.listening if before is not None else Listening(Announcements(parts))
    learned = partial(listening.announcements.learned, parts)
    settings = configuration.settings
    try:
        redis, verifier, admission = await _open_services(settings, parts)
        for name, each in settings.sources.items():
            if each.enabled:
                known = before.sources.get(name) if before is not None else None
                opened = partial(open_pools, name, each, engines[name])
                pools = await parts.take("source", _of_pools(each), opened, name)
                statements = catalog.statements().get(name, ())
                is_kept = known is not None and known.pools is pools
                sources[name] = Source(name, each, pools, statements, known if is_kept else None, learned)
                sources[name].start()
        groups, scopes = toolsets(catalog, settings), scope_rules(settings)
    except BaseException:
        await _stop(sources.values())
        await parts.close()
        raise
    parts.settled()
    everything = MappingProxyType(sources)
    return Snapshot(settings, verifier, catalog, groups, scopes, everything, admission, listening, audit, redis, parts)


def _plan(configuration: Configuration) -> tuple[Mapping[str, Engine], Catalog]:
    engines = engines_of(configuration)
    return engines, build(configuration, engines)


async def _open_services(settings: GatewaySettings, parts: Parts) -> tuple[Redis | None, Verifier, Admission]:
    """Whom all calls need, whatever their source."""
    # The key is read once, when the part opens; other secrets whenever they are used.
    place = (settings.redis, settings.redis.key.get_secret_value()) if settings.redis else None
    redis = await parts.take("redis", place, partial(open_redis, settings.redis)) if settings.redis else None
    auth = accepting(settings)
    verifier = await parts.take("verifier", (auth, place), partial(open_verifier, auth, redis=redis))
    is_shared = settings.limits.backend == "redis"
    counting = (settings.limits, place if is_shared else None)
    fresh = nullcontext(Admission(settings.limits, redis if is_shared else None))
    return redis, verifier, await parts.take("admission", counting, lambda: fresh)


def _of_pools(source: AnySource) -> AnySource:
    """What the connections depend on: all but what only readiness looks at."""
    return source.model_copy(update={"required": False})


async def _stop(sources: Iterable[Source]) -> None:
    await asyncio.gather(*(source.stop() for source in sources))
