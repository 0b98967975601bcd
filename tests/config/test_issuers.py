"""Issuers as they are written, and the plain rules that come of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.config.auth import IssuerSettings
from gateway.config.issuers import TrustedIssuer, resolve
from gateway.config.loader import json_schema, load
from gateway.config.presets import PRESETS
from gateway.config.problems import ConfigError
from tests.config.conftest import Desk

TENANT = "9188040D-6c67-4c5b-b112-36a304b66dad"
LOWER = TENANT.lower()
COMPLETE: dict[str, dict[str, Any]] = {
    "entra": {"tenant": TENANT},
    "okta": {"domain": "example.okta.com"},
    "oci-iam": {"domain": "idcs-1.identity.oraclecloud.com:443"},
    "keycloak": {"domain": "sso.example.com:8443/auth", "realm": "shop"},
}


def rules(**written: Any) -> TrustedIssuer:
    return resolve(IssuerSettings.model_validate_json(json.dumps({"audiences": ["a", "api://b"], **written})))


def mistakes(desk: Desk, *issuers: dict[str, Any]) -> list[str]:
    """The mistakes of these issuers, without file and line; editors accept what has none but contradictions."""
    data = {"auth": {"issuers": [{"audiences": ["a"], **issuer} for issuer in issuers]}}
    found = desk.folder_problems(a=json.dumps(data))
    return [problem.split(": auth.issuers.", 1)[1] for problem in found]


def test_without_a_preset_nothing_is_filled_in() -> None:
    plain = rules(issuer="https://idp.example.com/")
    assert plain.names == {"https://idp.example.com/"}
    assert (plain.discovery, plain.advertised, plain.jwks_uri) == (plain.issuer, plain.issuer, None)
    assert plain.token_types == {"jwt", "at+jwt", "okta-internal-at+jwt"}
    assert (plain.required_claims, plain.scopes_from, plain.max_token_life) == ((), (), None)
    assert (plain.subject_from, plain.client_from) == (("sub",), ("client_id", "azp", "appid", "cid"))


@pytest.mark.parametrize(
    ("preset", "keys", "issuer", "discovery", "advertised"),
    [
        ("entra", {}, f"https://login.microsoftonline.com/{LOWER}/v2.0", None, None),
        (
            "entra",
            {"version": "v1"},
            f"https://sts.windows.net/{LOWER}/",
            f"https://login.microsoftonline.com/{LOWER}",
            f"https://login.microsoftonline.com/{LOWER}/v2.0",
        ),
        ("okta", {}, "https://example.okta.com/oauth2/default", None, None),
        ("okta", {"server": "aus1"}, "https://example.okta.com/oauth2/aus1", None, None),
        (
            "oci-iam",
            {},
            "https://identity.oraclecloud.com/",
            "https://idcs-1.identity.oraclecloud.com:443",
            "https://idcs-1.identity.oraclecloud.com:443",
        ),
        ("keycloak", {}, "https://sso.example.com:8443/auth/realms/shop", None, None),
        ("keycloak", {"realm": "my shop"}, "https://sso.example.com:8443/auth/realms/my%20shop", None, None),
    ],
)
def test_a_preset_knows_the_issuer(
    preset: str, keys: dict[str, Any], issuer: str, discovery: str | None, advertised: str | None
) -> None:
    found = rules(preset=preset, **(COMPLETE[preset] | keys))
    assert (found.issuer, found.discovery, found.advertised) == (issuer, discovery or issuer, advertised or issuer)


def test_keycloak_takes_the_roles_of_the_audiences_only() -> None:
    found = rules(preset="keycloak", **COMPLETE["keycloak"])
    assert found.scopes_from == (
        "scope",
        "realm_access.roles",
        "resource_access.a.roles",
        "resource_access.api://b.roles",
    )


def test_a_slash_at_the_end_varies_only_where_that_is_said() -> None:
    both = {"https://idp.example.com", "https://idp.example.com/"}
    for issuer in both:
        assert rules(issuer=issuer, trailing_slash="any").names == both
        assert rules(issuer=issuer).names == {issuer}
    oracle = rules(preset="oci-iam", **COMPLETE["oci-iam"])
    assert oracle.names == {"https://identity.oraclecloud.com/", "https://identity.oraclecloud.com"}
    assert rules(preset="oci-iam", **COMPLETE["oci-iam"], trailing_slash="exact").names == {oracle.issuer}


@pytest.mark.parametrize("preset", COMPLETE)
def test_every_key_can_be_overridden(preset: str, desk: Desk) -> None:
    written: dict[str, Any] = {
        "issuer": "https://other.example/oauth2/x",
        "trailing_slash": "any",
        "audiences": ["b"],
        "discovery": "https://other.example/d",
        "jwks_uri": "https://other.example/keys",
        "advertised": "https://other.example/as",
        "algorithms": ["ES512"],
        "leeway": "1s",
        "max_token_life": "2h",
        "token_type": "at+jwt",
        "required_claims": ["x"],
        "scopes_from": ["y"],
        "subject_from": ["z"],
        "client_from": ["w"],
    }
    filled = PRESETS[preset].fill(IssuerSettings(audiences=("a",), **COMPLETE[preset]))
    assert filled.keys() <= written.keys()
    for further in (COMPLETE[preset], {}):
        data = {"auth": {"issuers": [{"preset": preset, **further, **written}]}}
        desk.write(a=json.dumps(data))
        [settings] = load(desk.folder).settings.auth.issuers
        assert not list(Draft202012Validator(json_schema()).iter_errors(data))
        found = resolve(settings)
        plain = rules(**written)
        assert all(
            getattr(found, name) == getattr(plain, name) for name in TrustedIssuer.__slots__ if name != "written"
        )


@pytest.mark.parametrize("preset", COMPLETE)
def test_a_preset_needs_its_keys(preset: str, desk: Desk) -> None:
    expected = [f"0.{key}: missing; preset {preset} needs it, or an issuer" for key in PRESETS[preset].needs]
    assert mistakes(desk, {"preset": preset}) == expected
    with pytest.raises(ConfigError):
        rules(preset=preset)


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ({}, ["issuer: missing; it has no default without a preset"]),
        ({"preset": "auth0"}, ["preset: expected one of entra, okta, oci-iam or keycloak"]),
        ({"preset": "auth0", "domain": "x"}, ["preset: expected one of"]),
        ({"issuer": "https://a.example", "tenant": TENANT}, ["tenant: is for preset entra only"]),
        ({"issuer": "https://a.example", "version": "v1"}, ["version: is for preset entra only"]),
        ({"issuer": "https://a.example", "server": "x"}, ["server: is for preset okta only"]),
        ({"issuer": "https://a.example", "domain": "x"}, ["domain: is for preset okta or oci-iam or keycloak only"]),
        ({"preset": "okta", "domain": "x.okta.com", "realm": "r"}, ["realm: is for preset keycloak only"]),
        ({"preset": "entra", "tenant": "common"}, ["tenant: stands for many tenants"]),
        ({"preset": "entra", "tenant": "Organizations"}, ["tenant: stands for many tenants"]),
        ({"preset": "entra", "tenant": "consumers"}, ["tenant: stands for many tenants"]),
        ({"preset": "entra", "tenant": "contoso.example"}, ["tenant: expected the tenant's id, a GUID"]),
        (
            {"preset": "entra", "issuer": "https://login.microsoftonline.com/common/v2.0"},
            ["issuer: stands for many tenants"],
        ),
        (
            {"preset": "entra", "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"},
            ["issuer: stands for many tenants"],
        ),
        ({"preset": "okta", "domain": "https://x.okta.com"}, ["domain: expected a host such as example.okta.com"]),
        ({"preset": "okta", "domain": "x.okta.com/"}, ["domain: expected a host"]),
        ({"preset": "okta", "domain": "x.okta.com", "server": "a/b"}, ["server: expected the id"]),
        ({"preset": "okta", "issuer": "https://x.okta.com"}, ["issuer: expected https://HOST/oauth2/ID"]),
        ({"preset": "oci-iam", "domain": "idcs-1.example/x"}, ["domain: expected a host such as idcs-"]),
        ({"preset": "keycloak", "domain": "a.example/", "realm": "r"}, ["domain: expected a host such as sso"]),
        ({"preset": "keycloak", "domain": "a.example", "realm": "a/b"}, ["realm: expected the name of a realm"]),
        ({"issuer": "https://a.example", "discovery": "ftp://a"}, ["discovery: expected an absolute URL"]),
        ({"issuer": "https://a.example", "discovery": "http://a.example"}, ["discovery: expected https"]),
        ({"issuer": "https://a.example", "advertised": "a.example"}, ["advertised: expected an absolute URL"]),
        ({"issuer": "https://a.example", "max_token_life": "0s"}, ["max_token_life: expected more than"]),
        ({"issuer": "https://a.example", "token_type": "JWT"}, ["token_type: expected one of any-jwt or at+jwt"]),
        ({"issuer": "https://a.example", "scopes_from": ["a..b"]}, ["scopes_from.0: expected"]),
        ({"issuer": "https://a.example", "subject_from": []}, ["subject_from: expected at least 1 item"]),
    ],
)
def test_mistakes_name_the_key(desk: Desk, issuer: dict[str, Any], expected: list[str]) -> None:
    found = mistakes(desk, issuer)
    assert len(found) == len(expected)
    assert all(text.startswith(f"0.{start}") for text, start in zip(found, expected, strict=True)), found


def test_an_iss_belongs_to_one_issuer(desk: Desk) -> None:
    idp = {"issuer": "https://idp.example.com"}
    with_slash = {"issuer": "https://idp.example.com/"}
    same = "the same as auth.issuers.0; give it once, with all audiences"
    assert mistakes(desk, idp, idp) == [f"1.issuer: {same}"]
    assert mistakes(desk, idp, with_slash | {"trailing_slash": "any"}) == [f"1.issuer: {same}"]
    one, other = ({"preset": "oci-iam", "domain": f"idcs-{n}.identity.oraclecloud.com"} for n in (1, 2))
    assert mistakes(desk, one, other) == [f"1.issuer: {same}"]
    desk.write(a=json.dumps({"auth": {"issuers": [{"audiences": ["a"], **each} for each in (idp, with_slash)]}}))
    assert len(load(desk.folder).settings.auth.issuers) == 2
