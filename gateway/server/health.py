"""Liveness and readiness, for both listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.database.sources import Source
from gateway.server.snapshot import Snapshot


class Health:
    """Tells an orchestrator whether to keep the process and whether to send it traffic.

    Args:
        current: gives the snapshot in force.
    """

    def __init__(self, current: Callable[[], Snapshot]) -> None:
        self._current = current
        self.is_stopping = False

    async def live(self, _: web.BaseRequest) -> web.Response:
        """200 while the process serves at all."""
        return web.json_response({"status": "live"})

    async def ready(self, _: web.BaseRequest) -> web.Response:
        """200 when calls can be served, else 503; lists each issuer and source."""
        return self._report(lambda trouble: "up" if not trouble else "down")

    async def ready_in_detail(self, _: web.BaseRequest) -> web.Response:
        """The same with each source's trouble in the operators' words, for the admin listener only."""
        return self._report(lambda trouble: trouble or "up", lambda source: {"breaker": source.breaker})

    def _report(
        self, words: Callable[[str], str], more: Callable[[Source], Mapping[str, str]] = lambda _: {}
    ) -> web.Response:
        snapshot = self._current()
        is_ready = snapshot.is_ready and not self.is_stopping
        body: dict[str, Any] = {
            "status": "ready" if is_ready else "stopping" if self.is_stopping else "unready",
            # Addresses and reasons are for operators.
            "issuers": {
                name: told if told == "ready" else words(told) for name, told in snapshot.verifier.status().items()
            },
            "sources": {
                name: {
                    "status": words("" if source.is_up else source.trouble or "down"),
                    "required": source.required,
                    **more(source),
                }
                for name, source in snapshot.sources.items()
            },
        }
        if snapshot.audit.is_on:
            body["audit"] = words("; ".join(f"{sink}: {text}" for sink, text in snapshot.audit.troubles.items()))
        if snapshot.redis is not None:
            told = snapshot.redis.status()
            body["redis"] = words("" if told == "ready" else told)
        return web.json_response(
            body, status=200 if is_ready else 503, dumps=lambda value: orjson.dumps(value).decode()
        )
