"""The paper's token table: what a cache of verdicts saves, by the gateway's own verifier on a clock that runs fast."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from gateway.auth.base import Verifier
from gateway.auth.verifier import open_verifier
from gateway.config.auth import AuthSettings
from gateway.demo.identity import IdentityProvider
from tests.bench.figures import Table
from tests.bench.identity import AUDIENCE, CLIENT, SCOPE, SECRET
from tests.bench.rounds import Pace, say
from tests.bench.world import World
from tests.bench.wrk import BadAnswers

RATE: Final = 150.0
CLIENTS: Final = 2250
"""As many as make the paper's 5-minute row: 7.5 verdicts a second, one for each client in 300 s."""
HOUR: Final = 3600.0
COUNTS: Final = (10, 1_000, 10_000, 100_000)
_RENEWED_BEFORE: Final = 60.0
STRATEGIES: Final = (
    ("no cache", "0s", ("280", "0 %", "150")),
    ("5-minute cache", "5m", ("8", "95 %", "7.5")),
    ("55-minute cache", "55m", ("6", "97 %", "4.5")),
)
"""Name, age, and what the paper says: milliseconds, hit rate, requests a second at the provider."""
FAR: Final = 0.28
"""Seconds that the paper's provider takes."""
_FEW: Final = 500


class AskedIdentity(IdentityProvider):
    """The development provider with introspection (RFC 7662) that takes its time and counts."""

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__({CLIENT: (SECRET, (SCOPE,))}, AUDIENCE)
        self.delay = delay
        self.asked = 0

    def application(self) -> web.Application:
        app = super().application()
        app.router.add_post("/introspect", self._introspect)
        return app

    async def _introspect(self, request: web.Request) -> web.Response:
        self.asked += 1
        form = await request.post()
        await asyncio.sleep(self.delay)
        claims = jwt.decode(str(form["token"]), options={"verify_signature": False})
        return web.json_response({"active": True, **claims})

    def settings(self, cache: str, entries: int, *, is_asked: bool) -> AuthSettings:
        """How a verifier trusts this provider; asked about each token, or only for its keys."""
        issuer: dict[str, Any] = {"issuer": self.issuer, "audiences": [AUDIENCE]}
        if is_asked:
            login = {"endpoint": f"{self.issuer}/introspect", "client_id": "gateway", "client_secret": "secret"}
            issuer["introspection"] = {**login, "required": True, "max_age": cache}
        document = {"issuers": [issuer], "cache": {"max_age": cache, "max_entries": entries}}
        return AuthSettings.model_validate(document, strict=False)


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of requests at the verifier.

    Attributes:
        hits: microseconds of each verdict that was remembered.
        misses: microseconds of each that was made.
        asked: requests in that hour.
        provider: how many of them asked the provider.
    """

    hits: Sequence[float]
    misses: Sequence[float]
    asked: int
    provider: int

    @property
    def hit_rate(self) -> float:
        return len(self.hits) / self.asked


class Wallet:
    """One client's token, renewed before it expires."""

    def __init__(self, provider: IdentityProvider, born: float) -> None:
        self._provider = provider
        self._until = born
        self._token = ""

    def token(self, now: float) -> str:
        if now >= self._until - _RENEWED_BEFORE:
            self._token = self._provider.issue(CLIENT, claims={"iat": int(now), "exp": int(now + HOUR)})
            self._until = now + HOUR
        return self._token


async def hour(cache: str, clients: int, requests: int, *, is_asked: bool = False) -> Hour:
    """One hour of requests from clients at random, each of which has come once before."""
    now = time.time()
    chance = random.Random(7)
    async with AskedIdentity() as provider:
        settings = provider.settings(cache, 2 * clients, is_asked=is_asked)
        async with open_verifier(settings, clock=lambda: now) as verifier:
            await _readiness(verifier)
            wallets = [Wallet(provider, now) for _ in range(clients)]
            for wallet in wallets:
                await verifier.verify(wallet.token(now))
            hits, misses, before = list[float](), list[float](), provider.asked
            for _ in range(requests):
                now += chance.expovariate(requests / HOUR)
                is_hit, took = await _judge(verifier, chance.choice(wallets).token(now))
                (hits if is_hit else misses).append(took)
    return Hour(hits, misses, requests, provider.asked - before)


