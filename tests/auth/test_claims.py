"""Claims and their types: what makes a principal, and what does not (RFC 9068 section 4)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.auth.claims import to_principal
from gateway.config.auth import IssuerSettings
from gateway.config.issuers import resolve
from gateway.context import Principal
from gateway.errors import Unauthenticated
from tests.auth.tokens import AUDIENCE, ISSUER

NOW = 1_800_000_000.0
SETTINGS = resolve(IssuerSettings(issuer=ISSUER, audiences=(AUDIENCE, "second")))


def judge(**changes: Any) -> Principal:
    good = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": NOW + 3600, "iat": NOW}
    return to_principal({k: v for k, v in (good | changes).items() if v is not ...}, SETTINGS, NOW)


def reason(**changes: Any) -> str:
    with pytest.raises(Unauthenticated) as caught:
        judge(**changes)
    return caught.value.reason


@pytest.mark.parametrize(
    "exp", [..., None, "1800003600", True, [], {}, 1e300, -1, float("nan"), float("inf"), 10**400, 253_402_300_800]
)
def test_exp_must_be_a_date(exp: Any) -> None:
    assert reason(exp=exp) == "claims"


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize("value", [None, "1", False, [], 1e300, -1, float("nan")])
def test_nbf_and_iat_must_be_dates(name: str, value: Any) -> None:
    assert reason(**{name: value}) == "claims"


def test_dates_are_judged_with_leeway() -> None:
    assert judge(exp=NOW - 29.5).expires_at == NOW - 29.5
    assert reason(exp=NOW - 30) == "expired"
    assert judge(nbf=NOW + 30, iat=NOW + 30)
    assert reason(nbf=NOW + 30.5) == "not_yet_valid"
    assert reason(iat=NOW + 30.5) == "not_yet_valid"
    assert judge(iat=...)


@pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE], ["other", "second"]])
def test_the_audience_must_meet_ours(aud: Any) -> None:
    assert judge(aud=aud)


@pytest.mark.parametrize("aud", ["other", ["other"], [], "", AUDIENCE + "/", AUDIENCE.upper(), AUDIENCE[:-1]])
def test_tokens_for_others_are_refused(aud: Any) -> None:
    assert reason(aud=aud) == "audience"


@pytest.mark.parametrize("aud", [..., None, 5, True, {AUDIENCE: 1}, [AUDIENCE, 5], [None], [[AUDIENCE]]])
def test_the_audience_must_be_text(aud: Any) -> None:
    assert reason(aud=aud) == "claims"


@pytest.mark.parametrize("iss", [..., "", "https://idp.example.com", None, [ISSUER]])
def test_the_issuer_must_be_exact(iss: Any) -> None:
    assert reason(iss=iss) == "unknown_issuer"


@pytest.mark.parametrize("sub", ["", " ", None, 5, True, ["alice"], {}])
def test_a_subject_must_be_text(sub: Any) -> None:
    assert reason(sub=sub, client_id="app") == "claims"


def test_an_application_is_its_own_subject() -> None:
    assert reason(sub=...) == "claims"
    for name in ("client_id", "azp", "appid", "cid"):
        principal = judge(**{"sub": ..., name: "app"})
        assert (principal.subject, principal.client_id) == ("app", "app")
        assert judge(**{name: "app"}).subject == "alice"
        for bad in ("", None, 5, ["app"]):
            assert reason(**{name: bad}) == "claims"
    assert judge().client_id == ""


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, ""),
        ({"scope": ""}, ""),
        ({"scope": "a  b\ta"}, "ab"),
        ({"scp": "a b"}, "ab"),
        ({"scp": ["a", "b"]}, "ab"),
        ({"scp": []}, ""),
        ({"scope": "a", "scp": ["b"]}, "a"),
        ({"roles": ["admin"]}, ""),
    ],
)
def test_scopes(claims: dict[str, Any], scopes: str) -> None:
    assert judge(**claims).scopes == frozenset(scopes)


@pytest.mark.parametrize(
    "claims", [{"scope": ["a"]}, {"scope": None}, {"scope": 5}, {"scp": {"a": 1}}, {"scp": [["a"]]}, {"scp": None}]
)
def test_scopes_must_be_text(claims: dict[str, Any]) -> None:
    assert reason(**claims) == "claims"


@pytest.mark.parametrize("cnf", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, None])
def test_bound_tokens_are_no_bearer_tokens(cnf: Any) -> None:
    assert reason(cnf=cnf) == "sender_constrained"


@pytest.mark.parametrize(
    "claims",
    [
        {"at_hash": "x", "scope": "a"},
        {"c_hash": "x"},
        {"s_hash": "x"},
        {"nonce": "x"},
        {"typ": "ID"},
        {"typ": "Refresh"},
        {"typ": "Offline"},
        {"typ": ["Bearer"]},
        {"token_use": "id"},
        {"tok_type": "IT"},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    ],
)
def test_id_tokens_and_their_kin_are_refused(claims: dict[str, Any]) -> None:
    assert reason(**claims) == "token_type"


@pytest.mark.parametrize(
    "claims",
    [{"nonce": "x", "scope": "a"}, {"nonce": "x", "roles": ["r"]}, {"typ": "Bearer"}, {"tok_type": "AT"}],
)
def test_what_providers_put_into_access_tokens_is_no_harm(claims: dict[str, Any]) -> None:
    assert judge(**claims)


def test_the_claims_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        judge().claims["sub"] = "mallory"  # type: ignore[index]
