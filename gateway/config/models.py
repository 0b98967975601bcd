"""Every setting of the gateway, typed and frozen; unknown keys are refused.

The docstring under a field is its description in `gateway schema` and in
`docs/reference/configuration.md`. Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from gateway.config.base import Name, Port, Secret, Settings, Text, Timeout
from gateway.config.logins import CredentialSettings, TlsSettings, TokenSettings
from gateway.config.session import SessionName, SessionOrigin
from gateway.config.units import Duration, Size


class ServerSettings(Settings):
    """Where the gateway listens and what it bounds."""

    host: Text = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """TCP port to listen on; 0 takes a free one."""
    public_url: str | None = None
    """The URL clients use, without a path, such as https://mcp.example.com; names the resource in OAuth metadata."""
    allowed_hosts: tuple[str, ...] = ()
    """Further Host values to accept, beside the public URL's, the listener's own and loopback names."""
    allowed_origins: tuple[str, ...] = ()
    """Browser origins to accept; a request with another Origin is refused."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) whose X-Forwarded-For is believed for the client's address."""
    max_request_bytes: Annotated[Size, Field(ge=1024, le=1 << 30)] = 1 << 20
    """Largest request body."""
    call_timeout: Timeout = 60.0
    """Deadline of one whole call: waiting, connecting and running."""
    shutdown_grace: Duration = 35.0
    """How long running calls may take to finish after SIGTERM."""
    numbers: Literal["exact", "string"] = "exact"
    """How integers beyond 53 bits and decimals go out: as exact JSON numbers or as strings."""


class AdminSettings(Settings):
    """The operators' listener, apart from the agents' one."""

    host: Text = "127.0.0.1"
    """Address to listen on."""
    port: Port = 9464
    """TCP port to listen on; 0 takes a free one."""


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


class VerdictCacheSettings(Settings):
    """How long a verified token is believed without being verified again."""

    max_age: Duration = 3300.0
    """At most this long."""
    expiry_buffer: Duration = 300.0
    """And never closer to the token's expiry than this."""
    max_entries: Annotated[int, Field(ge=1)] = 10000
    """Most tokens remembered at once."""


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


class LimitSettings(Settings):
    """What one client may use."""

    requests_per_minute: Annotated[int, Field(ge=1)] = 100
    """Requests a minute for each client."""
    burst: Annotated[int, Field(ge=1)] = 20
    """Requests that may come at once."""
    max_clients: Annotated[int, Field(ge=1)] = 10000
    """Most clients remembered at once; the longest idle is forgotten first."""


class PoolSettings(Settings):
    """The connections of one source, per process."""

    min: Annotated[int, Field(ge=0)] = 2
    """Connections kept open; of `credentials`, none."""
    max: Annotated[int, Field(ge=1)] = 10
    """Most connections open at once, those of all `credentials` together."""
    acquire_timeout: Timeout = 3.0
    """Longest wait for a connection, connecting included."""
    idle_timeout: Timeout = 300.0
    """Idle connections beyond `min` are closed after this."""
    max_lifetime: Timeout = 1800.0
    """Connections are replaced after this, with some jitter."""
    ping_after: Duration = 30.0
    """A connection idle for longer is checked before use."""
    max_waiting: Annotated[int, Field(ge=0)] = 100
    """Callers that may wait at once, for each account; the next one is refused."""