async def far_miss(delay: float = FAR, count: int = 16) -> float:
    """Microseconds until a token is judged that a distant provider must be asked about; the median."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(AskedIdentity(delay))
        settings = provider.settings("0s", count, is_asked=True)
        verifier = await stack.enter_async_context(open_verifier(settings))
        await _readiness(verifier)
        held = [provider.issue(CLIENT) for _ in range(count)]
        taken = [(await _judge(verifier, token))[1] for token in held]
    return statistics.median(taken)


async def _readiness(verifier: Verifier) -> None:
    while not verifier.is_ready:  # noqa: ASYNC110 - it has no event of its own
        await asyncio.sleep(0.01)


class QuickProvider(IdentityProvider):
    """The development provider with an Ed25519 key, which signs twenty times as fast."""

    def __init__(self) -> None:
        super().__init__({CLIENT: (SECRET, (SCOPE,))}, AUDIENCE)
        self._key = Ed25519PrivateKey.generate()

    def quick(self, serial: int) -> str:
        """A token like no other."""
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": CLIENT, "aud": AUDIENCE, "client_id": CLIENT, "scope": SCOPE}
        times = {"iat": now, "exp": now + int(HOUR), "jti": str(serial)}
        return jwt.encode(claims | times, self._key, algorithm="EdDSA", headers={"kid": "quick", "typ": "at+jwt"})

    async def _jwks(self, _: web.Request) -> web.Response:
        key = OKPAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return web.json_response({"keys": [key | {"kid": "quick", "use": "sig", "alg": "EdDSA"}]})


async def recollection(counts: Sequence[int]) -> list[tuple[int, float]]:
    """Nanoseconds that a remembered verdict takes, with so many of them remembered."""
    async with QuickProvider() as provider:
        issuers = [{"issuer": provider.issuer, "audiences": [AUDIENCE], "algorithms": ["EdDSA"]}]
        cache = {"max_entries": max(counts)}
        settings = AuthSettings.model_validate({"issuers": issuers, "cache": cache}, strict=False)
        async with open_verifier(settings) as verifier:
            held: list[str] = []
            found = []
            for count in counts:
                while len(held) < count:
                    held.append(provider.quick(len(held)))
                    await verifier.verify(held[-1])
                found.append((count, _recall(verifier, held)))
    return found


def _recall(verifier: Verifier, held: Sequence[str]) -> float:
    asked = random.Random(7).choices(held, k=20_000)
    started = time.perf_counter()
    answered = [verifier.known(token) is not None for token in asked]
    took = time.perf_counter() - started
    if not all(answered):
        raise BadAnswers("the verifier forgot verdicts that it should remember")
    return took / len(asked) * 1e9


def growing(counts: Sequence[int] = COUNTS) -> Table:
    """The look-up of a token's verdict as the cache fills."""
    found = asyncio.run(recollection(counts))
    rows = tuple((f"{count:,}", took / found[0][1], took) for count, took in found)
    return Table("Tokens remembered", ("tokens", "time / first", "ns/look-up"), rows)


async def _judge(verifier: Verifier, token: str) -> tuple[bool, float]:
    started = time.perf_counter()
    known = verifier.known(token)
    if known is None:
        await verifier.verify(token)
    return known is not None, (time.perf_counter() - started) * 1e6


def measure(world: World, pace: Pace) -> Table:
    """The three strategies, with local keys and with a provider that is asked."""
    miss = asyncio.run(far_miss())
    kinds: tuple[tuple[str, float | None], ...] = (("local keys", None), (f"provider {FAR * 1000:.0f} ms away", miss))
    rows = []
    for kind, far in kinds:
        found = [_strategy(cache, far, pace) for _, cache, _ in STRATEGIES]
        rows += [
            (f"{name}, {kind}", *paper, mean / found[0][0], mean, f"{hits:.1%}", asks)
            for (name, _, paper), (mean, hits, asks) in zip(STRATEGIES, found, strict=True)
        ]
        say(f"    {kind}: {', '.join(f'{hits:.1%} hits' for _, hits, _ in found)}")
    heads = ("strategy", "paper ms", "paper hits", "paper asks/s", "ms / no cache", "ms", "hits", "asks/s")
    notes = (
        f"{CLIENTS:,} clients with tokens of an hour, {RATE:g} requests/s, an hour on a fast clock; latency is real.",
        "With local keys a miss asks nobody: it verifies a signature.",
        f"A distant provider's misses count as one that was really waited for: {miss / 1000:.0f} ms.",
    )
    return Table("Table 4: the token cache", heads, tuple(rows), notes)


def _strategy(cache: str, far: float | None, pace: Pace) -> tuple[float, float, float]:
    """Mean milliseconds, hit rate, and how often a second the provider is asked."""
    # A tenth of the clients and of the requests keep the hit rate and save nine tenths of the signatures.
    share = 10 if pace.seconds >= 1 else 100
    requests = int(RATE * HOUR) // share
    if far is not None and cache == "0s":
        requests = _FEW  # every one asks
    found = asyncio.run(hour(cache, CLIENTS // share, requests, is_asked=far is not None))
    misses = sum(found.misses) if far is None else far * len(found.misses)
    mean = (sum(found.hits) + misses) / found.asked / 1000
    return mean, found.hit_rate, RATE * found.provider / found.asked
