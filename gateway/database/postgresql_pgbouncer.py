"""PostgreSQL behind PgBouncer in transaction mode: nothing outlives a transaction.

The server's session belongs to a client only between BEGIN and COMMIT or
ROLLBACK (PgBouncer documentation, "Pooling modes"). So statements have no name,
are prepared inside the transaction, and settings are local to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.database import postgresql_binding as binding
from gateway.database.engine import Column, Statement
from gateway.database.postgresql import BEGIN, PostgresqlConnection, PostgresqlEngine, Prepared

_STARTUP: Final = frozenset({"application_name"})
"""What PgBouncer takes at the start of a connection in every version."""


class PgbouncerEngine(PostgresqlEngine):
    """One PostgreSQL database with one account, reached through PgBouncer."""

    def _startup(self) -> dict[str, str]:
        return {name: value for name, value in self._session.items() if name in _STARTUP}

    async def _opened(self, raw: Any) -> PostgresqlConnection:
        local = {name: value for name, value in self._session.items() if name not in _STARTUP}
        async with raw.transaction():  # the codecs are looked up in several steps, all on one session
            await self._set_codecs(raw)
        return PgbouncerConnection(raw, local)


class PgbouncerConnection(PostgresqlConnection):
    """A client's connection to PgBouncer.

    Args:
        raw: asyncpg's connection, with its statement cache off.
        local: settings that every transaction begins with.
    """

    def __init__(self, raw: Any, local: Mapping[str, str]) -> None:
        super().__init__(raw)
        self._local = "".join(f"; set local {name} = '{value}'" for name, value in local.items())

    async def describe(self, statement: Statement) -> tuple[Column, ...]:
        """Prepare the statement in a transaction of its own; its columns."""
        await self._raw.execute("begin read only")
        try:
            return await super().describe(statement)
        finally:
            await self.reset()

    async def reset(self) -> None:
        """End the transaction: PgBouncer lends the session to others then."""
        await self._raw.execute("rollback")
        self.needs_reset = False
        self.is_committing = False

    async def _begin(self, statement: Statement, values: Sequence[Any]) -> tuple[Prepared, Sequence[Any]]:
        self.needs_reset = True
        # One round trip; several statements in one message are no transaction of their own once BEGIN is there.
        await self._raw.execute(BEGIN[statement.writes] + self._local)
        prepared = await self._prepare(statement)
        return prepared, binding.bind(statement, prepared.binders, values)

    async def _prepare(self, statement: Statement) -> Prepared:
        self._prepared.pop(statement.name, None)
        return await super()._prepare(statement)

    def _name(self) -> str:
        return ""
