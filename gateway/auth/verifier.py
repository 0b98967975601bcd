"""Who is behind a token: the verdict, made once and remembered for a while."""

from __future__ import annotations

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Never

from gateway.auth.bearer import MAX_TOKEN_BYTES
from gateway.auth.cache import ExpiringCache, good_until
from gateway.auth.claims import to_principal
from gateway.auth.jwks import IssuerKeys, KeyPolicy
from gateway.auth.jwt import SigningKey, Token, check_header, is_signed_by, parse
from gateway.auth.refusal import Reason, refusal
from gateway.config.auth import AuthSettings, IssuerSettings
from gateway.config.problems import ConfigError, Problem
from gateway.context import Principal
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from gateway.net.http import is_secure, open_session

_REFUSAL_AGE: Final = 5.0
_MAX_REFUSALS: Final = 1024
# These may be right a moment later, when the key has arrived or the clock has moved.
_PASSING: Final = frozenset({Reason.UNKNOWN_KEY.value, Reason.NOT_YET_VALID.value, Reason.TOO_LARGE.value})


class Verifier(ABC):
    """Turns bearer tokens into principals."""

    @abstractmethod
    def known(self, token: str) -> Principal | None:
        """The principal of a token verified not long ago; no waiting, no cryptography."""

    @abstractmethod
    async def verify(self, token: str) -> Principal:
        """The principal of a token.

        Raises:
            Unauthenticated: the token is not good; `reason` says why in one stable word.
            IdentityProviderUnavailable: it may be good, but there are no keys to tell.
        """

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the keys of at least one issuer were loaded once."""

    @abstractmethod
    def status(self) -> dict[str, str]:
        """For each issuer "ready", or what is wrong, in the operator's words."""


class OpenDoor(Verifier):
    """`auth.mode: none`: everybody is the same caller with every scope. For development on loopback."""

    principal: Final = Principal("none", "anonymous", "", frozenset(), has_every_scope=True)

    def known(self, token: str) -> Principal | None:
        """The development principal, whatever the token."""
        return self.principal

    async def verify(self, token: str) -> Principal:
        """The development principal, whatever the token."""
        return self.principal

    @property
    def is_ready(self) -> bool:
        """Always."""
        return True

    def status(self) -> dict[str, str]:
        """There is no issuer."""
        return {}


@dataclass(frozen=True, slots=True)
class _Issuer:
    settings: IssuerSettings
    keys: IssuerKeys


@dataclass(frozen=True, slots=True)
class _Verdict:
    principal: Principal
    issuer: _Issuer
    thumbprint: str


