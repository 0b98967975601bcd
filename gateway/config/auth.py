"""Who may come in: identity providers, and how long a verdict on a token is believed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.base import Settings, Text
from gateway.config.introspection import IntrospectionSettings
from gateway.config.units import Duration

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class IssuerSettings(Settings):
    """One identity provider whose tokens are accepted."""

    issuer: Text
    """The exact `iss` of its tokens; also where discovery starts."""
    audiences: Annotated[tuple[Text, ...], Field(min_length=1)]
    """What `aud` may be; a token for anyone else is refused."""
    jwks_uri: str | None = None
    """Where the keys are; found by discovery when absent."""
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
    cache: VerdictCacheSettings = VerdictCacheSettings()
    """The cache of verified tokens."""
