"""The paper's token table: what a cache of verdicts saves, by the gateway's own verifier on a clock that runs fast."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from gateway.auth.verifier import Verifier, open_verifier
from gateway.config.auth import AuthSettings
from gateway.demo.identity import IdentityProvider
from tests.bench.figures import Table, number
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
STRATEGIES: Final = (("no cache", "0s", (280, "0 %", 150)), ("5-minute cache", "5m", (8, "95 %", 7.5)))
STRATEGIES_AND_OURS: Final = (*STRATEGIES, ("55-minute cache", "55m", (6, "97 %", 4.5)))


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of requests at the verifier.

    Attributes:
        hits: microseconds of each verdict that was remembered.
        misses: microseconds of each that was made.
        asked: requests in that hour.
    """

    hits: Sequence[float]
    misses: Sequence[float]
    asked: int

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


async def hour(cache: str, clients: int, requests: int) -> Hour:
    """One hour, after as much of another one that every client has come once; requests come from clients at random."""
    now = time.time()
    chance = random.Random(7)
    async with IdentityProvider({CLIENT: (SECRET, (SCOPE,))}, AUDIENCE) as provider:
        issuers = [{"issuer": provider.issuer, "audiences": [AUDIENCE]}]
        settings = AuthSettings.model_validate(
            {"issuers": issuers, "cache": {"max_age": cache, "max_entries": 2 * clients}}, strict=False
        )
        async with open_verifier(settings, clock=lambda: now) as verifier:
            while not verifier.is_ready:  # noqa: ASYNC110 - it has no event of its own
                await asyncio.sleep(0.01)
            wallets = [Wallet(provider, now) for _ in range(clients)]
            for wallet in wallets:
                await verifier.verify(wallet.token(now))
            hits, misses = list[float](), list[float]()
            for _ in range(requests):
                now += chance.expovariate(requests / HOUR)
                token = chance.choice(wallets).token(now)
                is_hit, took = await _judge(verifier, token)
                (hits if is_hit else misses).append(took)
    return Hour(hits, misses, requests)


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
    """The three strategies."""
    # A tenth of the clients and of the requests keep the hit rate and save nine tenths of the signatures.
    share = 10 if pace.seconds >= 1 else 100
    rows = []
    for name, cache, paper in STRATEGIES_AND_OURS:
        found = asyncio.run(hour(cache, CLIENTS // share, int(RATE * HOUR) // share))
        say(f"    {name}: {found.hit_rate:.1%} hits")
        everything = list(itertools.chain(found.hits, found.misses))
        mean = sum(everything) / len(everything)
        rows.append(
            (
                name,
                *(str(value) for value in paper),
                number(mean / 1000),
                number(statistics.median(found.misses)),
                f"{found.hit_rate:.1%}",
                number(RATE * (1 - found.hit_rate)),
            )
        )
    columns = ("strategy", "paper ms", "paper hits", "paper asks/s", "ms", "us of a miss", "hits", "misses/s")
    notes = (
        f"{CLIENTS:,} clients with tokens of an hour, {RATE:g} requests/s, an hour on a fast clock; latency is real.",
        "Keys are local: a miss asks no provider, it verifies a signature.",
    )
    return Table("Table 4: the token cache", columns, tuple(rows), notes)
