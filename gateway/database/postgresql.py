"""PostgreSQL by asyncpg: how to reach it, alone, among several hosts, or behind PgBouncer."""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from gateway.config.sources import PostgresqlSettings
from gateway.database import postgresql_errors as errors
from gateway.database import postgresql_types as types
from gateway.database import tls
from gateway.database.failures import failure
from gateway.database.postgresql_connection import READ_ONLY, PostgresqlConnection
from gateway.database.postgresql_hosts import Address, connect_to_first
from gateway.database.postgresql_pgbouncer import PgbouncerConnection
from gateway.database.tokens import Tokens
from gateway.errors import Code, ToolError
from gateway.net.oauth import TokenError
from gateway.net.tls import Sighting

_FENCE: Final = 1.0
"""Seconds by which the server's own statement limit lies above ours."""


class PostgresqlEngine:
    """One PostgreSQL database with one account.

    Args:
        settings: where it is.
        name: the source's name, in `application_name`.
    """

    dialect = "postgres"

    def __init__(self, settings: PostgresqlSettings, name: str = "") -> None:
        self._settings = settings
        self.sighting, self.token_sighting = Sighting(), Sighting()
        self._tokens = Tokens(settings.token, self.token_sighting) if settings.token else None
        limit = settings.statement_timeout + _FENCE
        local = {
            "statement_timeout": str(round(limit * 1000)),
            "idle_in_transaction_session_timeout": str(round((limit + 10) * 1000)),
            "jit": "off",  # a cancel that arrives while PostgreSQL compiles is lost, and the query runs on
            "TimeZone": "UTC",
            "DateStyle": "ISO, YMD",
        }
        startup = {"application_name": f"mcp-database-gateway/{name}"[:63]}
        # PgBouncer refuses most of them at the start; its connections begin every transaction with them.
        self._local, self._startup = (local, startup) if settings.pgbouncer else ({}, startup | local)

    def placeholder(self, position: int, name: str) -> str:
        """PostgreSQL's numbered placeholder."""
        return f"${position}"

    async def connect(self) -> PostgresqlConnection:
        """Open a connection: TLS, login, session settings, codecs.

        Raises the driver's own exceptions, or TlsUnusable.
        """
        password = await self._password()

        async def connect(address: Address, kind: str, limit: float) -> Any:
            return await self._connect_to(address, kind, limit, password)

        try:
            raw = await connect_to_first(self._settings, connect)
        except asyncpg.InvalidAuthorizationSpecificationError:
            if self._tokens is not None:
                self._tokens.forget()
            raise
        try:
            return await self._opened(raw)
        except BaseException:
            raw.terminate()
            raise

    async def _connect_to(self, address: Address, kind: str, limit: float, password: str) -> Any:
        settings, (host, port) = self._settings, address
        return await asyncpg.connect(
            host=host,
            port=port,
            target_session_attrs=kind,
            user=settings.user,
            password=password,
            database=settings.database,
            ssl=tls.context_of(settings.tls, host, self.sighting) or False,
            timeout=limit,
            command_timeout=settings.statement_timeout + 2 * _FENCE,
            server_settings=self._startup,
            statement_cache_size=0,  # we keep our own statements, by the tool's name
        )

    async def _password(self) -> str:
        """The password now: a file may have changed, a token may have expired."""
        if self._tokens is not None:
            return await self._tokens.token()
        return self._settings.password.get_secret_value() if self._settings.password else ""

    async def _opened(self, raw: Any) -> PostgresqlConnection:
        if not self._settings.pgbouncer:
            await _set_codecs(raw)
            # Only now: among several hosts, the driver takes one that is read-only by default for a standby.
            await raw.execute(READ_ONLY)
            return PostgresqlConnection(raw)
        async with raw.transaction():  # each takes several steps, which must meet one session of the server
            await _set_codecs(raw)
        return PgbouncerConnection(raw, self._local)

    def translate(self, error: BaseException) -> ToolError:
        """Name an exception by its SQLSTATE, or by its class where the server said nothing."""
        if isinstance(error, tls.TlsUnusable | TokenError):
            return failure(Code.SOURCE_UNAVAILABLE, error.message)
        return errors.translate(error)


async def _set_codecs(raw: Any) -> None:
    for name, form, encode, decode in types.CODECS:
        await raw.set_type_codec(name, schema="pg_catalog", encoder=encode, decoder=decode, format=form)
