"""Who is behind a token: the verdict, made once and remembered for a while."""

from __future__ import annotations

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
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
from gateway.config.auth import AuthSettings
from gateway.config.issuers import TrustedIssuer, misfits, resolve
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
    settings: TrustedIssuer
    keys: IssuerKeys


@dataclass(frozen=True, slots=True)
class _Verdict:
    principal: Principal
    issuer: _Issuer
    thumbprint: str


class TokenVerifier(Verifier):
    """`auth.mode: jwt`: signed tokens of the configured issuers, keys kept per issuer.

    Args:
        settings: the cache.
        keys: the issuers, with their keys.
        clock: Unix time in seconds.
    """

    def __init__(
        self, settings: AuthSettings, keys: Mapping[TrustedIssuer, IssuerKeys], clock: Callable[[], float] = time.time
    ) -> None:
        self._issuers = {issuer.issuer: _Issuer(issuer, each) for issuer, each in keys.items()}
        self._by_name = {name: issuer for issuer in self._issuers.values() for name in issuer.settings.names}
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
        issuer = self._by_name.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise refusal(Reason.UNKNOWN_ISSUER)
        check_header(token, issuer.settings)
        keys = issuer.keys.find(token.kid, token.algorithm)
        if not keys:
            keys = await self._wait_for_keys(token, issuer)
            # Others may have waited with the same token: one of us verifies, the rest recall.
            if principal := self._recall(digest):
                return principal
        key = await self._signer(token, issuer, keys)
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

    async def _signer(self, token: Token, issuer: _Issuer, keys: tuple[SigningKey, ...]) -> SigningKey:
        """The key that signed the token."""
        key = _matching(token, keys)
        # Another key may have taken the same name, or the place of a nameless one.
        if key is None and await issuer.keys.renew():
            keys = issuer.keys.find(token.kid, token.algorithm)
            key = _matching(token, keys)
        if key is None:
            fits = any(token.algorithm in each.algorithms for each in keys)
            raise refusal(Reason.SIGNATURE) if fits else refusal(Reason.KEY_MISMATCH, "the key is not for this alg")
        return key

    @property
    def is_ready(self) -> bool:
        """Whether the keys of at least one issuer were loaded once."""
        return any(issuer.keys.was_loaded for issuer in self._issuers.values())

    def status(self) -> dict[str, str]:
        """For each issuer "ready", or what is wrong."""
        return {name: issuer.keys.status() for name, issuer in self._issuers.items()}


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _matching(token: Token, keys: tuple[SigningKey, ...]) -> SigningKey | None:
    return next((key for key in keys if is_signed_by(token, key)), None)


def problems(settings: AuthSettings) -> tuple[Problem, ...]:
    """What makes these settings unusable, without any I/O."""
    if settings.mode == "none":
        return ()
    found = []
    if not settings.issuers:
        found.append(Problem(("auth", "issuers"), "at least one issuer is required unless auth.mode is none"))
    seen: set[str] = set()
    for index, written in enumerate(settings.issuers):
        where = ("auth", "issuers", index)
        if misfitting := [Problem(each.path, each.message) for each in misfits(where, written)]:
            found += misfitting
            continue
        issuer = resolve(written)
        if not seen.isdisjoint(issuer.names):
            found.append(Problem((*where, "issuer"), "this issuer is configured twice"))
        seen |= issuer.names
        if issuer.jwks_uri is not None and not is_secure(issuer.jwks_uri):
            found.append(Problem((*where, "jwks_uri"), "must be an https URL (http on loopback only)"))
        if issuer.jwks_uri is None and not is_secure(issuer.discovery):
            key = "issuer" if issuer.discovery == issuer.issuer else "discovery"
            found.append(Problem((*where, key), "must be an https URL (http on loopback only), or give jwks_uri"))
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
        trusted = [resolve(issuer) for issuer in settings.issuers]
        keys = {issuer: IssuerKeys(issuer, session, policy or KeyPolicy(), monotonic) for issuer in trusted}
        for one in keys.values():
            stack.push_async_callback(one.aclose)
            stack.push_async_callback(_stop, asyncio.create_task(one.keep_fresh()))
        yield TokenVerifier(settings, keys, clock)


async def _stop(task: asyncio.Task[Never]) -> None:
    task.cancel()
    await asyncio.wait([task])
