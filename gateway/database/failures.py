"""What an agent reads when a database fails: one vocabulary for every engine."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from gateway.errors import Code, ToolError

MESSAGES: Final = MappingProxyType(
    {
        Code.POOL_EXHAUSTED: "Too many calls already wait for this data source. Wait and call again.",
        Code.POOL_TIMEOUT: "All connections of this data source stayed busy. Wait and call again.",
        Code.CONNECT_TIMEOUT: "The data source did not answer in time. Wait and call again.",
        Code.STATEMENT_TIMEOUT: "The query took too long and was stopped. Ask for less: narrow the arguments.",
        Code.SOURCE_UNAVAILABLE: "The data source is not available now; nothing was run. Wait and call again.",
        Code.CONNECTION_LOST: "The connection to the data source broke while the query ran. Call again.",
        Code.LOGIN_FAILED: "The data source refused the gateway's login; only its operator can repair this.",
        Code.ACCESS_DENIED: "The gateway's database account may not do this; only its operator can grant it.",
        Code.READ_ONLY: "This data source is read-only; this tool cannot change data.",
        Code.STATEMENT_INVALID: "The tool's SQL does not fit the database; only its operator can repair it.",
        Code.INVALID_VALUE: "The database refused a value. Check the arguments (range, form, division by zero).",
        Code.CONSTRAINT_VIOLATION: "The change breaks a rule of the database and was not made. Correct the arguments.",
        Code.CONFLICT: "The call collided with another one and was undone. Call again.",
        Code.UNREPRESENTABLE: "A column holds a value that cannot be given exactly; the tool's operator can cast it.",
        Code.OUTCOME_UNKNOWN: (
            "The connection was lost during the change: it may or may not have been made."
            " Read the data before you try again."
        ),
        Code.INTERNAL: "The gateway failed; give the correlation id to its operator.",
    }
)
"""The default text for each code that a database can cause."""


def failure(
    code: Code, detail: str, *, hint: str = "", retry_after: float | None = None, is_sent: bool = False
) -> ToolError:
    """A failure in the common words.

    Args:
        code: what failed.
        detail: the operator's words, with everything the driver said.
        hint: one more sentence that the agent may read, such as a constraint's name.
        retry_after: seconds after which the same call may succeed.
        is_sent: whether the statement may have reached the database.
    """
    message = f"{MESSAGES[code]} {hint}" if hint else MESSAGES[code]
    return ToolError(code, message, detail=detail, retry_after=retry_after, is_sent=is_sent)


_QUOTING: Final = frozenset({Code.INVALID_VALUE, Code.CONSTRAINT_VIOLATION})
_NAMES: Final = ("schema_name", "table_name", "column_name", "constraint_name")


def without_values(named: ToolError, error: BaseException) -> ToolError:
    """The same failure, without the driver's text where servers quote values in it: those are the caller's.

    What is left for the operator: the driver's class, the server's code, and the
    names of table, column and constraint where the driver knows them.

    Args:
        named: in our words.
        error: what the driver raised.
    """
    if named.code not in _QUOTING or isinstance(error, ToolError):
        return named
    first = error.args[0] if error.args else None
    number = first if isinstance(first, int) else getattr(first, "full_code", "")
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None) or number
    parts = [f"{type(error).__name__} [{code}]; its text is withheld, because it may quote arguments"]
    parts += [f"{name.removesuffix('_name')}: {value}" for name in _NAMES if (value := getattr(error, name, None))]
    named.detail = "; ".join(parts)
    return named
