"""Asking providers about tokens: what they may say, how they fail, and who is asked how often."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt import decode, get_unverified_header

from gateway.auth.base import Verifier
from gateway.auth.claims import to_principal
from gateway.auth.introspection import InquiryPolicy, _claims
from gateway.auth.jwt import UnusableKeyError, load_client_key
from gateway.auth.problems import problems
from gateway.auth.verifier import open_verifier
from gateway.config.auth import IssuerSettings
from gateway.config.issuers import resolve
from gateway.config.problems import ConfigError
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from tests.auth.provider import Answer, Clock, FaultyProvider, answers, asking_settings, until, until_ready
from tests.auth.tokens import AUDIENCE, ISSUER
from tests.tally import Tally

GOOD = json.dumps({"active": True})


def pem(key: Any) -> str:
    return str(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    )


async def reason_of(verifier: Verifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    return caught.value.reason


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FaultyProvider]:
    async with FaultyProvider() as opened:
        yield opened


async def test_who_asks_and_what(provider: FaultyProvider) -> None:
    provider.hand_out("opaque-1")
    async with open_verifier(asking_settings(provider, client_id="a b", client_secret="s:1")) as verifier:
        principal = await verifier.verify("opaque-1")
    assert (principal.subject, principal.client_id, principal.scopes) == ("agent", "agent", frozenset("ab"))
    [question] = provider.questions
    assert question["token"] == "opaque-1"
    assert question["token_type_hint"] == "access_token"
    assert question["authorization"] == "Basic YStiOnMlM0Ex"  # a+b:s%3A1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"active": False}, "inactive"),
        ({"aud": ...}, "claims"),
        ({"aud": "https://elsewhere.example.com"}, "audience"),
        ({"aud": 7}, "claims"),
        ({"exp": ...}, "claims"),
        ({"exp": 1}, "expired"),
        ({"exp": "9999999999"}, "claims"),
        ({"exp": 1e300}, "claims"),
        ({"nbf": 9_999_999_999}, "not_yet_valid"),
        ({"iat": 9_999_999_999}, "not_yet_valid"),
        ({"iss": "https://another.example.com"}, "unknown_issuer"),
        ({"iss": None}, "unknown_issuer"),
        ({"cnf": {"jkt": "x"}}, "sender_constrained"),
        ({"token_type": "DPoP"}, "token_type"),
        ({"token_type": "refresh_token"}, "token_type"),
        ({"token_type": 1}, "token_type"),
        ({"sub": "", "client_id": ...}, "claims"),
        ({"sub": ..., "client_id": ...}, "claims"),
        ({"scope": ["a"]}, "claims"),
        ({"events": {}}, "token_type"),
    ],
)
async def test_answers_that_let_nobody_in(provider: FaultyProvider, changes: dict[str, Any], reason: str) -> None:
    provider.hand_out("opaque", **changes)
    async with open_verifier(asking_settings(provider)) as verifier:
        assert await reason_of(verifier, "opaque") == reason
        assert verifier.known("opaque") is None


@pytest.mark.parametrize(
    "changes", [{"iss": ...}, {"token_type": ...}, {"token_type": "bearer"}, {"sub": ...}, {"scope": ...}]
)
async def test_answers_may_leave_out_what_is_optional(provider: FaultyProvider, changes: dict[str, Any]) -> None:
    provider.hand_out("opaque", **changes)
    async with open_verifier(asking_settings(provider)) as verifier:
        principal = await verifier.verify("opaque")
        assert (principal.issuer, principal.subject) == (provider.issuer, "agent")


FAULTS = {
    "500": answers("", 500),
    "503": answers(GOOD, 503),
    "credentials refused": answers('{"error": "invalid_client"}', 401),
    "credentials refused otherwise": answers('{"error": "invalid_client"}', 400),
    "gone": answers("", 404),
    "html": answers("<html>active: true</html>", content_type="text/html"),
    "not an object": answers("[true]"),
    "no word of active": answers('{"sub": "agent"}'),
    "active as text": answers('{"active": "true"}'),
    "active as a number": answers('{"active": 1}'),
    "redirect": answers("", 302, Location="/introspect"),
    "huge": answers('{"active": true, "pad": "' + "x" * 100_000 + '"}'),
    "empty": answers(""),
    "a JWT (RFC 9701)": answers("eyJhbGciOiJub25lIn0.e30.", content_type="application/token-introspection+jwt"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_provider_in_trouble_is_no_verdict(provider: FaultyProvider, fault: Answer) -> None:
    monotonic = Clock(0.0)
    provider.faults["/introspect"] = fault
    provider.hand_out("opaque")
    async with open_verifier(asking_settings(provider), monotonic=monotonic) as verifier:
        for _ in range(50):
            with pytest.raises(IdentityProviderUnavailable) as caught:
                await verifier.verify("opaque")
            assert provider.issuer not in caught.value.message
            assert "opaque" not in caught.value.detail
        # It is left alone after the first failure.
        assert provider.requests["/introspect"] == 1
        assert "introspection" in verifier.status()[provider.issuer]
        assert verifier.counters.unavailable == 50
        provider.faults.clear()
        monotonic.now += 60
        assert (await verifier.verify("opaque")).subject == "agent"
        assert verifier.counters.refusals.total() == 0


async def test_a_token_that_the_provider_dislikes_blocks_nobody_else(provider: FaultyProvider) -> None:
    provider.hand_out("good")
    async with open_verifier(asking_settings(provider)) as verifier:
        provider.faults["/introspect"] = answers('{"error": "unsupported_token_type"}', 400)
        assert await reason_of(verifier, "odd") == "inactive"
        provider.faults["/introspect"] = answers('{"error": "invalid_request"}', 400)
        with pytest.raises(IdentityProviderUnavailable, match="cannot be checked"):
            await verifier.verify("odder")
        provider.faults.clear()
        assert (await verifier.verify("good")).subject == "agent"


async def test_a_slow_provider_holds_nobody_longer_than_its_time(provider: FaultyProvider) -> None:
    policy = InquiryPolicy(timeout=0.3, max_concurrent=4, max_waiting=10)
    async with open_verifier(asking_settings(provider), inquiry=policy) as verifier:
        provider.flowing.clear()
        started = time.monotonic()
        results = await asyncio.gather(*(verifier.verify(f"t{n}") for n in range(200)), return_exceptions=True)
        assert time.monotonic() - started < 3
        assert all(isinstance(result, IdentityProviderUnavailable) for result in results)
        assert 4 <= provider.requests["/introspect"] <= 10
        # Those beyond the waiting ones were turned away without a question.
        assert sum("too many" in result.detail for result in results if isinstance(result, Unavailable)) == 190


Unavailable = IdentityProviderUnavailable


async def test_questions_at_once_are_bounded_and_all_answered(provider: FaultyProvider) -> None:
    for number in range(100):
        provider.hand_out(f"t{number}", sub=f"s{number}")
    async with open_verifier(asking_settings(provider), inquiry=InquiryPolicy(max_concurrent=3)) as opened:
        verifier = await until_ready(opened)
        provider.most_at_once = 0
        principals = await asyncio.gather(*(verifier.verify(f"t{number}") for number in range(100)))
        assert [each.subject for each in principals] == [f"s{number}" for number in range(100)]
        assert 1 <= provider.most_at_once <= 3


async def test_who_leaves_does_not_take_the_answer_along(provider: FaultyProvider) -> None:
    provider.hand_out("opaque")
    async with open_verifier(asking_settings(provider)) as opened:
        verifier = await until_ready(opened)
        provider.flowing.clear()
        waiting = [asyncio.create_task(verifier.verify("opaque")) for _ in range(20)]
        await until(lambda: provider.requests["/introspect"] == 1)
        for task in waiting[:19]:
            task.cancel()
        await asyncio.sleep(0)
        provider.flowing.set()
        assert (await waiting[19]).subject == "agent"
        assert all(task.cancelled() for task in waiting[:19])
        # Everybody may leave: the answer is there for the next.
        provider.hand_out("second")
        provider.flowing.clear()
        alone = asyncio.create_task(verifier.verify("second"))
        await until(lambda: provider.requests["/introspect"] == 2)
        alone.cancel()
        provider.flowing.set()
        await until(lambda: verifier.known("second") is not None)
        assert provider.requests["/introspect"] == 2


async def test_closing_ends_what_is_in_the_air(provider: FaultyProvider) -> None:
    async with open_verifier(asking_settings(provider)) as verifier:
        provider.flowing.clear()
        waiting = asyncio.create_task(verifier.verify("opaque"))
        await until(lambda: provider.requests["/introspect"] == 1)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_several_issuers_are_asked_in_order_until_one_knows(provider: FaultyProvider) -> None:
    async with FaultyProvider() as second, FaultyProvider() as third:
        settings = asking_settings(provider, second, third)
        issuers = list(settings.issuers)
        assert issuers[1].introspection is not None
        jwts_only = issuers[1].introspection.model_copy(update={"opaque": False, "required": True})
        issuers[1] = issuers[1].model_copy(update={"introspection": jwts_only})
        settings = settings.model_copy(update={"issuers": tuple(issuers)})
        monotonic = Clock(0.0)
        async with open_verifier(settings, monotonic=monotonic) as verifier:
            third.hand_out("of-third")
            assert (await verifier.verify("of-third")).issuer == third.issuer
            assert len(provider.questions) == len(third.questions) == 1
            assert not second.questions
            assert await reason_of(verifier, "of-nobody") == "inactive"
            # Who vouches for another issuer's token is not believed.
            provider.hand_out("borrowed", iss=third.issuer)
            assert await reason_of(verifier, "borrowed") == "unknown_issuer"
            # The first might know it, and cannot be asked: that is no refusal; the third's own are still good.
            provider.faults["/introspect"] = answers("", 500)
            with pytest.raises(IdentityProviderUnavailable):
                await verifier.verify("of-somebody")
            third.hand_out("of-third-2")
            assert (await verifier.verify("of-third-2")).issuer == third.issuer


class TestRequired:
    """JWTs that the provider wants to be asked about."""

    async def test_a_jwt_is_verified_and_then_asked_about(self, provider: FaultyProvider) -> None:
        settings = asking_settings(provider, required=True, opaque=False)
        async with open_verifier(settings) as opened:
            verifier = await until_ready(opened)
            good = provider.issue("agent", scopes=["a", "b"])
            provider.hand_out(good, scope="a", token_type=...)
            principal = await verifier.verify(good)
            # What the provider says now counts more than what the token said then.
            assert principal.scopes == frozenset("a")
            assert principal.claims["jti"]
            assert verifier.known(good) is principal
            assert await reason_of(verifier, provider.issue("agent")) == "inactive"
            assert await reason_of(verifier, good[:-8] + "AAAAAAAA") == "signature"
            assert await reason_of(verifier, "opaque") == "malformed"
            assert len(provider.questions) == 2

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"sub": "somebody"}, "claims"),
            ({"iss": "https://another.example.com"}, "unknown_issuer"),
            ({"aud": "https://elsewhere.example.com"}, "audience"),
            ({"exp": 1}, "expired"),
            ({"exp": "soon"}, "claims"),
            ({"cnf": {}}, "sender_constrained"),
        ],
    )
    async def test_contradictions(self, provider: FaultyProvider, changes: dict[str, Any], reason: str) -> None:
        async with open_verifier(asking_settings(provider, required=True)) as opened:
            verifier = await until_ready(opened)
            token = provider.issue("agent")
            provider.hand_out(token, **changes)
            assert await reason_of(verifier, token) == reason

    async def test_the_answer_lengthens_no_life(self, provider: FaultyProvider) -> None:
        async with open_verifier(asking_settings(provider, required=True)) as opened:
            verifier = await until_ready(opened)
            end = int(time.time()) + 100
            token = provider.issue("agent", claims={"exp": end})
            provider.hand_out(token, exp=end + 100_000)
            assert (await verifier.verify(token)).expires_at == end

    async def test_revocation_and_lost_keys(self, provider: FaultyProvider) -> None:
        clock = Clock(time.time())
        async with open_verifier(asking_settings(provider, required=True, max_age="20s"), clock=clock) as opened:
            verifier = await until_ready(opened)
            token, other = provider.issue("agent"), provider.issue("agent", scopes=["a"])
            for each in (token, other):
                provider.hand_out(each)
                await verifier.verify(each)
            del provider.known[token]
            clock.now += 19.9
            assert verifier.known(token)
            clock.now += 0.1
            assert await reason_of(verifier, token) == "inactive"
            await verifier.verify(other)
            provider.rotate(keep_old=False)
            new = provider.hand_out(provider.issue("agent"))
            await verifier.verify(new)
            assert verifier.known(other) is None

    async def test_it_is_never_open_while_the_provider_is_down(self, provider: FaultyProvider) -> None:
        async with open_verifier(asking_settings(provider, required=True)) as opened:
            verifier = await until_ready(opened)
            provider.faults["/introspect"] = answers("", 500)
            with pytest.raises(IdentityProviderUnavailable):
                await verifier.verify(provider.hand_out(provider.issue("agent")))


async def test_opaque_tokens_need_no_keys(provider: FaultyProvider) -> None:
    provider.break_all(answers("", 404))
    provider.hand_out("opaque")
    async with open_verifier(asking_settings(provider)) as verifier:
        assert verifier.is_ready
        assert (await verifier.verify("opaque")).subject == "agent"
        await until(lambda: "404" in verifier.status()[provider.issuer])
        assert "introspection: ready" in verifier.status()[provider.issuer]
    async with open_verifier(asking_settings(provider, opaque=False, required=True)) as verifier:
        assert not verifier.is_ready


async def test_an_endpoint_that_discovery_does_not_name(provider: FaultyProvider) -> None:
    async with open_verifier(asking_settings(provider, endpoint=None)) as opened:
        verifier = await until_ready(opened)
        with pytest.raises(IdentityProviderUnavailable) as caught:
            await verifier.verify("opaque")
        assert "introspection_endpoint" in caught.value.detail


async def test_without_introspection_an_opaque_token_is_malformed(provider: FaultyProvider) -> None:
    settings = asking_settings(provider)
    bare = settings.issuers[0].model_copy(update={"introspection": None})
    async with open_verifier(settings.model_copy(update={"issuers": (bare,)})) as verifier:
        assert await reason_of(verifier, "opaque") == "malformed"
    assert not provider.questions


KEYS: Final[dict[str, Any]] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("algorithm", KEYS)
async def test_assertions_are_good_once_and_for_a_minute(provider: FaultyProvider, algorithm: str) -> None:
    own: dict[str, Any] = {"client_secret": None, "private_key": pem(KEYS[algorithm]), "key_id": "k"}
    seen = set()
    async with open_verifier(asking_settings(provider, **own, max_age="0s")) as verifier:
        for token in ("one", "two"):
            provider.hand_out(token)
            await verifier.verify(token)
    for question in provider.questions:
        assertion = question["client_assertion"]
        assert question["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert not question["authorization"]
        said = decode(assertion, KEYS[algorithm].public_key(), [algorithm], audience=provider.issuer)
        assert said["iss"] == said["sub"] == question["client_id"] == "gw"
        assert said["exp"] - said["iat"] == 60
        assert get_unverified_header(assertion)["kid"] == "k"
        seen.add(said["jti"])
    assert len(seen) == 2


@pytest.mark.parametrize(
    "text",
    [
        "word",
        pem(rsa.generate_private_key(65537, 1024)),
        pem(ec.generate_private_key(ec.SECP521R1())),
        pem(KEYS["RS256"]).replace("A", "B"),
        KEYS["ES256"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    ],
)
async def test_keys_that_cannot_sign(provider: FaultyProvider, text: str) -> None:
    with pytest.raises(UnusableKeyError):
        load_client_key(text, None)
    settings = asking_settings(provider, client_secret=None, private_key=text)
    [problem] = problems(settings)
    assert problem.path == ("auth", "issuers", 0, "introspection", "private_key")
    assert text not in str(problem)
    with pytest.raises(ConfigError):
        async with open_verifier(settings):
            pass


async def test_an_endpoint_in_the_clear_is_refused(provider: FaultyProvider) -> None:
    [problem] = problems(asking_settings(provider, endpoint="http://idp.example.com/introspect"))
    assert problem.path == ("auth", "issuers", 0, "introspection", "endpoint")


_TEXTS = st.sampled_from(["", "agent", "Bearer", AUDIENCE, "a b", ISSUER])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(
    ["iss", "sub", "aud", "exp", "iat", "nbf", "scope", "scp", "client_id", "token_type", "cnf", "typ", "nonce", "x"]
)


REFUSED: Counter[str] = Counter()


@given(st.dictionaries(_NAMES, _VALUES, max_size=6), st.sets(_NAMES, max_size=2))
def any_answer_is_a_principal_or_a_refusal(changes: dict[str, Any], absent: set[str]) -> None:
    now = time.time()
    issuer = resolve(IssuerSettings(issuer=ISSUER, audiences=(AUDIENCE,)))
    good = {"active": True, "sub": "agent", "aud": AUDIENCE, "exp": now + 60, "scope": "a"}
    answer = {name: value for name, value in (good | changes).items() if name not in absent}
    try:
        principal = to_principal(_claims(answer, ISSUER), issuer, now)
    except Unauthenticated as error:
        REFUSED[error.reason] += 1
        return
    assert principal.issuer == ISSUER
    assert principal.subject.strip()
    assert principal.expires_at > now - issuer.leeway
    assert AUDIENCE in (answer["aud"] if isinstance(answer["aud"], list) else [answer["aud"]])
    assert "cnf" not in answer


def test_any_answer_is_a_principal_or_a_refusal(tally: Tally) -> None:
    any_answer_is_a_principal_or_a_refusal()
    tally(", ".join(f"{reason} {count}" for reason, count in sorted(REFUSED.items())))
    assert "" not in REFUSED
    assert len(REFUSED) >= 2


async def test_the_rules_of_the_issuer_hold_for_answers_too(provider: FaultyProvider) -> None:
    settings = asking_settings(provider)
    rules = {"scopes_from": ("realm.roles",), "subject_from": ("tid", "oid"), "max_token_life": 60.0}
    issuer = settings.issuers[0].model_copy(update=rules)
    async with open_verifier(settings.model_copy(update={"issuers": (issuer,)})) as verifier:
        now = int(time.time())
        said = {"realm": {"roles": ["r1", "r2"]}, "tid": "t", "oid": "o", "exp": now + 50, "iat": now}
        provider.hand_out("good", **said)
        provider.hand_out("long", **said | {"exp": now + 90})
        principal = await verifier.verify("good")
        assert (principal.subject, principal.scopes) == ("t/o", frozenset({"r1", "r2"}))
        assert await reason_of(verifier, "long") == "lifetime"


async def test_an_odd_token_never_reaches_the_provider(provider: FaultyProvider) -> None:
    async with open_verifier(asking_settings(provider)) as verifier:
        for token, reason in (("\u00e9", "malformed"), ("\ud800", "malformed"), ("x" * 20_000, "too_large")):
            assert await reason_of(verifier, token) == reason
    assert not provider.questions
