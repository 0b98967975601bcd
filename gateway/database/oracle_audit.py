"""Asks Oracle what the gateway's account may do there (Database Reference, static data dictionary views)."""

from __future__ import annotations

from typing import Any, Final

import oracledb

from gateway.config.sources import OracleSettings
from gateway.database import oracle_errors as errors
from gateway.database import oracle_wallet as wallet
from gateway.database.engine import Audit
from gateway.errors import Code

_PRIVILEGES: Final = "select privilege from session_privs where privilege like :pattern order by privilege"
_WRITING: Final = ("INSERT ANY%", "UPDATE ANY%", "DELETE ANY%", "DROP ANY%", "ALTER ANY%", "CREATE ANY%")
_EXEMPT: Final = "EXEMPT ACCESS POLICY"
_OWNED: Final = "select table_name from user_tables order by table_name"
_GRANTED: Final = (
    "select owner || '.' || table_name from user_tab_privs_recd"
    " where privilege in ('INSERT', 'UPDATE', 'DELETE', 'ALTER')"
    " union select owner || '.' || table_name from role_tab_privs"
    " where privilege in ('INSERT', 'UPDATE', 'DELETE', 'ALTER') order by 1"
)
_CHARSET: Final = "select value from nls_database_parameters where parameter = 'NLS_CHARACTERSET'"
_FEW: Final = 4
_PROFILE: Final = 'select trim("LIMIT") from user_resource_limits where resource_name = :name'
_SERVER: Final = "select trim(limit_value) from v$resource_limit where resource_name in ('processes', 'sessions')"
_MINUTES: Final = {"CONNECT_TIME": "max_lifetime", "IDLE_TIME": "idle_timeout"}
"""Limits of a profile, in minutes, and the settings of the pool that should be shorter."""
_HIDDEN: Final = frozenset({Code.STATEMENT_INVALID, Code.ACCESS_DENIED})


async def audit(raw: Any, settings: OracleSettings) -> Audit:
    """What the account of a connection may do; rights that come by roles are among the session's."""
    rights = [name for pattern in _WRITING for name in await _rows(raw, _PRIVILEGES, pattern)]
    exempt = await _rows(raw, _PRIVILEGES, _EXEMPT)
    owned, granted = await _rows(raw, _OWNED), await _rows(raw, _GRANTED)
    can_write = f"it has {_listed(rights)}" if rights else f"it may change {_listed(granted)}" if granted else ""
    limits = [*await _limits(raw, "SESSIONS_PER_USER"), *await _server_limits(raw)]
    return Audit(
        can_write=can_write or (f"it owns {_listed(owned)}" if owned else ""),
        bypasses_row_security=f"it has {_EXEMPT}" if exempt else "",
        owns_tables=_listed(owned),
        connection_limit=min(limits, default=None),
        notes=await _notes(raw, settings),
    )


async def _notes(raw: Any, settings: OracleSettings) -> tuple[str, ...]:
    """What the server's characters cannot hold, what ends sessions, and what is wrong with the wallet."""
    found = await _rows(raw, _CHARSET)
    notes = [
        f"the database's character set is {name}, which does not hold every character; texts may come back changed"
        for name in found
        if name != "AL32UTF8"
    ]
    if raw.warning is not None:  # such as ORA-28002, the password will expire
        notes.append(str(raw.warning).partition("\nHelp:")[0])
    for name, key in _MINUTES.items():
        notes += [
            f"the account's profile ends sessions after {minutes} minutes ({name}); set pool.{key} below that"
            for minutes in await _limits(raw, name)
            if minutes * 60 <= getattr(settings.pool, key)
        ]
    if settings.wallet is not None:
        notes += [f"wallet: {told}" for told in wallet.warnings_of(settings.wallet)]
    return tuple(notes)


async def _limits(raw: Any, name: str) -> list[int]:
    """A limit of the account's profile; none where it is unlimited."""
    return [int(text) for text in await _rows(raw, _PROFILE, name) if text.isdigit()]


async def _server_limits(raw: Any) -> list[int]:
    """The server's own limits, where the account may see them."""
    try:
        return [int(text) for text in await _rows(raw, _SERVER) if text.isdigit()]
    except oracledb.DatabaseError as error:
        if errors.translate(error).code in _HIDDEN:
            return []
        raise


async def _rows(raw: Any, text: str, *values: str) -> list[str]:
    with raw.cursor() as cursor:
        cursor.setinputsizes(*[oracledb.DB_TYPE_VARCHAR for _ in values])
        await cursor.execute(text, list(values))
        return [row[0] for row in await cursor.fetchmany(_FEW)]


def _listed(names: list[str]) -> str:
    """The first three, and whether there are more."""
    return ", ".join(names[:3]) + " and others" * (len(names) > 3)
