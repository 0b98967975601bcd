"""Who may come in: identity providers, and how long a verdict on a token is believed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from gateway.config.base import Settings, Text, Timeout
from gateway.config.introspection import IntrospectionSettings
from gateway.config.session import ClaimPath
from gateway.config.units import Duration

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class IssuerSettings(Settings):
    """One identity provider whose tokens are accepted; `gateway.config.issuers` makes plain rules of it."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["issuer"]}, {"required": ["preset"]}]})

    preset: Literal["entra", "okta", "oci-iam", "keycloak"] | None = None
    """A provider whose peculiarities are filled in; whatever is written beside it counts more."""
    tenant: Text | None = None
    """Preset entra: the tenant's id, a GUID."""
    version: Literal["v1", "v2"] = "v2"
    """Preset entra: the version of its access tokens, as the API's manifest says."""
    domain: Text | None = None
    """Presets okta, oci-iam and keycloak: the host, with its port if any; for keycloak also a path."""
    server: Text = "default"
    """Preset okta: the id of the custom authorization server."""
    realm: Text | None = None
    """Preset keycloak: the realm."""
    issuer: Text | None = None
    """The exact `iss` of its tokens; required without a preset, which knows it otherwise."""
    trailing_slash: Literal["exact", "any"] = "exact"
    """Whether the slash at the end of `iss` must be as written, or may be there or not."""
    audiences: Annotated[tuple[Text, ...], Field(min_length=1)]
    """What `aud` may be; a token for anyone else is refused."""
    discovery: Text | None = None
    """Where discovery starts, when not at the issuer: a base, or the URL of the document itself."""
    jwks_uri: str | None = None
    """Where the keys are; found by discovery when absent."""
    advertised: Text | None = None
    """The authorization server that clients are told to ask; the issuer when absent."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = (
        "RS256",
        "PS256",
        "ES256",
        "ES384",
        "EdDSA",
    )
    """Signature algorithms to accept."""
    leeway: Annotated[Duration, Field(ge=0.0, le=60.0)] = 30.0
    """Clock skew to forgive; at most 60s."""
    max_token_life: Timeout | None = None
    """Longest time from `iat` to `exp`; a token without `iat` is then refused."""
    token_type: Literal["any-jwt", "at+jwt"] = "any-jwt"
    """What `typ` in the header must be: `at+jwt` (RFC 9068), or also `JWT` or nothing."""
    required_claims: tuple[ClaimPath, ...] = ()
    """Claims without which a token is refused."""
    scopes_from: tuple[ClaimPath, ...] = ()
    """The claims whose texts or lists are joined to scopes; `scope`, or `scp` in its absence, when empty."""
    subject_from: Annotated[tuple[ClaimPath, ...], Field(min_length=1)] = ("sub",)
    """The claims that are the subject, joined with `/`; without any of them the client is the subject."""
    client_from: Annotated[tuple[ClaimPath, ...], Field(min_length=1)] = ("client_id", "azp", "appid", "cid")
    """The claims that may name the client; the first one that is there counts."""
    introspection: IntrospectionSettings | None = None
    """Asking it about tokens; opaque tokens are refused when absent."""


class VerdictCacheSettings(Settings):
    """How long a verified token is believed without being verified again."""

    max_age: Duration = 3300.0
    """At most this long."""
    expiry_buffer: Duration = 300.0
    """And never closer to the token's expiry than this."""
    max_entries: Annotated[int, Field(ge=1)] = 10000
    """Most tokens remembered at once."""
    backend: Literal["memory", "redis"] = "memory"
    """`redis` shares the answers to introspection among replicas; it needs the section `redis`."""


class AuthSettings(Settings):
    """Who may come in."""

    mode: Literal["jwt", "none"] = "jwt"
    """`none` is for development and refused off loopback."""
    issuers: tuple[IssuerSettings, ...] = ()
    """The identity providers; at least one unless mode is none."""
    default_scopes: Annotated[tuple[Text, ...], Field(min_length=1)] = ("mcp:tools",)
    """What a tool needs that names no scopes of its own."""
    scope_hierarchy: dict[str, Annotated[tuple[Text, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """For each scope the ones that it implies; `customers:*` implies all that begin with `customers:`."""
    scope_wildcards: bool = False
    """Whether `customers:*` in a token grants all that begin with `customers:`."""
    ca: Path | None = None
    """Authorities to trust at providers instead of the system's, in PEM; read at the start and when `auth` changes."""
    cache: VerdictCacheSettings = VerdictCacheSettings()
    """The cache of verified tokens."""
