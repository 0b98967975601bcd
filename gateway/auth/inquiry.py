"""Tokens of which the provider has the last word: opaque ones, and JWTs where it wants to be asked."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.auth.cache import good_until
from gateway.auth.claims import to_principal
from gateway.auth.counters import Counters
from gateway.auth.introspection import Introspector
from gateway.auth.refusal import Reason, refusal
from gateway.config.auth import AuthSettings, VerdictCacheSettings
from gateway.context import Principal
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from gateway.net.redis import Redis


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said of a token.

    Attributes:
        issuer: who said it.
        claims: the token's claims.
        thumbprint: of the key that signed the token; "" for an opaque one.
        until: Unix time in seconds until which it is believed.
    """

    issuer: str
    claims: dict[str, Any]
    thumbprint: str
    until: float


class AnswerStore(Protocol):
    """Answers that replicas share."""

    async def get(self, digest: bytes) -> Answer | None:
        """The answer kept for a token, by its digest."""

    async def put(self, digest: bytes, answer: Answer, life: float) -> None:
        """Keep an answer for so many seconds."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """Who calls, by which answer."""

    principal: Principal
    answer: Answer


class Inquiry:
    """Asks the providers, or recalls what they told another replica.

    Args:
        introspectors: those that can be asked, by issuer, in order of configuration.
        cache: how long verdicts are believed.
        counters: where questions are counted.
        clock: Unix time in seconds.
        store: the shared answers, if there are any.
    """

    def __init__(
        self,
        introspectors: Mapping[str, Introspector],
        cache: VerdictCacheSettings,
        counters: Counters,
        clock: Callable[[], float],
        store: AnswerStore | None = None,
    ) -> None:
        self._introspectors = introspectors
        self._opaque = tuple(each for each in introspectors.values() if each.settings.opaque)
        self._cache = cache
        self._counters = counters
        self._clock = clock
        self._store = store

    @property
    def takes_opaque(self) -> bool:
        """Whether any provider's opaque tokens are accepted."""
        return bool(self._opaque)

    def wants(self, issuer: str) -> bool:
        """Whether the issuer must be asked about its JWTs too."""
        asked = self._introspectors.get(issuer)
        return asked is not None and asked.settings.required

    async def opaque(self, token: str, digest: bytes) -> Opinion:
        """Ask the providers of opaque tokens in turn; the first to know the token decides.

        Raises:
            Unauthenticated: none knows it, or the one that does says something that breaks a rule.
            IdentityProviderUnavailable: one that might know it cannot be asked.
        """
        if known := await self._recall(digest, "", {each.issuer.issuer for each in self._opaque}):
            return known
        trouble: IdentityProviderUnavailable | None = None
        refused = refusal(Reason.INACTIVE)
        for introspector in self._opaque:
            asked_at = self._clock()
            try:
                claims = await self._ask(introspector, token)
            except IdentityProviderUnavailable as error:
                trouble = error
            except Unauthenticated as error:
                if error.reason != Reason.INACTIVE.value:
                    raise
                refused = error
            else:
                return await self._conclude(introspector, digest, claims, "", asked_at)
        raise trouble or refused

    async def signed(
        self, token: str, digest: bytes, verified: Mapping[str, Any], issuer: str, thumbprint: str
    ) -> Opinion:
        """Ask the issuer about its own JWT, whose signature and claims were verified.

        Raises:
            Unauthenticated: it was revoked, or the answer contradicts the token.
            IdentityProviderUnavailable: the provider cannot be asked.
        """
        if known := await self._recall(digest, thumbprint, {issuer}):
            return known
        introspector = self._introspectors[issuer]
        asked_at = self._clock()
        claims = await self._ask(introspector, token)
        if claims.get("sub", verified.get("sub")) != verified.get("sub"):
            raise refusal(Reason.CLAIMS, "the provider names another subject than the token")
        # What the provider says now counts: it may have taken scopes away since.
        merged = {**verified, **claims}
        stated = claims.get("exp")
        if isinstance(stated, int | float) and stated > verified["exp"]:
            merged["exp"] = verified["exp"]
        return await self._conclude(introspector, digest, merged, thumbprint, asked_at)

    async def _ask(self, introspector: Introspector, token: str) -> dict[str, Any]:
        self._counters.introspections += 1
        return await introspector.ask(token)

    async def _conclude(
        self, introspector: Introspector, digest: bytes, claims: dict[str, Any], thumbprint: str, asked_at: float
    ) -> Opinion:
        issuer = introspector.issuer
        principal = to_principal(claims, issuer, self._clock())
        # Counted from the question: the token may have been revoked while the answer travelled.
        until = min(good_until(asked_at, principal.expires_at, self._cache), asked_at + introspector.settings.max_age)
        answer = Answer(issuer.issuer, claims, thumbprint, until)
        if self._store is not None:
            await self._store.put(digest, answer, until - self._clock())
        return Opinion(principal, answer)

    async def _recall(self, digest: bytes, thumbprint: str, issuers: set[str]) -> Opinion | None:
        answer = await self._store.get(digest) if self._store is not None else None
        now = self._clock()
        if answer is None or answer.until <= now or answer.thumbprint != thumbprint or answer.issuer not in issuers:
            return None
        try:
            principal = to_principal(answer.claims, self._introspectors[answer.issuer].issuer, now)
        except Unauthenticated:
            return None
        self._counters.shared_hits += 1
        return Opinion(principal, answer)


def answer_store(settings: AuthSettings, redis: Redis | None) -> AnswerStore | None:
    """Where replicas share answers; None where each keeps its own."""
    if redis is None or settings.cache.backend != "redis":
        return None
    # Imported here, since its packages are an extra.
    module = importlib.import_module("gateway.auth.shared")
    fingerprint = hashlib.sha256(settings.model_dump_json().encode()).digest()
    store: AnswerStore = module.SharedVerdicts(redis, fingerprint)
    return store
