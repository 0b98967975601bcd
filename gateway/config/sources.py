"""Databases: how each engine is reached, and the connections of one source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from gateway.config.base import Secret, Settings, Text, Timeout
from gateway.config.logins import CredentialSettings, OciTokenSettings, TlsSettings, TokenSettings
from gateway.config.session import ProcedureName, SessionName, SessionOrigin
from gateway.config.units import Duration, Size


class PoolSettings(Settings):
    """The connections of one source, per process."""

    min: Annotated[int, Field(ge=0)] = 2
    """Connections kept open; of `credentials`, none."""
    max: Annotated[int, Field(ge=1)] = 10
    """Most connections open at once, those of all `credentials` together."""
    max_per_client: Annotated[int, Field(ge=1)] | None = None
    """Most of them that one client holds at once; all but one when absent."""
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

    enabled: bool = True
    """A source that is not enabled is not connected to, and its tools do not exist for callers."""
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


WALLET_FILE: Final = "ewallet.pem"
"""The one file of an Oracle wallet that is read."""


class OracleHostSettings(Settings):
    """One of several hosts of an Oracle database."""

    host: Text
    """Host name in full, as its certificate has it."""
    port: Annotated[int, Field(ge=1, le=65535)] = 1521
    """TCP port of the listener."""


class OracleSettings(SourceSettings):
    """An Oracle database."""

    engine: Literal["oracle"]
    """The engine."""
    host: Text | None = None
    """Host name in full, as its certificate has it; required unless there are `hosts` or a `dsn`."""
    port: Annotated[int, Field(ge=1, le=65535)] = 1521
    """TCP port of the listener."""
    hosts: tuple[OracleHostSettings, ...] = ()
    """Several hosts instead of one; the first that lets the gateway in is used."""
    service: Text | None = None
    """Service name, as the listener knows it; required unless there is a `dsn`."""
    dsn: Text | None = None
    """A connect descriptor or EZConnect Plus string instead of host, port and service; no TNS alias, no password."""
    user: Text | None = None
    """Account; give it SELECT only. `gateway[end_user]` logs in by proxy. Required unless a token logs in."""
    password: Secret | None = None
    """Password, as a reference: ${file:/run/secrets/...} or ${env:...}; a file is read again for each connection."""
    token: TokenSettings | None = None
    """An access token instead of user and password, fetched anew before it expires; needs TLS."""
    oci_token: OciTokenSettings | None = None
    """An OCI IAM database token with a key of the gateway's own instead, fetched anew before it expires; needs TLS."""
    token_folder: Path | None = None
    """Or a folder where `oci iam db-token get` keeps such a token and its key; read for each connection; needs TLS."""
    tls: TlsSettings = TlsSettings()
    """Transport security; Oracle before 23ai has no TLS 1.3."""
    server_dn: Text | None = None
    """Distinguished name that the server's certificate must have, instead of the host's name."""
    wallet: Path | None = None
    """Folder of a wallet; `ewallet.pem` must be in it. Instead of `tls.ca`, `tls.certificate` and `tls.key`."""
    wallet_password: Secret | None = None
    """The password of the wallet's private key, as a reference."""
    pooled: bool = False
    """Whether the server pools its processes (DRCP)."""
    connection_class: Text | None = None
    """With `pooled`, who may share a server process."""
    context_procedure: ProcedureName | None = None
    """The DBA's procedure for application contexts, called with a name and a value; null for the value clears it."""
    max_lob_bytes: Annotated[Size, Field(ge=1)] = 4 * 1024 * 1024
    """Most bytes of CLOB and BLOB values in one result; a result with more is refused."""


AnySource = Annotated[
    PostgresqlSettings | MysqlSettings | OracleSettings | SqliteSettings, Field(discriminator="engine")
]
