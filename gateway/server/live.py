"""The configuration in force, and how the next one takes its place."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.config.loader import Configuration
from gateway.config.models import GatewaySettings
from gateway.config.restart import changes, pinned
from gateway.errors import GatewayError
from gateway.server.front import Front
from gateway.server.health import Health
from gateway.server.sessions import Sessions
from gateway.server.snapshot import Snapshot, open_snapshot
from gateway.server.watch import Watch

_log: Final = logging.getLogger("gateway.server")
SETTLING: Final = 10.0
"""Seconds that a new configuration has to reach what it names, before calls come to it."""
_POLL: Final = 0.02
_MARGIN: Final = 5.0


class NotReady(GatewayError):
    """A new configuration could not serve calls, while the running one can.

    Attributes:
        missing: the sources and issuers that were not reached.
    """

    def __init__(self, limit: float, troubles: Mapping[str, str]) -> None:
        self.missing = tuple(troubles)
        super().__init__(f"not ready within {limit:g} s: {dict(troubles)}")


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a reload changed.

    Attributes:
        before: the settings that were in force.
        after: those that are in force now.
        changes: the keys that differ in the files, without their values.
        waiting: those of them that take effect at the next start.
    """

    before: GatewaySettings
    after: GatewaySettings
    changes: tuple[str, ...]
    waiting: tuple[str, ...]


class Live:
    """Holds the front that new requests come to.

    Args:
        snapshot: the first one.
        local_url: how the listener is reached from this machine, without a path.
        tools_changed: told when callers may see other tools than before.
        watch: is told of every request.
        sessions: those of clients, which outlive configurations.

    Attributes:
        current: answers all requests from now on; the one thing that a reload swaps.
        health: of whatever is in force.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        local_url: str,
        tools_changed: Callable[[], None],
        watch: Watch,
        sessions: Sessions,
    ) -> None:
        self.watch = watch
        self._sessions = sessions
        self.health = Health(lambda: self.current.snapshot)
        self.current = Front(snapshot, local_url, self.health, watch, sessions)
        self._local_url = local_url
        self._tools_changed = tools_changed
        self._retiring: dict[asyncio.Task[None], Front] = {}
        self._turn = asyncio.Lock()

    @property
    def retiring(self) -> int:
        """Snapshots that are still there for calls that began with them."""
        return len(self._retiring)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request by the configuration in force now."""
        return await self.current.answer(request)

    async def replace(self, configuration: Configuration, settling: float | None = None) -> Replaced:
        """Serve a configuration from now on; what runs finishes on the one before.

        Args:
            configuration: the whole of it.
            settling: seconds it may take to reach what it names; `SETTLING` when absent.

        Raises:
            ConfigError: a tool cannot be built.
            NotReady: it could not serve calls yet, the running one can.
        """
        async with self._turn:
            before = self.current.snapshot
            wanted = configuration.settings
            settings, waiting = pinned(before.settings, wanted)
            replaced = Replaced(before.settings, settings, changes(before.settings, wanted), waiting)
            # The key of a Redis is not read again by whoever uses it: there, the same settings may mean another value.
            if settings == before.settings and settings.redis is None:
                return replaced
            snapshot = await open_snapshot(dataclasses.replace(configuration, settings=settings), before.audit, before)
            try:
                limit = SETTLING if settling is None else settling
                await _settle(snapshot, before, limit)
                if before.is_ready and not snapshot.is_ready:
                    raise NotReady(limit, snapshot.troubles)
                front = Front(snapshot, self._local_url, self.health, self.watch, self._sessions)
            except BaseException:
                await snapshot.close()
                raise
            shapes = _shapes(snapshot)
            self._swap(front)
        if _published(before.settings) != _published(settings) or _shapes(before) != shapes:
            self._tools_changed()
        return replaced

    def _swap(self, front: Front) -> None:
        retired, self.current = self.current, front
        self._sessions.configure(front.snapshot.settings.features)
        if _entrance(retired.snapshot.settings) != _entrance(front.snapshot.settings):
            self._sessions.end_streams()  # clients come back, and are judged by what is in force now
        front.snapshot.listening.announcements.serving = front.snapshot.parts
        task = asyncio.create_task(retired.retire(retired.snapshot.settings.server.call_timeout + _MARGIN))
        self._retiring[task] = retired
        task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._retiring.pop(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("an old configuration did not close cleanly", exc_info=error)

    def stop(self, grace: float) -> None:
        """Be unready from now on; what runs has `grace` seconds left."""
        self.health.is_stopping = True
        deadline = asyncio.get_running_loop().time() + grace
        self._sessions.stop(deadline)
        for front in (self.current, *self._retiring.values()):
            front.background.stop(deadline)

    def cut(self) -> None:
        """Let everything that runs be answered now."""
        for front in (self.current, *self._retiring.values()):
            front.background.cut()

    async def close(self) -> None:
        """Close everything; the listener accepts no more and has waited for what it was serving."""
        async with self._turn:
            await self._sessions.drain()
            await asyncio.gather(*self._retiring, self.current.close(), return_exceptions=True)


async def _settle(snapshot: Snapshot, before: Snapshot, limit: float) -> None:
    """Wait until databases and providers were reached, at most for `limit` seconds; not for what was down before."""
    known = snapshot.verifier is before.verifier
    loop = asyncio.get_running_loop()
    until = loop.time() + limit
    while not (snapshot.is_settled and (known or snapshot.verifier.is_ready)) and loop.time() < until:  # noqa: ASYNC110 - many parts, without an event of their own
        await asyncio.sleep(_POLL)


def _shapes(snapshot: Snapshot) -> dict[str, dict[str, object]]:
    """What is known of the tools' results, which `tools/list` tells."""
    return {name: dict(source.shapes) for name, source in snapshot.sources.items()}


def _entrance(settings: GatewaySettings) -> tuple[object, ...]:
    """What decides who comes in, and where."""
    return settings.auth, settings.server, settings.features, tuple(settings.toolsets)


def _published(settings: GatewaySettings) -> tuple[object, ...]:
    """What decides which tools a caller sees, and how they look."""
    off = frozenset(name for name, source in settings.sources.items() if not source.enabled)
    return settings.tools, settings.toolsets, settings.auth, settings.server.numbers, off
