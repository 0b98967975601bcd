"""Claims and their types: what makes a principal, and what does not (RFC 9068 section 4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def judge_by(rules: dict[str, Any], **changes: Any) -> Principal:
    """The same under further settings of the issuer."""
    written = {"issuer": ISSUER, "audiences": [AUDIENCE], **rules}
    issuer = resolve(IssuerSettings.model_validate_json(json.dumps(written)))
    good = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": NOW + 3600, "iat": NOW}
    return to_principal({k: v for k, v in (good | changes).items() if v is not ...}, issuer, NOW)


def reason_by(rules: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(Unauthenticated) as caught:
        judge_by(rules, **changes)
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


def test_scopes_come_from_every_claim_that_is_named() -> None:
    rules = {"scopes_from": ["scope", "scp", "roles", "realm_access.roles", "resource_access.my.api.roles"]}
    found = judge_by(
        rules,
        scope="a b",
        scp=["c d"],
        roles=["e"],
        realm_access={"roles": ["f"]},
        resource_access={"my.api": {"roles": "g h"}, "other": {"roles": ["no"]}},
        groups=["no"],
    )
    # A list's items are whole; only text is split.
    assert found.scopes == {"a", "b", "c d", "e", "f", "g", "h"}
    assert judge_by(rules).scopes == frozenset()
    assert judge_by(rules, realm_access="text", resource_access=[]).scopes == frozenset()
    wrongs: list[dict[str, Any]] = [
        {"scope": None},
        {"roles": {"a": 1}},
        {"realm_access": {"roles": [["a"]]}},
        {"scp": 5},
    ]
    for wrong in wrongs:
        assert reason_by(rules, **wrong) == "claims"
    # With names of its own the standard ones do not count.
    assert judge_by({"scopes_from": ["roles"]}, scope="a").scopes == frozenset()


def test_claims_that_did_not_fit_are_not_read_as_absent() -> None:
    for path in ("groups", "groups.names"):
        rules = {"scopes_from": ["scope", path]}
        assert reason_by(rules, scope="a", _claim_names={"groups": "src1"}) == "claims_elsewhere"
        assert judge_by(rules, scope="a", _claim_names={"other": "src1"}).scopes == {"a"}
    assert reason_by({"scopes_from": ["groups"]}, hasgroups=True) == "claims_elsewhere"
    assert judge_by({}, _claim_names={"groups": "src1"})
    assert reason_by({}, _claim_names={"sub": "src1"}) == "claims_elsewhere"


def test_the_subject_is_what_its_claims_say_together() -> None:
    pair = {"subject_from": ["tid", "user.id"]}
    assert judge_by(pair, tid="t", user={"id": "u"}).subject == "t/u"
    user = {"id": "u"}
    wrongs: list[dict[str, Any]] = [
        {"tid": "t"},
        {"user": user},
        {"tid": "t", "user": {"id": ""}},
        {"tid": 5, "user": user},
    ]
    for wrong in wrongs:
        assert reason_by(pair, **wrong) == "claims"
    # Or another pair would be the same caller.
    assert reason_by(pair, tid="t/u", user={"id": "v"}) == "claims"
    assert judge_by({"subject_from": ["path"]}, path="a/b").subject == "a/b"


def test_the_client_is_the_subject_only_of_its_own_token() -> None:
    by_uid = {"subject_from": ["uid"]}
    assert judge_by(by_uid, uid="u", client_id="app").subject == "u"
    assert judge_by(by_uid, sub="app", client_id="app").subject == "app"
    assert judge_by(by_uid, sub=..., client_id="app").subject == "app"
    assert reason_by(by_uid, sub="alice", client_id="app") == "claims"
    assert reason_by(by_uid, sub=...) == "claims"


def test_the_client_is_the_first_claim_that_is_there() -> None:
    rules = {"client_from": ["actor.id", "azp"]}
    assert judge_by(rules, actor={"id": "a"}, azp="b", client_id="c").client_id == "a"
    assert judge_by(rules, azp="b", client_id="c").client_id == "b"
    assert judge_by(rules, client_id="c").client_id == ""
    assert reason_by(rules, actor={"id": 5}, azp="b") == "claims"


def test_a_life_beyond_the_maximum_is_refused_from_its_first_second_to_its_last() -> None:
    rules = {"max_token_life": "1h"}
    assert judge_by(rules)
    assert reason_by(rules, exp=NOW + 3601) == "lifetime"
    assert reason_by(rules, iat=NOW - 86_400, exp=NOW + 1) == "lifetime"
    assert reason_by(rules, iat=...) == "lifetime"
    assert judge_by({}, iat=NOW - 86_400, exp=NOW + 86_400 * 3650)


def test_required_claims_must_be_there_whatever_they_say() -> None:
    rules = {"required_claims": ["tok_type", "a.b"]}
    assert judge_by(rules, tok_type="AT", a={"b": None})
    wrongs: list[dict[str, Any]] = [
        {"tok_type": "AT"},
        {"a": {"b": 1}},
        {"tok_type": "AT", "a": {}},
        {"tok_type": "AT", "a": "b"},
    ]
    for missing in wrongs:
        assert reason_by(rules, **missing) == "token_type"


_NAMES = ["scope", "scp", "roles", "a", "tid", "oid", "azp", "sub", "_claim_names", "hasgroups", "groups"]
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["roles", "a", "groups"]), inner, max_size=2)
    ),
    max_leaves=4,
)
_rules = {
    "scopes_from": st.lists(st.sampled_from(["scope", "roles", "a.roles", "a.a.roles", "groups"]), max_size=3),
    "subject_from": st.lists(st.sampled_from(["tid", "oid", "a.a"]), min_size=1, max_size=2),
    "client_from": st.lists(st.sampled_from(["azp", "a.roles"]), min_size=1, max_size=2),
    "required_claims": st.lists(st.sampled_from(["azp", "a.groups"]), max_size=1),
}


@given(claims=st.dictionaries(st.sampled_from(_NAMES), _values), rules=st.fixed_dictionaries({}, optional=_rules))
def test_any_claims_under_any_rules_are_a_principal_or_unauthenticated(
    claims: dict[str, Any], rules: dict[str, Any]
) -> None:
    try:
        principal = judge_by(rules, **claims)
    except Unauthenticated:
        return
    assert principal.subject.strip()
    assert all(isinstance(scope, str) for scope in principal.scopes)
