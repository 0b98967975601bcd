"""The settings of logins to databases: accounts, tokens, transport security."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gateway.config.base import Secret, Settings, Text
from gateway.config.session import ClaimPath


class TlsSettings(Settings):
    """Transport security towards a database."""

    mode: Literal["disable", "require", "verify-ca", "verify-full"] | None = None
    """Default: verify-full, and disable on loopback and Unix sockets."""
    ca: Path | None = None
    """Certificates to trust; the system's when absent."""
    certificate: Path | None = None
    """The gateway's own certificate (mutual TLS)."""
    key: Path | None = None
    """The private key of that certificate."""
    min_version: Literal["1.2", "1.3"] = "1.3"
    """Oldest protocol version to accept."""
    server_name: str | None = None
    """Name to expect in the server's certificate, where it differs from the host."""


class TokenSettings(Settings):
    """Where a database login's access token comes from: OAuth 2.0 client credentials (RFC 6749 section 4.4)."""

    url: Text
    """The token endpoint."""
    client_id: Text
    """Who asks."""
    client_secret: Secret
    """Its secret, as a reference."""
    scope: Text | None = None
    """What to ask for; the client's default when absent."""
    resource: Text | None = None
    """The audience to ask for (RFC 8707)."""
    ca: Path | None = None
    """Authorities to trust there instead of the system's, in PEM."""


class ConditionSettings(Settings):
    """What a verified token must say: a scope, or what a claim equals."""

    scope: Text | None = None
    """A scope that it grants."""
    claim: ClaimPath | None = None
    """A claim of it, dots leading into nested ones."""
    equals: Text | None = None
    """What the claim is, or, where it is a list, has among its items."""


class CredentialSettings(Settings):
    """One database account, and the callers that it is for."""

    when: ConditionSettings
    """Who gets it."""
    user: Text
    """The account; grant it what these callers may do."""
    password: Secret | None = None
    """Its password, as a reference."""
