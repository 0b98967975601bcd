"""The presets against providers simulated over real HTTP: their discovery layout, their keys, their tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.metadata import resource_metadata
from gateway.auth.verifier import TokenVerifier, open_verifier
from gateway.config.auth import AuthSettings
from gateway.config.loader import load
from gateway.context import Principal
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from tests.auth.provider import FaultyProvider, answers, until_ready
from tests.auth.tokens import claims, jwk, rsa_key, sign

TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
API = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"
RESOURCE = "https://mcp.example.com/mcp"


@dataclass(frozen=True)
class Simulation:
    """A verifier whose keys came from the simulated provider, and that provider."""

    verifier: TokenVerifier
    provider: FaultyProvider
    settings: AuthSettings

    async def reason_of(self, token: str) -> str:
        with pytest.raises(Unauthenticated) as caught:
            await self.verifier.verify(token)
        return caught.value.reason

    async def admitted(self, token: str) -> tuple[str, str, set[str]]:
        principal: Principal = await self.verifier.verify(token)
        assert principal.issuer in self.verifier.status()
        return principal.subject, principal.client_id, set(principal.scopes)


@asynccontextmanager
async def simulated(
    folder: Path, issuer: Mapping[str, Any], *, stated: str, document: str, keys: str, key: Mapping[str, Any]
) -> AsyncIterator[Simulation]:
    """The issuer's settings, read from YAML, against a provider with this layout.

    Args:
        stated: the issuer that the discovery document names.
        document: its path on the provider.
        keys: the path of the key set.
        key: further members of the signing key.
    """
    async with FaultyProvider() as provider:
        base = provider.issuer
        public = jwk(rsa_key("main"), "RS256", "k1", use="sig", **key)
        encryption = jwk(rsa_key("encryption"), "RS256", "enc", use="enc", alg="RSA-OAEP")
        provider.faults[document] = answers(json.dumps({"issuer": stated, "jwks_uri": base + keys}))
        provider.faults[keys] = answers(json.dumps({"keys": [encryption, public]}))
        text = json.dumps({"auth": {"issuers": [issuer]}}).replace("{base}", base)
        (folder / "gateway.yaml").write_text(text)
        settings = load(folder / "gateway.yaml").settings.auth
        async with open_verifier(settings) as opened:
            yield Simulation(await until_ready(opened), provider, settings)


def token(good: Mapping[str, Any], header: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """A token of that shape, with a valid time."""
    times = {name: claims()[name] for name in ("iat", "exp")}
    payload = {name: value for name, value in {**times, **good, **changes}.items() if value is not ...}
    return sign(payload, header={"typ": "JWT", **(header or {})})


ENTRA = {
    "aud": API,
    "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0",
    "aio": "x",
    "azp": CLIENT,
    "azpacr": "1",
    "name": "Ada",
    "oid": "0a0a0a0a-0000-0000-0000-00000000000a",
    "preferred_username": "ada@example.com",
    "rh": "x",
    "scp": "customers.read orders.read",
    "sub": "pairwise",
    "tid": TENANT,
    "uti": "x",
    "ver": "2.0",
}
ENTRA_APPLICATION = {
    **{name: value for name, value in ENTRA.items() if name not in ("scp", "name", "preferred_username")},
    "roles": ["customers.read"],
    "idtyp": "app",
    "sub": "0a0a0a0a-0000-0000-0000-00000000000a",
}
ADA = f"{TENANT}/0a0a0a0a-0000-0000-0000-00000000000a"


def entra(folder: Path, **issuer: Any) -> Any:
    return simulated(
        folder,
        {"preset": "entra", "tenant": TENANT, "audiences": [API], "discovery": f"{{base}}/{TENANT}/v2.0", **issuer},
        stated=f"https://login.microsoftonline.com/{TENANT}/v2.0",
        document=f"/{TENANT}/v2.0/.well-known/openid-configuration",
        keys=f"/{TENANT}/discovery/v2.0/keys",
        key={"x5t": "x", "x5c": ["MII"], "issuer": f"https://login.microsoftonline.com/{TENANT}/v2.0"},
    )


async def test_entra_users_and_applications(tmp_path: Path) -> None:
    async with entra(tmp_path) as there:
        header = {"x5t": "x"}
        assert await there.admitted(token(ENTRA, header)) == (ADA, CLIENT, {"customers.read", "orders.read"})
        assert await there.admitted(token(ENTRA_APPLICATION, header)) == (ADA, CLIENT, {"customers.read"})
        both = token(ENTRA, header, roles=["admin"])
        assert await there.admitted(both) == (ADA, CLIENT, {"customers.read", "orders.read", "admin"})
        named = resource_metadata(RESOURCE, there.settings, ())["authorization_servers"]
        assert named == [f"https://login.microsoftonline.com/{TENANT}/v2.0"]


async def test_entra_refuses_what_is_no_access_token_of_this_tenant(tmp_path: Path) -> None:
    async with entra(tmp_path) as there:
        # An ID token of an application that is its own API: right audience, issuer, key and type, even no nonce.
        assert await there.reason_of(token(ENTRA, azp=..., azpacr=..., scp=...)) == "token_type"
        other = "https://login.microsoftonline.com/00000000-0000-0000-0000-000000000001/v2.0"
        for iss in (other, f"https://sts.windows.net/{TENANT}/", ENTRA["iss"] + "/"):
            assert await there.reason_of(token(ENTRA, iss=iss)) == "unknown_issuer"
        assert await there.reason_of(token(ENTRA, oid=...)) == "claims"
        assert await there.reason_of(token(ENTRA, tid=...)) == "claims"
        assert await there.reason_of(token(ENTRA, oid="a/b")) == "claims"
        assert await there.reason_of(token(ENTRA, aud="00000003-0000-0000-c000-000000000000")) == "audience"
        assert await there.reason_of(token(ENTRA, roles=[5])) == "claims"
        assert await there.reason_of(token(ENTRA, cnf={"kid": "x", "xms_ksl": "sw"})) == "sender_constrained"
        other_algorithm = sign({**claims(), **ENTRA}, algorithm="PS256", header={"typ": "JWT"})
        assert await there.reason_of(other_algorithm) == "algorithm"


async def test_entra_groups_that_did_not_fit_are_not_no_groups(tmp_path: Path) -> None:
    overage: dict[str, Any] = {
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": "https://graph.windows.net/x/users/y/getMemberObjects"}},
    }
    async with entra(tmp_path, scopes_from=["scp", "roles", "groups"]) as there:
        assert (await there.admitted(token(ENTRA, groups=["g1"])))[2] == {"customers.read", "orders.read", "g1"}
        assert await there.reason_of(token(ENTRA, **overage)) == "claims_elsewhere"
        assert await there.reason_of(token(ENTRA, hasgroups=True)) == "claims_elsewhere"
        assert await there.reason_of(token(ENTRA, _claim_names=["groups"])) == "claims"
    async with entra(tmp_path) as there:
        principal = await there.verifier.verify(token(ENTRA, **overage))
        assert "groups" not in principal.claims


async def test_entra_v1_tokens_have_another_issuer_and_other_names(tmp_path: Path) -> None:
    v1 = {
        **{name: value for name, value in ENTRA.items() if not name.startswith("azp")},
        "iss": f"https://sts.windows.net/{TENANT}/",
        "aud": f"api://{API}",
        "appid": CLIENT,
        "appidacr": "1",
        "ver": "1.0",
        "upn": "ada@example.com",
        "unique_name": "ada@example.com",
    }
    async with simulated(
        tmp_path,
        {
            "preset": "entra",
            "tenant": TENANT.upper(),
            "version": "v1",
            "discovery": f"{{base}}/{TENANT}",
            "audiences": [API, f"api://{API}"],
        },
        stated=f"https://sts.windows.net/{TENANT}/",
        document=f"/{TENANT}/.well-known/openid-configuration",
        keys="/common/discovery/keys",
        key={},
    ) as there:
        assert await there.admitted(token(v1)) == (ADA, CLIENT, {"customers.read", "orders.read"})
        assert await there.reason_of(token(ENTRA)) == "unknown_issuer"
        assert await there.reason_of(token(v1, appid=...)) == "token_type"
        named = resource_metadata(RESOURCE, there.settings, ())["authorization_servers"]
        assert named == [f"https://login.microsoftonline.com/{TENANT}/v2.0"]


OKTA = {
    "ver": 1,
    "jti": "AT.x",
    "iss": "https://example.okta.com/oauth2/aus1",
    "aud": RESOURCE,
    "cid": "0oa1",
    "uid": "00u1",
    "scp": ["customers:read", "openid"],
    "auth_time": 1_700_000_000,
    "sub": "ada@example.com",
}


async def test_okta(tmp_path: Path) -> None:
    async with simulated(
        tmp_path,
        {
            "preset": "okta",
            "domain": "example.okta.com",
            "server": "aus1",
            "audiences": [RESOURCE],
            "discovery": "{base}/oauth2/aus1/.well-known/oauth-authorization-server",
        },
        stated="https://example.okta.com/oauth2/aus1",
        document="/oauth2/aus1/.well-known/oauth-authorization-server",
        keys="/oauth2/aus1/v1/keys",
        key={"alg": "RS256"},
    ) as there:
        scopes = {"customers:read", "openid"}
        for typ in ("application/okta-internal-at+jwt", "JWT", ...):
            assert await there.admitted(token(OKTA, {"typ": typ})) == ("00u1", "0oa1", scopes)
        application = {**OKTA, "sub": "0oa1", "uid": ...}
        assert await there.admitted(token(application)) == ("0oa1", "0oa1", scopes)
        # Somebody's token without `uid` is not taken for the application's.
        assert await there.reason_of(token(OKTA, uid=...)) == "claims"
        assert await there.reason_of(token(OKTA, iss="https://example.okta.com")) == "unknown_issuer"
        assert await there.reason_of(token(OKTA, iss="https://example.okta.com/oauth2/default")) == "unknown_issuer"
        identity = {**OKTA, "aud": "0oa1", "cid": ..., "scp": ..., "uid": ..., "at_hash": "x", "nonce": "n"}
        assert await there.reason_of(token(identity)) == "token_type"
        assert await there.reason_of(token(OKTA, cid=...)) == "token_type"
        assert there.provider.requests["/.well-known/openid-configuration"] == 0


ORACLE = {
    "iss": "https://identity.oraclecloud.com/",
    "aud": [RESOURCE],
    "tok_type": "AT",
    "sub_type": "client",
    "sub": "app1",
    "client_id": "app1",
    "client_name": "agent",
    "scope": "customers:read",
    "tenant": "idcs-1",
}


@pytest.mark.parametrize("stated", ["https://identity.oraclecloud.com/", "https://identity.oraclecloud.com"])
async def test_oci_iam(tmp_path: Path, stated: str) -> None:
    async with simulated(
        tmp_path,
        {
            "preset": "oci-iam",
            "domain": "idcs-1.identity.oraclecloud.com",
            "audiences": [RESOURCE],
            "discovery": "{base}",
        },
        stated=stated,
        document="/.well-known/openid-configuration",
        keys="/admin/v1/SigningCert/jwk",
        key={"alg": "RS256", "x5t": "x"},
    ) as there:
        for iss in ("https://identity.oraclecloud.com/", "https://identity.oraclecloud.com"):
            principal = await there.verifier.verify(token(ORACLE, iss=iss))
            assert (principal.issuer, principal.subject) == ("https://identity.oraclecloud.com/", "app1")
            assert principal.scopes == {"customers:read"}
        user = {**ORACLE, "sub": "ada@example.com", "sub_type": "user", "user_id": "5f1e"}
        assert await there.admitted(token(user)) == ("5f1e", "app1", {"customers:read"})
        assert await there.reason_of(token(user, user_id=...)) == "claims"
        for kind in ("IT", "RT", None, ...):
            assert await there.reason_of(token(ORACLE, tok_type=kind)) == "token_type"
        assert await there.reason_of(token(ORACLE, iss="https://identity.oraclecloud.com//")) == "unknown_issuer"
        named = resource_metadata(RESOURCE, there.settings, ())["authorization_servers"]
        assert named == ["https://idcs-1.identity.oraclecloud.com"]
        there.provider.faults["/admin/v1/SigningCert/jwk"] = answers("", 401)
        # Nobody said that there is no such key: the token may be good.
        with pytest.raises(IdentityProviderUnavailable):
            await there.reason_of(sign({**claims(), **ORACLE}, kid="new", header={"typ": "JWT"}))
        assert "HTTP status 401" in there.verifier.status()["https://identity.oraclecloud.com/"]


KEYCLOAK = {
    "jti": "x",
    "iss": "https://sso.example.com/realms/my%20shop",
    "aud": [RESOURCE, "account"],
    "sub": "f1",
    "typ": "Bearer",
    "azp": "agent",
    "acr": "1",
    "realm_access": {"roles": ["offline_access", "clerk"]},
    "resource_access": {RESOURCE: {"roles": ["orders"]}, "account": {"roles": ["manage-account"]}},
    "scope": "profile customers:read",
    "preferred_username": "ada",
}


async def test_keycloak(tmp_path: Path) -> None:
    async with simulated(
        tmp_path,
        {
            "preset": "keycloak",
            "domain": "sso.example.com",
            "realm": "my shop",
            "audiences": [RESOURCE],
            "discovery": "{base}/realms/my%20shop",
        },
        stated="https://sso.example.com/realms/my%20shop",
        document="/realms/my shop/.well-known/openid-configuration",
        keys="/realms/my/protocol/openid-connect/certs",
        key={"alg": "RS256", "x5t#S256": "x"},
    ) as there:
        # The roles of other clients are not ours.
        scopes = {"profile", "customers:read", "offline_access", "clerk", "orders"}
        assert await there.admitted(token(KEYCLOAK)) == ("f1", "agent", scopes)
        plain = token(KEYCLOAK, realm_access=..., resource_access=...)
        assert await there.admitted(plain) == ("f1", "agent", {"profile", "customers:read"})
        assert await there.reason_of(token(KEYCLOAK, aud="account")) == "audience"
        for typ in ("ID", "Refresh", "Offline", "DPoP", ...):
            assert await there.reason_of(token(KEYCLOAK, typ=typ)) == "token_type"
        assert await there.reason_of(token(KEYCLOAK, realm_access={"roles": [1]})) == "claims"
