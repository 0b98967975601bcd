"""Tells MySQL who calls, and asks it what the gateway's account may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.database.engine import Audit, Statement
from gateway.database.mysql_binding import bind
from gateway.database.mysql_wire import Link

_WRITING: Final = "('INSERT', 'UPDATE', 'DELETE', 'DROP', 'ALTER', 'CREATE', 'SUPER')"
# The tables of privileges write an account as 'name'@'host'; CURRENT_USER() leaves the quotes out.
_GRANTEE: Final = (
    "concat('''', left(current_user(), char_length(current_user()) - locate('@', reverse(current_user()))),"
    " '''@''', substring_index(current_user(), '@', -1), '''')"
)
_RIGHTS: Final = f"""
select 'every database' as what from information_schema.user_privileges
where grantee = {_GRANTEE} and privilege_type in {_WRITING}
union select table_schema from information_schema.schema_privileges
where grantee = {_GRANTEE} and privilege_type in {_WRITING}
union select concat(table_schema, '.', table_name) from information_schema.table_privileges
where grantee = {_GRANTEE} and privilege_type in {_WRITING}
limit 3
"""  # noqa: S608 - put together of constants
_LIMIT: Final = "select cast(@@max_connections as signed), cast(@@max_user_connections as signed)"


async def tell(link: Link, values: Mapping[str, str]) -> None:
    """Set user variables, all in one statement and bound; they stay until the session is reset."""
    assignments = ", ".join(f"@`{name}` = ?" for name in values)
    statement = Statement("session", f"set {assignments}", tuple(values), ("string",) * len(values))
    prepared = await link.prepare(statement.text)
    await link.execute(prepared, bind(statement, list(values.values())))
    link.forget(prepared)


async def audit(link: Link) -> Audit:
    """What the account of a connection was granted directly; rights that it has by a role are not seen."""
    where = [row[0] for row in await _rows(link, _RIGHTS)]
    ((server, account),) = await _rows(link, _LIMIT)
    return Audit(
        can_write=f"it may change {', '.join(where)}" if where else "",
        connection_limit=min(server, account or server),  # 0 is no limit
    )


async def _rows(link: Link, text: str) -> list[list[Any]]:
    prepared = await link.prepare(text)
    execution = await link.execute(prepared, b"")
    rows = []
    while (row := await execution.next_row()) is not None:
        rows.append(row)
    link.forget(prepared)
    return rows
