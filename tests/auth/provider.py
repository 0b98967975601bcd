"""The development provider with faults that real providers have, over real HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any

from aiohttp import web

from gateway.auth.base import Verifier
from gateway.auth.verifier import TokenVerifier
from gateway.config.auth import AuthSettings, IssuerSettings, VerdictCacheSettings
from gateway.demo.identity import IdentityProvider
from tests.auth.tokens import AUDIENCE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Callable[[], web.StreamResponse]


def answers(body: str | bytes, status: int = 200, content_type: str = "application/json", **headers: str) -> Answer:
    data = body.encode() if isinstance(body, str) else body
    return lambda: web.Response(body=data, status=status, content_type=content_type, headers=headers)


class FaultyProvider(IdentityProvider):
    """Counts requests by path, answers chosen paths with a fault, and stalls while told to."""

    def __init__(self) -> None:
        super().__init__({"agent": ("s3cret", ("a", "b"))}, AUDIENCE)
        self.requests: Counter[str] = Counter()
        self.faults: dict[str, Answer] = {}
        self.extra_keys: list[Any] = []
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.asked = asyncio.Event()

    def break_all(self, answer: Answer) -> None:
        for path in ("/jwks", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"):
            self.faults[path] = answer

    def application(self) -> web.Application:
        app = super().application()
        app.middlewares.append(self._trouble())
        return app

    def _trouble(self) -> Any:
        @web.middleware
        async def trouble(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.requests[request.path] += 1
            self.asked.set()
            await self.flowing.wait()
            fault = self.faults.get(request.path)
            return fault() if fault else await handler(request)

        return trouble

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flowing.set()
        await super().__aexit__(kind, error, trace)


class Clock:
    """A clock that moves when told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def auth_settings(issuers: Iterable[str], *, jwks_uri: str | None = None, **cache: Any) -> AuthSettings:
    return AuthSettings(
        issuers=tuple(IssuerSettings(issuer=name, audiences=(AUDIENCE,), jwks_uri=jwks_uri) for name in issuers),
        cache=VerdictCacheSettings.model_validate(cache),
    )


async def until(is_so: Callable[[], bool], limit: float = 10.0) -> None:
    """Wait for a condition that something else brings about."""
    async with asyncio.timeout(limit):
        while not is_so():  # noqa: ASYNC110 - conditions of many kinds, none with an event
            await asyncio.sleep(0.005)


async def until_ready(verifier: Verifier) -> TokenVerifier:
    await until(lambda: verifier.is_ready)
    assert isinstance(verifier, TokenVerifier)
    return verifier
