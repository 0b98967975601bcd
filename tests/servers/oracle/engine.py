"""Answers statements by running them on SQLite, with a few of Oracle's words put in SQLite's."""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.servers.oracle.moments import to_char
from tests.servers.oracle.values import Shape, shape_of

NO_DATA: Final = 1403
CANCELLED: Final = 1013
_WORD: Final = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|:([A-Za-z][A-Za-z0-9_$#]*)", re.DOTALL)
_CONSTRAINTS: Final = (("UNIQUE", 1), ("NOT NULL", 1400), ("FOREIGN KEY", 2291), ("CHECK", 2290))
_MESSAGES: Final = (
    (r"no such table", 942, "table or view does not exist"),
    (r"no such column|no such function", 904, "invalid identifier"),
    (r"syntax error|incomplete input|unrecognized token", 900, "invalid SQL statement"),
    (r"readonly", 1456, "may not perform insert/delete/update operation inside a READ ONLY transaction"),
    (r"interrupted", CANCELLED, "user requested cancel of current operation"),
    (r"integer overflow", 1426, "numeric overflow"),
    (r"locked", 54, "resource busy and acquire with NOWAIT specified or timeout expired"),
)


class Refusal(Exception):
    """An ORA- error: its number, text, and where in the statement."""

    def __init__(self, number: int, text: str, position: int = 0) -> None:
        super().__init__(text)
        self.number = number
        self.text = f"ORA-{number:05d}: {text}"
        self.position = position


def bind_names(sql: str) -> list[str]:
    """The binds in order, in capitals; repeated ones too."""
    return [match[1].upper() for match in _WORD.finditer(sql) if match[1]]


@dataclass
class Result:
    """Rows as they come, the number of rows changed, or what a block gave out."""

    shapes: tuple[Shape, ...] = ()
    rows: Iterator[Sequence[Any]] = field(default_factory=lambda: iter(()))
    affected: int = 0
    out: dict[str, Any] = field(default_factory=dict)


class Session:
    """One session's SQLite connection, and what Oracle would know of the session."""

    def __init__(self, path: Path, user: str, proxy: str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        self.db.execute("pragma journal_mode=wal")
        self.known = {"session_user": (proxy or user).upper(), "proxy_user": user.upper() if proxy else None}
        self.contexts: dict[tuple[str, str], str] = {}
        self.calls = 0
        self.is_stopped = False
        # An interrupt that comes a moment before a statement begins is lost; this is not.
        self.db.set_progress_handler(lambda: int(self.is_stopped), 10_000)
        for name, count, function in (
            ("sys_context", 2, self._sys_context),
            ("sleep", 1, self._sleep),
            ("stand_in_calls", 0, lambda: self.calls),
            ("sys_extract_utc", 1, lambda days: days),
            ("to_date", 2, lambda *_: 0),
            ("to_char", 1, to_char),
            ("to_char", 2, to_char),
            ("rawtohex", 1, lambda data: data.hex().upper()),
        ):
            self.db.create_function(name, count, function)

    @property
    def is_in_transaction(self) -> bool:
        return self.db.in_transaction

    def _sys_context(self, namespace: str, name: str) -> str | None:
        if namespace.lower() == "userenv":
            return self.known.get(name.lower())
        return self.contexts.get((namespace.lower(), name.lower()))

    def _sleep(self, seconds: Any) -> int:
        ends = time.monotonic() + float(seconds or 0)
        while (left := ends - time.monotonic()) > 0 and not self.is_stopped:
            time.sleep(min(0.001, left))
        return 0

    def stop(self) -> None:
        """End what runs; called from another thread."""
        self.is_stopped = True
        with suppress(sqlite3.ProgrammingError):  # closed already
            self.db.interrupt()

    def commit(self) -> None:
        self._end("commit")

    def rollback(self) -> None:
        self._end("rollback")

    def _end(self, how: str) -> None:
        self.db.execute("pragma query_only=0")
        if self.db.in_transaction:
            self.db.execute(how)

    def run(self, sql: str, binds: dict[str, Any]) -> Result:
        """Run one statement.

        Raises:
            Refusal: what Oracle would say.
        """
        try:
            return self._run(sql, binds)
        except (sqlite3.Error, OverflowError) as error:
            raise refusal(error, sql) from error

    def _run(self, sql: str, binds: dict[str, Any]) -> Result:
        word = sql.split(None, 1)[0].upper() if sql.split() else ""
        if word in ("BEGIN", "DECLARE", "CALL"):
            return self._block(sql, binds)
        if sql.rstrip().endswith(";"):
            raise Refusal(911, "invalid character", sql.rindex(";"))
        if word == "SET":
            self._set_transaction(sql)
            return Result()
        if sql.upper().startswith("ALTER SESSION"):
            return Result()
        if word in ("SELECT", "WITH"):
            return self.query(sql, binds)
        if word in ("INSERT", "UPDATE", "DELETE", "MERGE") and not self.db.in_transaction:
            self.db.execute("begin")
        cursor = self.db.execute(sql, binds)
        if word in ("CREATE", "DROP", "ALTER"):
            self.commit()
        return Result(affected=max(cursor.rowcount, 0))

    def _set_transaction(self, sql: str) -> None:
        if self.db.in_transaction:
            raise Refusal(1453, "SET TRANSACTION must be first statement of transaction")
        if "READ ONLY" in sql.upper():
            self.db.execute("begin")
            self.db.execute("pragma query_only=1")

    def query(self, sql: str, binds: dict[str, Any]) -> Result:
        """Rows, of which the first is read at once, since it tells types that nothing else does."""
        sql = _unlocked(sql)
        declared = self._declared(sql, binds)
        cursor = self.db.execute(sql, binds)
        first = cursor.fetchone()
        names = [column[0] for column in cursor.description]
        shapes = tuple(
            shape_of(
                name if name.lower() in declared else name.upper(),
                declared.get(name.lower(), ""),
                first and first[index],
            )
            for index, name in enumerate(names)
        )
        rows = iter(()) if first is None else itertools.chain((first,), cursor)
        return Result(tuple(_named(shape, sql) for shape in shapes), rows)

    def describe(self, sql: str) -> tuple[Shape, ...]:
        """A query's columns, without its rows."""
        text = _WORD.sub(lambda match: "null" if match[1] else match[0], _unlocked(sql))
        try:
            cursor = self.db.execute(f"select * from (\n{text}\n) limit 0")
            declared = self._declared(sql, {})
        except sqlite3.Error as error:
            raise refusal(error, sql) from error
        names = [re.sub(r":\d+$", "", column[0]) for column in cursor.description]  # SQLite numbers a name's repeats
        return tuple(_named(shape_of(name, declared.get(name.lower(), ""), 0), sql) for name in names)

    def _declared(self, sql: str, binds: dict[str, Any]) -> dict[str, str]:
        """The declared types of columns that are columns of tables."""
        text = _WORD.sub(lambda match: "null" if match[1] else match[0], _unlocked(sql))
        reading = self.db.execute("pragma query_only").fetchone()[0]
        self.db.execute("pragma query_only=0")
        try:
            self.db.execute("drop view if exists temp.described")
            self.db.execute(f"create temp view described as {text}")
            return {row[1].lower(): row[2] for row in self.db.execute("pragma temp.table_info(described)")}
        except sqlite3.Error:
            return {}  # the statement itself will say what is wrong
        finally:
            self.db.execute(f"pragma query_only={reading}")

    def _block(self, sql: str, binds: dict[str, Any]) -> Result:
        """A PL/SQL block that is a list of calls, assignments, SET TRANSACTION and OPEN ... FOR."""
        body = re.sub(r"--[^\n]*|/\*.*?\*/", "", sql, flags=re.DOTALL)
        body = re.sub(r"^\s*(begin|call)\b|\bend\s*;?\s*$", "", body, flags=re.IGNORECASE)
        out: dict[str, Any] = {}
        for text in filter(None, (part.strip() for part in body.split(";"))):
            self._step(text, binds, out)
        return Result(out=out)

    def _step(self, text: str, binds: dict[str, Any], out: dict[str, Any]) -> None:
        if text.upper().startswith("SET TRANSACTION"):
            self._set_transaction(text)
        elif match := re.fullmatch(r"open\s+:(\w+)\s+for\s+(.*)", text, re.IGNORECASE | re.DOTALL):
            out[match[1].upper()] = self.query(match[2], binds)
        elif match := re.fullmatch(r":(\w+)\s*:=\s*(.*)", text, re.DOTALL):
            name = match[1].upper()
            out[name] = binds[name] = self.db.execute(f"select {match[2]}", binds).fetchone()[0]
        elif match := re.fullmatch(r"([\w.$]+)\s*(?:\((.*)\))?", text, re.DOTALL):
            procedure = _PROCEDURES.get(match[1].lower())
            if procedure is None:
                raise Refusal(
                    6550, f"line 1, column 7:\nPLS-00201: identifier '{match[1].upper()}' must be declared", 6
                )
            arguments = [part.strip() for part in (match[2] or "").split(",") if part.strip()]
            procedure(self, arguments, binds, out)
        else:
            self._run(text, binds)


def _unlocked(sql: str) -> str:
    """A query without FOR UPDATE, which SQLite has not and Oracle takes at the end only."""
    if found := re.search(r"\bfor\s+update\s*\)", sql, re.IGNORECASE):
        raise Refusal(907, "missing right parenthesis", found.start())
    return re.sub(r"\s+for\s+update\s*$", "", sql, flags=re.IGNORECASE)


def _value(session: Session, argument: str, binds: dict[str, Any]) -> Any:
    expression = argument.partition("=>")[2] or argument
    return session.db.execute(f"select {expression}", binds).fetchone()[0]


def _set_context(session: Session, arguments: list[str], binds: dict[str, Any], out: dict[str, Any]) -> None:
    name, value = (_value(session, argument, binds) for argument in arguments)
    namespace, _, attribute = name.lower().partition(".")
    session.contexts.pop((namespace, attribute), None)
    if value is not None:
        session.contexts[namespace, attribute] = value


def _raise(session: Session, arguments: list[str], binds: dict[str, Any], out: dict[str, Any]) -> None:
    number, text = (_value(session, argument, binds) for argument in arguments)
    raise Refusal(abs(number), text)


def _out_name(argument: str) -> str:
    return argument.partition(":")[2].strip().upper()


def _count_items(session: Session, arguments: list[str], binds: dict[str, Any], out: dict[str, Any]) -> None:
    """shop.count_items(at_least in number, how_many out number, items out sys_refcursor)."""
    least = _value(session, arguments[0], binds)
    counted = session.db.execute("select count(*) from item where id >= ?", [least]).fetchone()[0]
    out[_out_name(arguments[1])] = counted
    if len(arguments) > 2:
        out[_out_name(arguments[2])] = session.query(
            "select id, label from item where id >= :L order by id", {"L": least}
        )


Procedure = Callable[[Session, list[str], dict[str, Any], dict[str, Any]], None]
_PROCEDURES: Final[dict[str, Procedure]] = {
    "app_ctx.set_value": _set_context,
    "raise_application_error": _raise,
    "shop.count_items": _count_items,
    "dbms_session.modify_package_state": lambda *_: None,
    "dbms_session.clear_identifier": lambda session, *_: session.known.update(client_identifier=None),
    "null": lambda *_: None,
}


def _named(shape: Shape, sql: str) -> Shape:
    """Names that are not quoted are told in capitals."""
    return shape if f'"{shape.name}"' in sql else replace(shape, name=shape.name.upper())


def refusal(error: Exception, sql: str) -> Refusal:
    """SQLite's error as Oracle would tell it, with the position where SQLite names a word."""
    text = str(error)
    for word, number in _CONSTRAINTS:
        if text.startswith(word):
            return Refusal(number, f"constraint violated ({text})")
    for pattern, number, words in _MESSAGES:
        if re.search(pattern, text):
            named = re.search(r'near "(.*?)"|(?:column|table|function): (?:main\.)?(\S+)', text)
            name = next((group for group in named.groups() if group), "") if named else ""
            return Refusal(number, words, max(sql.find(name), 0) if name else 0)
    return Refusal(600, f"internal error code ({text})")
