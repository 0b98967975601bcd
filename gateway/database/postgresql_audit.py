"""Asks PostgreSQL what the gateway's account may do there (PostgreSQL documentation, sections 9.27 and 52)."""

from __future__ import annotations

from typing import Any, Final

from gateway.database.engine import Audit

_ACCOUNT: Final = """
select r.rolsuper, r.rolbypassrls,
       exists (select from pg_roles where rolname = 'pg_write_all_data' and pg_has_role(oid, 'usage')) as writes_all,
       (select min(least_of) from unnest(array[
          current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true)::int, 0),
          nullif(r.rolconnlimit, -1),
          (select nullif(datconnlimit, -1) from pg_database where datname = current_database())]) least_of) as most
from pg_roles r where r.rolname = current_user
"""
# Objects from 16384 on were made by users (PostgreSQL source, FirstNormalObjectId).
_TABLES: Final = """
select n.nspname || '.' || c.relname as name, pg_has_role(c.relowner, 'usage') as is_owned
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'f') and c.relpersistence <> 't'
  and has_schema_privilege(n.oid, 'usage')
  and (pg_has_role(c.relowner, 'usage')  -- an owner can give itself what it lacks
       or has_table_privilege(c.oid, 'delete, truncate') or has_any_column_privilege(c.oid, 'insert, update'))
order by 2 desc, 1 limit 4
"""


async def audit(raw: Any) -> Audit:
    """What the account of an asyncpg connection may do."""
    account = await raw.fetchrow(_ACCOUNT)
    tables = await raw.fetch(_TABLES)
    rights = ["it is a superuser"] * account["rolsuper"]
    rights += ["it is a member of pg_write_all_data"] * account["writes_all"]
    rights += [f"it may change {_listed([table['name'] for table in tables])}"] * bool(tables)
    owned = [table["name"] for table in tables if table["is_owned"]]
    bypasses = ["it is a superuser"] * account["rolsuper"] or ["it has BYPASSRLS"] * account["rolbypassrls"]
    return Audit(
        can_write=rights[0] if rights else "",
        bypasses_row_security=bypasses[0] if bypasses else "",
        owns_tables=_listed(owned),
        connection_limit=account["most"],
    )


def _listed(names: list[str]) -> str:
    """The first three, and whether there are more."""
    return ", ".join(names[:3]) + " and others" * (len(names) > 3)
