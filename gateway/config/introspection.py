"""How an identity provider is asked about a token (RFC 7662)."""

from __future__ import annotations

from gateway.config.base import Secret, Settings, Text
from gateway.config.units import Duration


class IntrospectionSettings(Settings):
    """Asking the identity provider whether a token is active, with the gateway's own credentials."""

    endpoint: Text | None = None
    """Where to ask; found by discovery when absent."""
    client_id: Text
    """Who the gateway is there."""
    client_secret: Secret | None = None
    """Its secret (client_secret_basic), as a reference."""
    private_key: Secret | None = None
    """Or its private key in PEM (private_key_jwt, RFC 7523), as a reference."""
    key_id: Text | None = None
    """The `kid` by which the provider knows that key."""
    assertion_audience: Text | None = None
    """Who the signed assertion is for; the issuer when absent."""
    max_age: Duration = 60.0
    """How long an answer is believed, and so how long a revoked token may still be accepted; `0s` asks each time."""
    opaque: bool = True
    """Whether its opaque tokens, those that are no JWTs, are accepted."""
    required: bool = False
    """Whether its JWTs are asked about too, after they were verified."""
