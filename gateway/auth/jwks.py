"""The keys of one issuer: found, fetched in the background, kept while the provider is down (RFC 7517, 8414)."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final, Never

import aiohttp
from yarl import URL

from gateway.auth.jwt import SigningKey, UnusableKeyError, load_key
from gateway.config.issuers import TrustedIssuer
from gateway.net.http import FetchError, get_json, leads_to_loopback
from gateway.net.tls import Sighting

_log = logging.getLogger(__name__)

_WELL_KNOWN: Final = "/.well-known/"

# A token without `kid`, or with that of several keys, is tried with so many; more would be work for strangers.
_MAX_CANDIDATES: Final = 4


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """How keys are fetched and kept; seconds, bytes and counts.

    Attributes:
        refresh: between two refreshes in the background, with a tenth of jitter.
        first_retry: after the first failure; doubled after each further one.
        last_retry: longest pause after failures while there are no keys at all.
        cool_down: between two fetches that unknown keys may cause, failed ones included.
        max_stale: how long the last good keys serve while the provider is down.
        timeout: for one fetch, discovery included.
        max_bytes: largest document read; reading it holds the event loop, at worst for some 15 ms.
        max_keys: entries of a set that are looked at.
    """

    refresh: float = 300.0
    first_retry: float = 1.0
    last_retry: float = 30.0
    cool_down: float = 30.0
    max_stale: float = 86_400.0
    timeout: float = 10.0
    max_bytes: int = 1 << 18
    max_keys: int = 100


@dataclass(frozen=True, slots=True)
class _KeySet:
    named: dict[str, tuple[SigningKey, ...]]
    nameless: tuple[SigningKey, ...]
    thumbprints: frozenset[str]
    published: int
    loaded_at: float


class IssuerKeys:
    """The current keys of one issuer. Lookups never wait; fetching is single flight.

    Args:
        settings: the issuer.
        session: the client to fetch with.
        policy: how often, how long, how much.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: TrustedIssuer,
        session: aiohttp.ClientSession,
        policy: KeyPolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._clock = clock
        self._set: _KeySet | None = None
        self._location = settings.jwks_uri
        self._flight: asyncio.Task[None] | None = None
        self._next_search = float("-inf")
        self._failures = 0
        self.fetches: Counter[str] = Counter()  # "ok", "failed"
        self.sighting = seen = Sighting()  # discovery's, then the keys'
        self._get = partial(get_json, session, max_bytes=policy.max_bytes, timeout=policy.timeout, sighting=seen)
        self._trouble = "no keys were loaded yet"

    @property
    def was_loaded(self) -> bool:
        """Whether keys were ever had."""
        return self._set is not None

    @property
    def has_keys(self) -> bool:
        """Whether there are keys, and not older than the policy allows."""
        return self._current() is not None

    def status(self) -> str:
        """ "ready", or what is wrong, for operators."""
        if not self._trouble:
            return "ready"
        if keys := self._current():
            return f"using the keys of {self._clock() - keys.loaded_at:.0f} s ago: {self._trouble}"
        return self._trouble

    def _current(self) -> _KeySet | None:
        keys = self._set
        return keys if keys and self._clock() - keys.loaded_at <= self._policy.max_stale else None

    def find(self, kid: str | None, algorithm: str) -> tuple[SigningKey, ...]:
        """The keys a token may be signed with: by name, or those that fit when the token names none."""
        keys = self._current()
        if keys is None:
            return ()
        if kid is not None:
            return keys.named.get(kid, ())
        everyone = (*keys.nameless, *chain.from_iterable(keys.named.values()))
        return tuple(key for key in everyone if algorithm in key.algorithms)[:_MAX_CANDIDATES]

    def holds(self, thumbprint: str) -> bool:
        """Whether a key is still published."""
        keys = self._current()
        return keys is not None and thumbprint in keys.thumbprints

    async def obtain(self, kid: str | None, algorithm: str) -> tuple[SigningKey, ...]:
        """The keys, asking the provider when they are unknown: at most once per cool-down, whoever asks."""
        # Twice: the fetch in the air may have begun before the key was published.
        for _ in range(2):
            if found := self.find(kid, algorithm):
                return found
            await self._search()
        return self.find(kid, algorithm)

    async def renew(self) -> bool:
        """Ask the provider again, at most once per cool-down, whoever asks; whether its keys have changed."""
        before = self._set
        for _ in range(2):  # as in `obtain`
            await self._search()
            if self._set is not None and (before is None or before.thumbprints != self._set.thumbprints):
                return True
        return False

    async def _search(self) -> None:
        if self._flight is None:
            now = self._clock()
            if now < self._next_search:
                return
            # Before the attempt, so that failures count as well.
            self._next_search = now + self._policy.cool_down
            self._location = self._settings.jwks_uri
        await self.refresh()

    async def keep_fresh(self) -> Never:
        """Refresh for ever: the background task of this issuer."""
        while True:
            await self.refresh()
            await asyncio.sleep(self.pause())

    def pause(self) -> float:
        """Seconds until the next refresh in the background: longer after each failure, with jitter."""
        policy = self._policy
        pause = policy.refresh
        if self._failures:
            cap = policy.refresh if self.has_keys else min(policy.last_retry, policy.refresh)
            pause = min(cap, policy.first_retry * 2.0 ** min(self._failures - 1, 30))
        return pause * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, no secret

    async def refresh(self) -> None:
        """Fetch the keys once, joining a fetch that is already in the air. Never fails: see `status`."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._fetch())
            self._flight.add_done_callback(self._landed)
        # A caller that goes away must not take the fetch of all the others along.
        await asyncio.shield(self._flight)

    def _landed(self, _: asyncio.Task[None]) -> None:
        self._flight = None

    async def aclose(self) -> None:
        """Stop a fetch that is in the air."""
        if (flight := self._flight) is not None:
            flight.cancel()
            await asyncio.wait([flight])

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._policy.timeout):
                keys = await self._load()
        except FetchError as error:
            self._fail(error.message)
        except TimeoutError:
            self._fail(f"the provider did not answer within {self._policy.timeout:g} s")
        except Exception as error:  # noqa: BLE001 - a dead fetcher would lock everybody out within a day
            self._fail(f"unexpected {type(error).__name__}")
            _log.exception("fetching the keys of %s failed unexpectedly", self._settings.issuer)
        else:
            self._adopt(keys)

    def _fail(self, trouble: str) -> None:
        self.fetches["failed"] += 1
        self._failures += 1
        # The location may have moved; explicit settings stay.
        self._location = self._settings.jwks_uri
        if trouble != self._trouble:
            _log.warning("no fresh keys of issuer %s: %s", self._settings.issuer, trouble)
        self._trouble = trouble

    def _adopt(self, keys: _KeySet) -> None:
        self.fetches["ok"] += 1
        before = self._set.thumbprints if self._set else frozenset()
        if keys.thumbprints != before:
            _log.info(
                "issuer %s has %d usable key(s) of %d published, %d of them new, %d gone",
                self._settings.issuer,
                len(keys.thumbprints),
                keys.published,
                len(keys.thumbprints - before),
                len(before - keys.thumbprints),
            )
        self._set = keys
        self._failures = 0
        self._trouble = ""

    async def _load(self) -> _KeySet:
        if self._location is None:
            self._location = await self.endpoint("jwks_uri")
        return await self._key_set(await self._get(self._location))

    async def endpoint(self, name: str) -> str:
        """A URL of the issuer's metadata (OpenID Connect Discovery 1.0, else RFC 8414), such as its `jwks_uri`.

        Raises:
            FetchError: the metadata cannot be had or believed, or does not name it.
        """
        start = self._settings.discovery
        if _WELL_KNOWN in start:
            document = await self._get(start)
        else:
            try:
                document = await self._get(openid_configuration_url(start))
            except FetchError as first:
                try:
                    document = await self._get(authorization_server_url(start))
                except FetchError:
                    raise first from None
        if not isinstance(document, dict):
            raise FetchError("the discovery document is not an object")
        # Whoever serves this document vouches for one issuer only (RFC 8414 section 3.3).
        stated = document.get("issuer")
        if not isinstance(stated, str) or stated not in self._settings.names:
            raise FetchError(f"the discovery document names the issuer {stated!r:.200}; set exactly that, or jwks_uri")
        location = document.get(name)
        if not isinstance(location, str):
            raise FetchError(f"the discovery document has no {name}")
        if leads_to_loopback(location) and not leads_to_loopback(start):
            raise FetchError("the discovery document points to this machine")
        return location

    async def _key_set(self, document: Any) -> _KeySet:
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise FetchError("the key set has no list of keys")
        named: dict[str, tuple[SigningKey, ...]] = {}
        nameless: list[SigningKey] = []
        for entry in entries[: self._policy.max_keys]:
            # Building a key takes some 40 us: calls are served between two of them.
            await asyncio.sleep(0)
            try:
                key = load_key(entry)
            except UnusableKeyError as error:
                _log.debug("issuer %s: key skipped: %s", self._settings.issuer, error)
                continue
            if key.kid is None:
                nameless.append(key)
            elif len(alike := named.get(key.kid, ())) < _MAX_CANDIDATES:
                # Several keys may share a name (RFC 7517 section 4.5): a token is tried with each that fits.
                named[key.kid] = (*alike, key)
        thumbprints = frozenset(key.thumbprint for key in (*chain.from_iterable(named.values()), *nameless))
        if not thumbprints:
            raise FetchError("the key set has no usable key")
        return _KeySet(named, tuple(nameless), thumbprints, len(entries), self._clock())


def openid_configuration_url(issuer: str) -> str:
    """OpenID Connect Discovery 1.0, section 4: the well-known part comes last."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def authorization_server_url(issuer: str) -> str:
    """RFC 8414 section 3.1: the well-known part comes between host and path."""
    url = URL(issuer)
    return str(url.with_path("/.well-known/oauth-authorization-server" + url.path.rstrip("/")))
