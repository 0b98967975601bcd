"""Columns of which the driver loses a part, asked for as text that the server writes.

python-oracledb's thin mode drops the offset of a TIMESTAMP WITH TIME ZONE and fails on one with a region, and it
drops what is below a microsecond. A query with such columns is put into another that makes text of them
(SQL Language Reference, "TO_CHAR (datetime)"); every other query is sent as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import oracledb

from gateway.database import oracle_types as types
from gateway.database.engine import Column
from gateway.database.failures import failure
from gateway.database.oracle_types import Converter
from gateway.errors import Code, ToolError

_INTERVAL: Final = re.compile(r"([+-])(\d+) (\d+):(\d+):(\d+)(?:\.(\d+))?")
_ADVICE: Final = "give every column a plain alias, or make text of it there: to_char"


@dataclass(frozen=True, slots=True)
class Query:
    """How a statement is sent.

    Attributes:
        listed: what is selected from it, where it is put into another one; "" where it is sent as it is.
        columns: what it gives, where its own description does not tell; None where it does.
        readers: the columns that come as text, by index, and what makes the gateway's form of them.
    """

    listed: str = ""
    columns: tuple[Column, ...] | None = None
    readers: tuple[tuple[int, Converter], ...] = ()

    def sent(self, text: str) -> str:
        """What the server gets for a text that may have other comments than the one that was described."""
        return f"select {self.listed} from (\n{text}\n)" if self.listed else text  # noqa: S608 - the author's own


def query_of(description: Sequence[Any] | None) -> Query:
    """How a query is sent whose columns the server has described.

    Raises:
        ToolError: STATEMENT_INVALID, a column has no form, or no name by which it could be asked for.
    """
    described = description or ()
    readers = tuple((index, _reader(column)) for index, column in enumerate(described) if types.is_cut(column))
    if not readers:
        return Query()
    columns = types.columns_of(described, dict(readers))
    if odd := [column.name for column in columns if '"' in column.name]:
        raise failure(Code.STATEMENT_INVALID, f"column {odd[0]}: {_ADVICE}")
    listed = ", ".join(_selected(column) for column in described)
    return Query(listed, columns, readers)


def check(query: Query, before: Sequence[Any], after: Sequence[Any]) -> None:
    """Hold what the server says of a query within another to what it said of it alone.

    Raises:
        ToolError: STATEMENT_INVALID, a column became another.
    """
    texts = dict(query.readers)
    for index, (was, found) in enumerate(zip(before, after, strict=True)):
        if index not in texts and any(getattr(was, part) != getattr(found, part) for part in _PARTS):
            raise refused(before, f"it makes another type of {was.name}")


def refused(description: Sequence[Any], reason: str) -> ToolError:
    """The failure of a query whose columns cannot be asked for as text."""
    column = next(each for each in description if types.is_cut(each))
    told = f"column {column.name} is {types.type_name(column)}, of which the driver drops a part,"
    return failure(Code.STATEMENT_INVALID, f"{told} and the server does not give it as text here ({reason}); {_ADVICE}")


_PARTS: Final = ("type_code", "is_json", "is_oson")


def _selected(described: Any) -> str:
    name = f'"{described.name}"'
    return f"{_FORMS[described.type_code].format(name)} as {name}" if types.is_cut(described) else name


def _reader(described: Any) -> Converter:
    kind = described.type_code
    if kind is oracledb.DB_TYPE_INTERVAL_DS:
        return _interval
    # The session's time zone is UTC, so it is known and not invented.
    return _local if kind is oracledb.DB_TYPE_TIMESTAMP_LTZ else _moment


def _moment(text: str) -> str:
    """A TIMESTAMP in ISO 8601, with as many digits as it needs: none, six or nine."""
    whole, _, rest = text.strip().partition(".")
    if whole.startswith("-"):
        raise ValueError("a year before 1")
    digits, zone = rest[:9].removesuffix("000"), rest[9:]
    return f"{whole}{f'.{digits}' if int(digits) else ''}{zone}"


def _local(text: str) -> str:
    return f"{_moment(text)}+00:00"


def _interval(text: str) -> str:
    found = _INTERVAL.fullmatch(text.strip())
    if found is None:
        raise ValueError("an interval in another form")
    days, hours, minutes, seconds = (int(found[index]) for index in (2, 3, 4, 5))
    return types.duration(found[1].strip("+"), days, hours, minutes, seconds, found[6] or "")


_WRITTEN: Final = "to_char({{0}}, 'SYYYY-MM-DD\"T\"HH24:MI:SS.FF9{}')"
_FORMS: Final = {
    oracledb.DB_TYPE_TIMESTAMP: _WRITTEN.format(""),
    oracledb.DB_TYPE_TIMESTAMP_LTZ: _WRITTEN.format(""),
    oracledb.DB_TYPE_TIMESTAMP_TZ: _WRITTEN.format("TZH:TZM"),
    oracledb.DB_TYPE_INTERVAL_DS: "to_char({0})",
}
