"""The settings of logins to databases: accounts, tokens, transport security."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.config.base import Secret, Settings, Text
from gateway.config.session import ClaimPath


def _is_region(text: str) -> str:
    if not re.fullmatch(_REGION, text):
        raise PydanticCustomError("region", "a region's name, such as eu-frankfurt-1")
    return text


_REGION: Final = r"^[a-z]+(-[a-z0-9]+)+$"
Region = Annotated[str, AfterValidator(_is_region), WithJsonSchema({"type": "string", "pattern": _REGION})]


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


class OciTokenSettings(Settings):
    """Where an OCI IAM database token comes from: the data plane of OCI IAM, asked with an API key."""

    region: Region | None = None
    """Region of OCI, such as eu-frankfurt-1."""
    url: Text | None = None
    """Instead of `region`: the whole address of GenerateScopedAccessBearerToken, in another realm."""
    tenancy: Text
    """OCID of the tenancy."""
    user: Text
    """OCID of the user that the API key is of, and that the database knows."""
    fingerprint: Text
    """The API key's fingerprint, as the console shows it."""
    key: Secret
    """The API key's private key in PEM, as a reference."""
    scope: Text = "urn:oracle:db::id::*"
    """Which databases the token is for: all, or one compartment's or database's."""

    @property
    def endpoint(self) -> str:
        """Where to ask."""
        return self.url or f"https://auth.{self.region}.oraclecloud.com/v1/actions/generateScopedAccessBearerToken"


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
