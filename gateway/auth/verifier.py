"""Who is behind a token: the verdict, made once and remembered for a while."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Never

from gateway.auth.base import OpenDoor, Verifier
from gateway.auth.bearer import MAX_TOKEN_BYTES
from gateway.auth.cache import ExpiringCache, good_until
from gateway.auth.claims import to_principal
from gateway.auth.flights import Flights
from gateway.auth.inquiry import AnswerStore, Inquiry, Opinion, answer_store
from gateway.auth.introspection import InquiryPolicy, Introspector, open_introspectors
from gateway.auth.jwks import IssuerKeys, KeyPolicy
from gateway.auth.jwt import SigningKey, Token, check_header, is_signed_by, parse
from gateway.auth.problems import problems
from gateway.auth.refusal import Reason, refusal
from gateway.config.auth import AuthSettings
from gateway.config.issuers import TrustedIssuer, resolve
from gateway.config.problems import ConfigError
from gateway.context import Principal
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from gateway.net.http import open_session
from gateway.net.redis import Redis
from gateway.net.tls import first_end

_REFUSAL_AGE: Final = 5.0
_MAX_REFUSALS: Final = 1024
# These may be right a moment later, when the key has arrived or the clock has moved.
_PASSING: Final = frozenset({Reason.UNKNOWN_KEY.value, Reason.NOT_YET_VALID.value, Reason.TOO_LARGE.value})

_Keys = tuple[SigningKey, ...]


@dataclass(frozen=True, slots=True)
class _Issuer:
    settings: TrustedIssuer
    keys: IssuerKeys
    introspector: Introspector | None

    @property
    def is_ready(self) -> bool:
        """Whether keys were loaded once; opaque tokens need none."""
        asked = self.introspector
        return self.keys.was_loaded or (asked is not None and asked.settings.opaque and asked.is_ready)

    @property
    def certificate_expires_at(self) -> float | None:
        """The first end of what its hosts showed, those of the keys and of introspection."""
        return first_end([self.keys.sighting, *([self.introspector.sighting] if self.introspector else [])])

    def status(self) -> str:
        keys, asked = self.keys.status(), self.introspector.status() if self.introspector else "ready"
        if self.introspector is None or keys == asked:
            return keys
        return f"keys: {keys}; introspection: {asked}"


@dataclass(frozen=True, slots=True)
class _Verdict:
    principal: Principal
    issuer: _Issuer
    thumbprint: str


class TokenVerifier(Verifier):
    """`auth.mode: jwt`: signed tokens of the configured issuers, keys kept per issuer; others by introspection.

    Args:
        settings: the cache.
        keys: the issuers, with their keys.
        introspectors: those issuers that can be asked, by name.
        store: answers that replicas share.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        settings: AuthSettings,
        keys: Mapping[TrustedIssuer, IssuerKeys],
        introspectors: Mapping[str, Introspector] = MappingProxyType({}),
        store: AnswerStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._issuers = {
            issuer.issuer: _Issuer(issuer, each, introspectors.get(issuer.issuer)) for issuer, each in keys.items()
        }
        self._by_name = {name: issuer for issuer in self._issuers.values() for name in issuer.settings.names}
        self._inquiry = Inquiry(introspectors, settings.cache, self.counters, clock, store)
        self._settings = settings.cache
        self._clock = clock
        self._flights: Flights[Principal] = Flights()
        self._verdicts: ExpiringCache[_Verdict] = ExpiringCache(settings.cache.max_entries, clock)
        # Apart, so that garbage cannot push good verdicts out.
        self._refusals: ExpiringCache[Unauthenticated] = ExpiringCache(_MAX_REFUSALS, clock)

    def known(self, token: str) -> Principal | None:
        """The principal of a token verified not long ago, whose key is still published."""
        return self._recall(_digest(token)) if len(token) <= MAX_TOKEN_BYTES else None

    def _recall(self, digest: bytes) -> Principal | None:
        verdict = self._verdicts.get(digest)
        if verdict is None:
            return None
        if verdict.thumbprint and not verdict.issuer.keys.holds(verdict.thumbprint):
            self._verdicts.drop(digest)
            return None
        self.counters.hits += 1
        return verdict.principal

    def remembered(self) -> tuple[int, int]:
        """How many verdicts and how many refusals are remembered now."""
        return len(self._verdicts), len(self._refusals)

    async def verify(self, token: str) -> Principal:
        """See `Verifier.verify`. Waits only for a key that is not known yet, and for the provider's word."""
        if len(token) > MAX_TOKEN_BYTES:
            raise self._counted(refusal(Reason.TOO_LARGE))
        digest = _digest(token)
        if principal := self._recall(digest):
            return principal
        self.counters.misses += 1
        if known := self._refusals.get(digest):
            raise self._counted(Unauthenticated(known.message, reason=known.reason, detail=known.detail))
        try:
            principal = await self._examine(token, digest)
        except IdentityProviderUnavailable:
            self.counters.unavailable += 1
            raise
        except Unauthenticated as error:
            if error.reason not in _PASSING:
                # A new one without traceback, which would keep the frames and the token in them.
                kept = Unauthenticated(error.message, reason=error.reason, detail=error.detail)
                self._refusals.put(digest, kept, self._clock() + _REFUSAL_AGE)
            self._counted(error)
            raise
        self.counters.verified += 1
        return principal

    def _counted(self, error: Unauthenticated) -> Unauthenticated:
        self.counters.refusals[error.reason] += 1
        return error

    async def _examine(self, text: str, digest: bytes) -> Principal:
        if self._inquiry.takes_opaque and text.count(".") != 2 and text.isascii():
            return await self._flights.join(digest, lambda: self._ask(text, digest))
        token = parse(text)
        # Not verified yet: it only chooses which rules and keys are asked, by exact match.
        name = token.claims.get("iss")
        issuer = self._by_name.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise refusal(Reason.UNKNOWN_ISSUER)
        check_header(token, issuer.settings)
        keys = issuer.keys.find(token.kid, token.algorithm)
        key = _matching(token, keys)
        if key is not None and not self._inquiry.wants(issuer.settings.issuer):
            return self._judge(token, issuer, key, digest).principal
        return await self._flights.join(digest, lambda: self._wait(text, token, issuer, keys, key, digest))

    def _judge(self, token: Token, issuer: _Issuer, key: SigningKey, digest: bytes) -> _Verdict:
        """The verdict that needs nobody else; remembered, unless the provider has the last word."""
        now = self._clock()
        principal = to_principal(token.claims, issuer.settings, now)
        verdict = _Verdict(principal, issuer, key.thumbprint)
        if not self._inquiry.wants(issuer.settings.issuer):
            self._verdicts.put(digest, verdict, good_until(now, principal.expires_at, self._settings))
        return verdict

    async def _wait(
        self, text: str, token: Token, issuer: _Issuer, tried: _Keys, key: SigningKey | None, digest: bytes
    ) -> Principal:
        verdict = self._judge(token, issuer, key or await self._signer(token, issuer, tried), digest)
        name = issuer.settings.issuer
        if not self._inquiry.wants(name):
            return verdict.principal
        return self._adopt(await self._inquiry.signed(text, digest, token.claims, name, verdict.thumbprint), digest)

    async def _ask(self, text: str, digest: bytes) -> Principal:
        return self._adopt(await self._inquiry.opaque(text, digest), digest)

    def _adopt(self, opinion: Opinion, digest: bytes) -> Principal:
        answer = opinion.answer
        verdict = _Verdict(opinion.principal, self._issuers[answer.issuer], answer.thumbprint)
        self._verdicts.put(digest, verdict, answer.until)
        return opinion.principal

    async def _wait_for_keys(self, token: Token, issuer: _Issuer) -> _Keys:
        keys = await issuer.keys.obtain(token.kid, token.algorithm)
        # Without the provider's word a key that is not known may be a new one.
        if not issuer.keys.has_keys or not (keys or issuer.keys.status() == "ready"):
            raise IdentityProviderUnavailable(
                "The access token cannot be checked at the moment; try again in a few seconds.",
                detail=f"{issuer.settings.issuer}: {issuer.keys.status()}",
            )
        if not keys:
            raise refusal(Reason.UNKNOWN_KEY)
        return keys

    async def _signer(self, token: Token, issuer: _Issuer, tried: _Keys) -> SigningKey:
        """The key that signed the token, where none of those that were tried did."""
        keys = issuer.keys.find(token.kid, token.algorithm) or await self._wait_for_keys(token, issuer)
        # Keys may have come since, be it a moment ago.
        key = None if keys == tried else _matching(token, keys)
        # Another key may have taken the same name, or the place of a nameless one.
        if key is None and await issuer.keys.renew():
            keys = issuer.keys.find(token.kid, token.algorithm)
            key = _matching(token, keys)
        if not keys:
            raise refusal(Reason.UNKNOWN_KEY)
        if key is None:
            fits = any(token.algorithm in each.algorithms for each in keys)
            raise refusal(Reason.SIGNATURE) if fits else refusal(Reason.KEY_MISMATCH, "the key is not for this alg")
        return key

    @property
    def is_ready(self) -> bool:
        """Whether the keys of at least one issuer were loaded once, or opaque tokens can be asked about."""
        return any(issuer.is_ready for issuer in self._issuers.values())

    def status(self) -> dict[str, str]:
        """For each issuer "ready", or what is wrong."""
        return {name: issuer.status() for name, issuer in self._issuers.items()}

    def key_fetches(self) -> Mapping[tuple[str, str], int]:
        """See `Verifier.key_fetches`."""
        fetches = ((name, issuer.keys.fetches) for name, issuer in self._issuers.items())
        return {(name, result): counts[result] for name, counts in fetches for result in ("ok", "failed")}

    def certificates(self) -> Mapping[str, float]:
        """See `Verifier.certificates`."""
        ends = ((name, issuer.certificate_expires_at) for name, issuer in self._issuers.items())
        return {name: end for name, end in ends if end is not None}

    async def aclose(self) -> None:
        """End what is in the air."""
        await self._flights.aclose()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _matching(token: Token, keys: _Keys) -> SigningKey | None:
    return next((key for key in keys if is_signed_by(token, key)), None)


