"""PostgreSQL behind PgBouncer in transaction mode: nothing outlives a transaction.

The server's session belongs to a client only between BEGIN and COMMIT or
ROLLBACK (PgBouncer documentation, "Pooling modes"). So statements have no name,
are prepared inside the transaction, and settings are local to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.database import postgresql_binding as binding
from gateway.database.engine import Column, Statement
from gateway.database.failures import failure
from gateway.database.postgresql_connection import BEGIN, IDENTIFY, PostgresqlConnection, Prepared
from gateway.errors import Code

_LOCKS: Final = re.compile(r"\bpg_(?:try_)?advisory_lock(?:_shared)?\b", re.IGNORECASE)
_SETTINGS: Final = re.compile(r"\bset_config\s*\([^()]*,\s*false\s*\)|\btemp(?:orary)?\s+table\b", re.IGNORECASE)


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
        self._identity = {}
        self.needs_reset = False
        self.is_committing = False

    async def _begin(self, statement: Statement, values: Sequence[Any]) -> tuple[Prepared, Sequence[Any]]:
        self.needs_reset = True
        # One round trip; several statements in one message are no transaction of their own once BEGIN is there.
        await self._raw.execute(BEGIN[statement.writes] + self._local)
        if self._identity:
            await self._tell()
        prepared = await self._prepare(statement)
        return prepared, binding.bind(statement, prepared.binders, values)

    async def _tell(self) -> None:
        await self._raw.fetch(IDENTIFY, list(self._identity), list(self._identity.values()))

    async def _prepare(self, statement: Statement) -> Prepared:
        _refuse_what_stays(statement)
        self._prepared.pop(statement.name, None)
        return await super()._prepare(statement)

    def _name(self) -> str:
        return ""


def _refuse_what_stays(statement: Statement) -> None:
    """Nobody resets a session here: what outlives the transaction would reach whoever gets the session next.

    Raises:
        ToolError: STATEMENT_INVALID and what to write instead.
    """
    if _LOCKS.search(statement.text):
        raise failure(
            Code.STATEMENT_INVALID, "a session's advisory lock would stay behind PgBouncer; use pg_advisory_xact_lock"
        )
    # A read is rolled back, and its settings and tables with it.
    if statement.writes and _SETTINGS.search(statement.text):
        raise failure(
            Code.STATEMENT_INVALID,
            "settings and temporary tables of a session would stay behind PgBouncer; use set_config(..., true)",
        )