class TokenVerifier(Verifier):
    """`auth.mode: jwt`: signed tokens of the configured issuers, keys kept per issuer.

    Args:
        settings: issuers and cache.
        keys: the keys of every issuer, by its exact `iss`.
        clock: Unix time in seconds.
    """

    def __init__(
        self, settings: AuthSettings, keys: Mapping[str, IssuerKeys], clock: Callable[[], float] = time.time
    ) -> None:
        self._issuers = {issuer.issuer: _Issuer(issuer, keys[issuer.issuer]) for issuer in settings.issuers}
        self._settings = settings.cache
        self._clock = clock
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
        if not verdict.issuer.keys.holds(verdict.thumbprint):
            self._verdicts.drop(digest)
            return None
        return verdict.principal

    def remembered(self) -> tuple[int, int]:
        """How many verdicts and how many refusals are remembered now."""
        return len(self._verdicts), len(self._refusals)

    async def verify(self, token: str) -> Principal:
        """See `Verifier.verify`. Waits only for a key that is not known yet."""
        if len(token) > MAX_TOKEN_BYTES:
            raise refusal(Reason.TOO_LARGE)
        digest = _digest(token)
        if principal := self._recall(digest):
            return principal
        if known := self._refusals.get(digest):
            raise Unauthenticated(known.message, reason=known.reason, detail=known.detail)
        try:
            return await self._examine(token, digest)
        except Unauthenticated as error:
            if error.reason not in _PASSING:
                # A new one without traceback, which would keep the frames and the token in them.
                kept = Unauthenticated(error.message, reason=error.reason, detail=error.detail)
                self._refusals.put(digest, kept, self._clock() + _REFUSAL_AGE)
            raise

    async def _examine(self, text: str, digest: bytes) -> Principal:
        token = parse(text)
        # Not verified yet: it only chooses which rules and keys are asked, by exact match.
        name = token.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise refusal(Reason.UNKNOWN_ISSUER)
        check_header(token, issuer.settings)
        keys = issuer.keys.find(token.kid, token.algorithm)
        if not keys:
            keys = await self._wait_for_keys(token, issuer)
            # Others may have waited with the same token: one of us verifies, the rest recall.
            if principal := self._recall(digest):
                return principal
        key = _signer(token, keys)
        now = self._clock()
        principal = to_principal(token.claims, issuer.settings, now)
        until = good_until(now, principal.expires_at, self._settings)
        self._verdicts.put(digest, _Verdict(principal, issuer, key.thumbprint), until)
        return principal

    async def _wait_for_keys(self, token: Token, issuer: _Issuer) -> tuple[SigningKey, ...]:
        keys = await issuer.keys.obtain(token.kid, token.algorithm)
        if not issuer.keys.has_keys:
            raise IdentityProviderUnavailable(
                "The access token cannot be checked at the moment; try again in a few seconds.",
                detail=f"{issuer.settings.issuer}: {issuer.keys.status()}",
            )
        if not keys:
            raise refusal(Reason.UNKNOWN_KEY)
        return keys

    @property
    def is_ready(self) -> bool:
        """Whether the keys of at least one issuer were loaded once."""
        return any(issuer.keys.was_loaded for issuer in self._issuers.values())

    def status(self) -> dict[str, str]:
        """For each issuer "ready", or what is wrong."""
        return {name: issuer.keys.status() for name, issuer in self._issuers.items()}


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _signer(token: Token, keys: tuple[SigningKey, ...]) -> SigningKey:
    """The key that signed the token."""
    fitting = [key for key in keys if token.algorithm in key.algorithms]
    if not fitting:
        raise refusal(Reason.KEY_MISMATCH, "the key is not for this algorithm")
    for key in fitting:
        if is_signed_by(token, key):
            return key
    raise refusal(Reason.SIGNATURE)


def problems(settings: AuthSettings) -> tuple[Problem, ...]:
    """What makes these settings unusable, without any I/O."""
    if settings.mode == "none":
        return ()
    found = []
    if not settings.issuers:
        found.append(Problem(("auth", "issuers"), "at least one issuer is required unless auth.mode is none"))
    counted = Counter(issuer.issuer for issuer in settings.issuers)
    for index, issuer in enumerate(settings.issuers):
        where = ("auth", "issuers", index)
        if counted[issuer.issuer] > 1:
            found.append(Problem((*where, "issuer"), "this issuer is configured twice"))
        if issuer.jwks_uri is None and not is_secure(issuer.issuer):
            found.append(Problem((*where, "issuer"), "must be an https URL (http on loopback only), or give jwks_uri"))
        if issuer.jwks_uri is not None and not is_secure(issuer.jwks_uri):
            found.append(Problem((*where, "jwks_uri"), "must be an https URL (http on loopback only)"))
    return tuple(found)


@asynccontextmanager
async def open_verifier(
    settings: AuthSettings,
    *,
    policy: KeyPolicy | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Verifier]:
    """A verifier, its keys loaded and refreshed in the background: opening never waits for a provider.

    Args:
        settings: `auth` of the configuration.
        policy: how keys are fetched.
        clock: Unix time in seconds, for claims and verdicts.
        monotonic: seconds, for refreshes and cool-downs.

    Raises:
        ConfigError: no issuer, one configured twice, or a URL that must not be fetched.
    """
    if found := problems(settings):
        raise ConfigError(found)
    if settings.mode == "none":
        yield OpenDoor()
        return
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        keys = {
            issuer.issuer: IssuerKeys(issuer, session, policy or KeyPolicy(), monotonic) for issuer in settings.issuers
        }
        for one in keys.values():
            stack.push_async_callback(one.aclose)
            stack.push_async_callback(_stop, asyncio.create_task(one.keep_fresh()))
        yield TokenVerifier(settings, keys, clock)


async def _stop(task: asyncio.Task[Never]) -> None:
    task.cancel()
    await asyncio.wait([task])