@asynccontextmanager
async def open_verifier(
    settings: AuthSettings,
    *,
    redis: Redis | None = None,
    policy: KeyPolicy | None = None,
    inquiry: InquiryPolicy | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Verifier]:
    """A verifier, its keys loaded and refreshed in the background: opening never waits for a provider.

    Args:
        settings: `auth` of the configuration.
        redis: where answers are shared, if `auth.cache.backend` says so.
        policy: how keys are fetched.
        inquiry: how providers are asked about tokens.
        clock: Unix time in seconds, for claims and verdicts.
        monotonic: seconds, for refreshes and cool-downs.

    Raises:
        ConfigError: an issuer configured twice, a URL that must not be fetched, or an unusable key.
    """
    if found := problems(settings):
        raise ConfigError(found)
    if settings.mode == "none":
        yield OpenDoor()
        return
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session(ca=settings.ca))
        trusted = [resolve(issuer) for issuer in settings.issuers]
        keys = {issuer: IssuerKeys(issuer, session, policy or KeyPolicy(), monotonic) for issuer in trusted}
        for one in keys.values():
            stack.push_async_callback(one.aclose)
            stack.push_async_callback(_stop, asyncio.create_task(one.keep_fresh()))
        asking = open_introspectors(keys, inquiry or InquiryPolicy(), clock, monotonic, settings.ca)
        introspectors = await stack.enter_async_context(asking)
        verifier = TokenVerifier(settings, keys, introspectors, answer_store(settings, redis), clock)
        stack.push_async_callback(verifier.aclose)
        yield verifier


async def _stop(task: asyncio.Task[Never]) -> None:
    task.cancel()
    await asyncio.wait([task])
