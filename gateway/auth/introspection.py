"""One identity provider asked about tokens (RFC 7662), with the gateway's own credentials."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp

from gateway.auth.flights import Flights
from gateway.auth.jwks import IssuerKeys
from gateway.auth.jwt import ClientKey, UnusableKeyError, load_client_key
from gateway.auth.refusal import Reason, refusal
from gateway.config.introspection import IntrospectionSettings
from gateway.config.issuers import TrustedIssuer
from gateway.config.problems import KeyPath, Problem
from gateway.errors import IdentityProviderUnavailable
from gateway.net.http import FetchError, is_secure, open_session, post_form
from gateway.net.tls import Sighting
from gateway.resilience.breaker import Breaker

_log = logging.getLogger(__name__)

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# The provider refuses the gateway itself; asking on would only lock its account.
_OWN_FAULT: Final = frozenset({400, 401, 403, 404})
_CLIENT_ERRORS: Final = frozenset({"invalid_client", "unauthorized_client"})


@dataclass(frozen=True, slots=True)
class InquiryPolicy:
    """How a provider is asked; seconds, bytes and counts.

    Attributes:
        timeout: for one question, waiting for its turn included.
        max_bytes: largest answer read.
        max_concurrent: questions at once.
        max_waiting: questions that wait for their turn; more are turned away at once.
        retry: between two attempts to find the endpoint.
    """

    timeout: float = 5.0
    max_bytes: int = 1 << 16
    max_concurrent: int = 8
    max_waiting: int = 256
    retry: float = 5.0


class Introspector:
    """Asks one provider whether tokens are active. While it is down it is left alone, longer each time.

    Args:
        issuer: whose tokens.
        asked: how it is asked.
        find_endpoint: looks the endpoint up in the issuer's metadata; raises FetchError.
        session: the client to ask with.
        policy: how often, how long, how much.
        clock: Unix time in seconds, for assertions.
        monotonic: seconds, for pauses.
    """

    def __init__(
        self,
        issuer: TrustedIssuer,
        asked: IntrospectionSettings,
        find_endpoint: Callable[[], Awaitable[str]],
        session: aiohttp.ClientSession,
        policy: InquiryPolicy,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self.settings = asked
        self._find_endpoint = find_endpoint
        self._session = session
        self._policy = policy
        self._clock = clock
        self._breaker = Breaker(monotonic)
        self._turns = asyncio.Semaphore(policy.max_concurrent)
        self._waiting = 0
        self._search: Flights[str] = Flights()
        self._endpoint = asked.endpoint
        self._was_found = asked.endpoint is not None
        self._trouble = "" if self._was_found else "the introspection endpoint was not found yet"
        self._key: tuple[str, ClientKey] | None = None
        self.sighting = Sighting()

    @property
    def is_ready(self) -> bool:
        """Whether it is known where to ask."""
        return self._was_found

    def status(self) -> str:
        """ "ready", or what is wrong, for operators."""
        return self._trouble or "ready"

    async def find(self) -> None:
        """Look for the endpoint until it is found: a task in the background, so that readiness is known early."""
        while True:
            try:
                await self._locate()
            except FetchError as error:
                self._note(error.message)
                await asyncio.sleep(self._policy.retry)
            else:
                return

    async def ask(self, token: str) -> dict[str, Any]:
        """The claims of an active bearer token, as the provider states them; `iss` is filled in when it does not.

        Raises:
            Unauthenticated: it is not active, or no bearer token.
            IdentityProviderUnavailable: there is no answer, or none that makes sense.
        """
        if self._waiting >= self._policy.max_waiting:
            raise self._unavailable("too many tokens wait to be asked about")
        if not self._breaker.begin():
            raise self._unavailable(self._trouble)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._policy.timeout), self._turns:
                answer = await self._post(token)
        except FetchError as error:
            if error.status == 400 and error.code not in _CLIENT_ERRORS:
                # It answered, and what it dislikes is this token: no reason to leave it alone.
                self._breaker.succeeded()
                if error.code == "unsupported_token_type":
                    raise refusal(Reason.INACTIVE, "the provider does not look at tokens of this kind") from None
                raise self._unavailable(error.message) from None
            raise self._fail(error.message, is_transient=error.status not in _OWN_FAULT) from None
        except TimeoutError:
            raise self._fail(f"no answer within {self._policy.timeout:g} s") from None
        except UnusableKeyError as error:
            raise self._fail(f"introspection.private_key: {error}", is_transient=False) from None
        except BaseException:
            self._breaker.abandoned()
            raise
        finally:
            self._waiting -= 1
        self._breaker.succeeded()
        self._note("")
        return _claims(answer, self.issuer.issuer)

    async def _post(self, token: str) -> Mapping[str, Any]:
        endpoint = await self._locate()
        form = {"token": token, "token_type_hint": "access_token"}
        headers = {}
        if self.settings.client_secret is not None:
            # Form-encoded before they are joined (RFC 6749 section 2.3.1), so that a colon in either does no harm.
            pair = (self.settings.client_id, self.settings.client_secret.get_secret_value())
            headers["Authorization"] = aiohttp.encode_basic_auth(*map(quote_plus, pair))
        else:
            audience = self.settings.assertion_audience or self.issuer.issuer
            assertion = self._client_key().assertion(self.settings.client_id, audience, self._clock())
            form |= {"client_id": self.settings.client_id, "client_assertion": assertion}
            form["client_assertion_type"] = _ASSERTION_TYPE
        answer = await post_form(
            self._session,
            endpoint,
            form,
            headers=headers,
            max_bytes=self._policy.max_bytes,
            timeout=self._policy.timeout,
            sighting=self.sighting,
        )
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            raise FetchError(f"{endpoint}: the answer does not say whether the token is active")
        return answer

    def _client_key(self) -> ClientKey:
        secret = self.settings.private_key
        pem = secret.get_secret_value() if secret else ""
        # Its file may have changed; reading a key costs more than comparing its text.
        if self._key is None or self._key[0] != pem:
            self._key = (pem, load_client_key(pem, self.settings.key_id))
        return self._key[1]

    async def _locate(self) -> str:
        if self._endpoint is None:
            self._endpoint = await self._search.join(b"", self._find)
            self._was_found = True
            self._note("")
        return self._endpoint

    async def _find(self) -> str:
        return await self._find_endpoint()

    def _fail(self, trouble: str, *, is_transient: bool = True) -> IdentityProviderUnavailable:
        self._breaker.failed(is_transient=is_transient)
        # It may have moved; an explicit setting stays.
        self._endpoint = self.settings.endpoint
        self._note(trouble)
        return self._unavailable(trouble)

    def _unavailable(self, trouble: str) -> IdentityProviderUnavailable:
        return IdentityProviderUnavailable(
            "The access token cannot be checked at the moment; try again in a few seconds.",
            detail=f"{self.issuer.issuer}: introspection: {trouble}",
        )

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.warning("issuer %s cannot be asked about tokens: %s", self.issuer.issuer, trouble)
        elif self._trouble and not trouble:
            _log.info("issuer %s can be asked about tokens", self.issuer.issuer)
        self._trouble = trouble

    async def aclose(self) -> None:
        """Stop looking for the endpoint."""
        await self._search.aclose()


def introspection_problems(path: KeyPath, settings: IntrospectionSettings | None) -> list[Problem]:
    """What makes these settings unusable, without any I/O."""
    found = []
    if settings is not None and settings.endpoint is not None and not is_secure(settings.endpoint):
        found.append(Problem((*path, "endpoint"), "must be an https URL (http on loopback only)"))
    if settings is not None and settings.private_key is not None:
        try:
            load_client_key(settings.private_key.get_secret_value(), settings.key_id)
        except UnusableKeyError as error:
            found.append(Problem((*path, "private_key"), str(error)))
    return found


def _claims(answer: Mapping[str, Any], issuer: str) -> dict[str, Any]:
    """What an answer says of the token (RFC 7662 section 2.2)."""
    if not answer["active"]:
        raise refusal(Reason.INACTIVE, "the provider says that it is not active")
    kind = answer.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise refusal(Reason.TOKEN_TYPE, "token_type is not Bearer")
    claims = {name: value for name, value in answer.items() if name not in ("active", "token_type")}
    return {"iss": issuer, **claims}


@asynccontextmanager
async def open_introspectors(
    keys: Mapping[TrustedIssuer, IssuerKeys],
    policy: InquiryPolicy,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    ca: Path | None = None,
) -> AsyncIterator[dict[str, Introspector]]:
    """Those issuers that can be asked, in the order given; their endpoints are looked up in the background."""
    async with AsyncExitStack() as stack:
        # Apart from the keys' client, so that neither waits behind the other.
        session = await stack.enter_async_context(open_session(policy.max_concurrent, ca))
        found: dict[str, Introspector] = {}
        for issuer, own in keys.items():
            if (asked := issuer.written.introspection) is not None:
                find = partial(own.endpoint, "introspection_endpoint")
                one = found[issuer.issuer] = Introspector(issuer, asked, find, session, policy, clock, monotonic)
                stack.push_async_callback(one.aclose)
        search = asyncio.gather(*(one.find() for one in found.values()))
        try:
            yield found
        finally:
            search.cancel()
            await asyncio.wait([search])
