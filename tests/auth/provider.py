"""The development provider with faults that real providers have, over real HTTP."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any

from aiohttp import web

from gateway.auth.base import Verifier
from gateway.auth.verifier import TokenVerifier
from gateway.config.auth import AuthSettings, IssuerSettings, VerdictCacheSettings
from gateway.config.introspection import IntrospectionSettings
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
        self.known: dict[str, dict[str, Any]] = {}
        self.questions: list[dict[str, str]] = []
        self.at_once = 0
        self.most_at_once = 0

    def break_all(self, answer: Answer) -> None:
        for path in ("/jwks", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"):
            self.faults[path] = answer

    def application(self) -> web.Application:
        app = super().application()
        app.router.add_post("/introspect", self._introspect)
        app.middlewares.append(self._trouble())
        return app

    @property
    def introspection_url(self) -> str:
        return f"{self.issuer}/introspect"

    def hand_out(self, token: str, **changes: Any) -> str:
        """Issue an opaque token; a change to `...` takes the claim out of what is said of it."""
        now = int(time.time())
        good = {"active": True, "iss": self.issuer, "sub": "agent", "client_id": "agent", "aud": AUDIENCE}
        good |= {"exp": now + 3600, "iat": now, "scope": "a b", "token_type": "Bearer"}
        self.known[token] = {name: value for name, value in (good | changes).items() if value is not ...}
        return token

    async def _introspect(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.questions.append(form | {"authorization": request.headers.get("Authorization", "")})
        return web.json_response(self.known.get(form["token"], {"active": False}))

    def _trouble(self) -> Any:
        @web.middleware
        async def trouble(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.requests[request.path] += 1
            self.asked.set()
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                await self.flowing.wait()
            finally:
                self.at_once -= 1
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


def asking_settings(
    *providers: FaultyProvider, cache: dict[str, Any] | None = None, **introspection: Any
) -> AuthSettings:
    """Issuers that are asked about tokens."""
    asked = [
        IntrospectionSettings.model_validate(
            {"client_id": "gw", "client_secret": "s3cret", "endpoint": each.introspection_url, **introspection}
        )
        for each in providers
    ]
    return AuthSettings(
        issuers=tuple(
            IssuerSettings(issuer=each.issuer, audiences=(AUDIENCE,), introspection=one)
            for each, one in zip(providers, asked, strict=True)
        ),
        cache=VerdictCacheSettings.model_validate(cache or {}),
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
