"""What a call works with: verifier, sources and catalogue, immutable together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gateway.auth.base import Verifier
from gateway.auth.verifier import open_verifier
from gateway.config.loader import Configuration
from gateway.config.models import GatewaySettings
from gateway.database.sources import Source, open_sources
from gateway.net.redis import Redis, open_redis
from gateway.server.audiences import accepting
from gateway.server.events import Announcements
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
    audit: Audit
    redis: Redis | None = None

    @property
    def is_ready(self) -> bool:
        """Whether calls can be served: keys were loaded, one source is up and every required one is, the audit too."""
        sources = self.sources.values()
        any_up = not sources or any(source.is_up for source in sources)
        all_up = all(source.is_up for source in sources if source.required)
        return self.verifier.is_ready and any_up and all_up and not self.audit.is_refusing


@asynccontextmanager
async def open_snapshot(
    configuration: Configuration, audit: Audit, announcements: Announcements
) -> AsyncIterator[Snapshot]:
    """Build everything a configuration names; databases and providers are reached in the background.

    Args:
        configuration: what to serve.
        audit: outlives the snapshot.
        announcements: outlives it, too; told when a database changed what `tools/list` answers.

    Raises:
        ConfigError: a tool cannot be built, or a package is missing.
    """
    settings = configuration.settings
    engines = engines_of(configuration)
    catalog = build(configuration, engines)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings.redis)) if settings.redis else None
        verifier = await stack.enter_async_context(open_verifier(accepting(settings), redis=redis))
        sources = await stack.enter_async_context(
            open_sources(settings, engines, catalog.statements(), announcements.announce_tools_changed)
        )
        groups, scopes = toolsets(catalog, settings), scope_rules(settings)
        yield Snapshot(settings, verifier, catalog, groups, scopes, sources, audit, redis)