class SourceSettings(Settings):
    """What all sources share."""

    access: Literal["read-only", "read-write"] = "read-only"
    """`read-write` must be said; tools then still write only with `writes: true`."""
    required: bool = False
    """Whether the process is unready while this source is down."""
    pool: PoolSettings = PoolSettings()
    """The connections."""
    connect_timeout: Timeout = 5.0
    """Longest time for opening one connection, TLS and login included."""
    statement_timeout: Timeout = 30.0
    """Longest time for one statement; it is stopped on the server."""
    session: Annotated[Mapping[SessionName, SessionOrigin], AfterValidator(MappingProxyType)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    """Database settings that tell who calls, for row-level security: name (with a dot) and what it gets."""
    credentials: Annotated[tuple[CredentialSettings, ...], Field(max_length=64)] = ()
    """Accounts by caller: the first that fits serves the call, none is a refusal; at most 64."""


class HostSettings(Settings):
    """One of several hosts."""

    host: Text
    """Host name, address, or the folder of a Unix socket."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """TCP port."""


class PostgresqlSettings(SourceSettings):
    """A PostgreSQL database."""

    engine: Literal["postgresql"]
    """The engine."""
    host: Text | None = None
    """Host name, address, or the folder of a Unix socket; required unless there are `hosts`."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """TCP port."""
    hosts: tuple[HostSettings, ...] = ()
    """Several hosts instead of one; the first that answers and fits is used."""
    target_session_attrs: Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] = "any"
    """What a host must be."""
    database: Text
    """Database name."""
    user: Text
    """Account; give it SELECT only."""
    password: Secret | None = None
    """Password, as a reference: ${file:/run/secrets/...} or ${env:...}; a file is read again for each connection."""
    token: TokenSettings | None = None
    """An access token instead of a password, fetched anew before it expires."""
    tls: TlsSettings = TlsSettings()
    """Transport security."""
    pgbouncer: bool = False
    """Whether a PgBouncer in transaction mode stands between; nothing is then kept in the session."""


class MysqlSettings(SourceSettings):
    """A MySQL or MariaDB database."""

    engine: Literal["mysql"]
    """The engine; MariaDB is one of them."""
    host: Text
    """Host name, address, or the path of a Unix socket."""
    port: Annotated[int, Field(ge=1, le=65535)] = 3306
    """TCP port."""
    database: Text
    """Database name."""
    user: Text
    """Account; give it SELECT only, and require TLS of it."""
    password: Secret | None = None
    """Password, as a reference: ${file:/run/secrets/...} or ${env:...}."""
    tls: TlsSettings = TlsSettings()
    """Transport security."""


class SqliteSettings(SourceSettings):
    """A SQLite file."""

    engine: Literal["sqlite"]
    """The engine."""
    path: Path
    """The database file; it must exist."""


AnySource = Annotated[PostgresqlSettings | MysqlSettings | SqliteSettings, Field(discriminator="engine")]


class ToolSettings(Settings):
    """One named tool: fixed SQL, typed parameters."""

    title: str | None = None
    """Name for people."""
    description: Text
    """What it gives, written for the model that chooses it."""
    source: Name
    """The source it asks."""
    scopes: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """Scopes a caller needs, all of them; `auth.default_scopes` when absent."""
    parameters: dict[Name, dict[str, Any]] | None = None
    """JSON Schema for each parameter, with `optional` and `nullable` as short forms."""
    input_schema: dict[str, Any] | None = None
    """A whole JSON Schema (2020-12) instead of `parameters`, published as written."""
    statement: Text
    """One SQL statement; placeholders are `:name`."""
    writes: bool = False
    """Whether it changes data; needs a source with access read-write."""
    idempotent: bool = False
    """Whether doing the change twice is the same as doing it once; it is then sent again after a lost connection."""
    max_rows: Annotated[int, Field(ge=1, le=100000)] = 100
    """Most rows in a result."""
    numbers: Literal["exact", "string"] | None = None
    """Overrides `server.numbers`."""
    enabled: bool = True
    """A tool that is not enabled does not exist for callers."""


class DeploymentSettings(Settings):
    """How many processes share the databases; `gateway check` counts their connections."""

    max_replicas: Annotated[int, Field(ge=1)] = 1
    """Most replicas that run at once."""
    surge: Annotated[int, Field(ge=0)] = 1
    """Replicas more during a rolling update."""


class GatewaySettings(Settings):
    """The whole configuration."""

    server: ServerSettings = ServerSettings()
    """The agents' listener."""
    admin: AdminSettings = AdminSettings()
    """The operators' listener."""
    auth: AuthSettings = AuthSettings()
    """Authentication."""
    limits: LimitSettings = LimitSettings()
    """Rate limits."""
    deployment: DeploymentSettings = DeploymentSettings()
    """The replicas."""
    sources: Annotated[Mapping[Name, AnySource], AfterValidator(MappingProxyType)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    """Databases, by name."""
    tools: Annotated[Mapping[Name, ToolSettings], AfterValidator(MappingProxyType)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    """Tools, by name."""
