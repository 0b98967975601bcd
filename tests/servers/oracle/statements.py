"""Statements as the client has them run: cursors, rows, LOBs, and what blocks give out."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.servers.oracle import answers, values
from tests.servers.oracle.documents import oson, vector
from tests.servers.oracle.engine import CANCELLED, NO_DATA, Refusal, Result, Session, bind_names
from tests.servers.oracle.values import CURSOR, DOCUMENTS, JSON, LOBS, Shape
from tests.servers.oracle.wire import Reader, chunks, sized, ub

_PARSE, _DEFINE, _EXECUTE, _FETCH, _COMMIT, _DESCRIBE = 0x01, 0x10, 0x20, 0x40, 0x100, 0x20000
_LOB_READ, _LOB_LENGTH = 2, 1
_OUT, _IN, _BOTH = 16, 32, 48


@dataclass
class Cursor:
    """A statement that the server keeps."""

    sql: str
    binds: list[Shape] = field(default_factory=list)
    shapes: tuple[Shape, ...] = ()
    defines: list[Shape] = field(default_factory=list)
    rows: Iterator[Sequence[Any]] = field(default_factory=lambda: iter(()))
    count: int = 0

    @property
    def has_lobs(self) -> bool:
        return any(shape.kind in LOBS | DOCUMENTS for shape in self.shapes)

    @property
    def is_block(self) -> bool:
        return bool(re.match(r"\s*(begin|declare|call)\b", self.sql, re.IGNORECASE))


class Statements:
    """The statements of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cursors: dict[int, Cursor] = {}
        self._numbers = itertools.count(1)
        self._lobs: list[bytes] = []
        self.functions: dict[int, Callable[[Reader], bytes]] = {
            94: self._execute,
            78: self._again,
            4: self._again,
            5: self._fetch_more,
            96: self._lob,
        }
        session.db.create_function("stand_in_cursors", 0, lambda: len(self._cursors))

    def close(self, number: int) -> None:
        """The client needs a cursor no more."""
        self._cursors.pop(number, None)

    def _execute(self, reader: Reader) -> bytes:
        options, number = reader.ub(), reader.ub()
        reader.skip("bububbu")
        wanted = reader.ub()
        reader.skip("ub")
        binds = reader.ub()
        reader.skip("bbbbbb")
        defines = reader.ub()
        reader.skip("ubbbubuubub" + "bubub" + "bu")
        sql = (reader.chunks() or b"").decode() if options & _PARSE else ""
        iterations = [reader.ub() for _ in range(13)][1]
        if options & _PARSE:
            number = number or next(self._numbers)
            before = self._cursors.get(number)
            # The driver names the types of binds once for each statement, however often it has it parsed.
            self._cursors[number] = Cursor(sql, before.binds if before is not None and before.sql == sql else [])
        cursor = self._cursors[number]
        if options & _DEFINE:
            cursor.defines = [values.read_shape(reader) for _ in range(defines)]
            return answers.error(self._session, 0, cursor=number)
        bound = {}
        if binds:
            cursor.binds = [values.read_shape(reader) for _ in range(binds)]
            bound = self._binds(reader, cursor) if iterations or not cursor.is_block else {}
        if options & _DESCRIBE:
            shapes = self._session.describe(cursor.sql)
            return answers.described(shapes) + answers.error(self._session, 0, cursor=number)
        if not options & _EXECUTE:
            if options & _FETCH:
                return self._rows(number, wanted)
            self._check(cursor.sql)
            return answers.error(self._session, 0, cursor=number)
        return self._ran(
            number, bound, wanted if options & _FETCH else 0, is_new=bool(options & _PARSE), options=options
        )

    def _check(self, sql: str) -> None:
        """Parse without running: SQLite's EXPLAIN compiles, and runs nothing."""
        if re.match(r"\s*(insert|update|delete|merge)\b", sql, re.IGNORECASE):
            self._session.run(f"explain {sql}", dict.fromkeys(bind_names(sql)))

    def _binds(self, reader: Reader, cursor: Cursor) -> dict[str, Any]:
        names = list(dict.fromkeys(bind_names(cursor.sql))) if cursor.is_block else bind_names(cursor.sql)
        assert reader.byte() == 7
        is_long = [shape.size > 32767 and not cursor.is_block for shape in cursor.binds]
        bound: dict[str, Any] = {}
        for turn in (False, True):
            for name, shape, is_last in zip(names, cursor.binds, is_long, strict=True):
                if is_last is turn:
                    bound[name] = values.read_value(reader, shape)
        written = {match: bound[match.upper()] for match in re.findall(r":(\w+)", cursor.sql) if match.upper() in bound}
        return bound | written

    def _again(self, reader: Reader) -> bytes:
        number, wanted = reader.ub(), reader.ub()
        reader.skip("uu")
        cursor = self._cursors[number]
        bound = self._binds(reader, cursor) if cursor.binds else {}
        return self._ran(number, bound, wanted, is_new=False)

    def _ran(self, number: int, bound: dict[str, Any], wanted: int, *, is_new: bool, options: int = 0) -> bytes:
        cursor = self._cursors[number]
        self._session.known["bind_types"] = " ".join(str(shape.kind) for shape in cursor.binds)
        result = self._session.run(cursor.sql, bound)
        if options & _COMMIT:
            self._session.commit()
        if cursor.is_block and (cursor.binds or result.out):
            return self._given_out(cursor, result) + answers.error(self._session, 0, cursor=number)
        if not result.shapes:
            return answers.error(self._session, 0, cursor=number, count=result.affected)
        cursor.rows, cursor.count = result.rows, 0
        head = b""
        if is_new or cursor.shapes != result.shapes:
            cursor.shapes, head = result.shapes, answers.described(result.shapes)
        if cursor.has_lobs and not cursor.defines:
            return head + answers.error(self._session, 0, cursor=number)
        return head + self._rows(number, wanted)

    def _rows(self, number: int, wanted: int) -> bytes:
        cursor = self._cursors[number]
        shapes = cursor.defines or cursor.shapes
        parts = [b"\x06" + b"\0" + ub(0) * 5 + sized(b"")]
        end = 0
        for _ in range(wanted):
            try:
                row = next(cursor.rows)
            except StopIteration:
                end = NO_DATA
                break
            except Exception as error:
                raise Refusal(CANCELLED, f"user requested cancel of current operation ({error})") from error
            cursor.count += 1
            parts.append(b"\x07" + b"".join(map(self._encoded, row, shapes)))
        text = "ORA-01403: no data found" if end else ""
        return b"".join(parts) + answers.error(self._session, end, text, cursor=number, count=cursor.count)

    def _encoded(self, value: Any, shape: Shape) -> bytes:
        if shape.kind not in LOBS | DOCUMENTS:
            return values.encoded(value, shape.kind)
        if value is None:
            return ub(0)
        if shape.kind in DOCUMENTS:
            image = oson(value) if shape.kind == JSON else vector(value)
            return ub(len(image)) + ub(len(image)) + ub(8132) + chunks(image) + chunks(bytes(40))
        data = value if isinstance(value, bytes) else str(value).encode()
        self._lobs.append(data)
        locator = struct.pack(">16xI20x", len(self._lobs) - 1)
        size = len(data) if isinstance(value, bytes) else len(str(value))
        return ub(len(locator)) + ub(size) + ub(8132) + chunks(locator)

    def _fetch_more(self, reader: Reader) -> bytes:
        return self._rows(reader.ub(), reader.ub())

    def _given_out(self, cursor: Cursor, result: Result) -> bytes:
        names = list(dict.fromkeys(bind_names(cursor.sql)))
        directions = bytes(_BOTH if name in result.out else _IN for name in names)
        head = b"\x0b\0" + ub(len(names)) + ub(0) + ub(0) + ub(0) + ub(0) + ub(0) + directions
        if not result.out:
            return head
        given = b"".join(
            self._out(result.out[name], shape)
            for name, shape in zip(names, cursor.binds, strict=True)
            if name in result.out
        )
        return head + b"\x07" + given

    def _out(self, value: Any, shape: Shape) -> bytes:
        if shape.kind != CURSOR:
            return values.encoded(value, shape.kind) + ub(0)
        number = next(self._numbers)
        self._cursors[number] = Cursor("", shapes=value.shapes, rows=value.rows)
        return b"\1" + answers.described(value.shapes, is_whole=False) + ub(number) + ub(0)

    def _lob(self, reader: Reader) -> bytes:
        reader.byte()
        length = reader.ub()
        reader.skip("buuubbb")
        operation = reader.ub()
        reader.skip("bb")
        offset = reader.ub()
        reader.ub()
        has_amount = reader.byte()
        reader.raw(6)
        locator = reader.raw(length)
        amount = reader.ub() if has_amount else 0
        data = self._lobs[struct.unpack(">16xI20x", locator)[0]]
        if operation == _LOB_READ:
            text = data.decode(errors="surrogateescape")[offset - 1 : offset - 1 + amount]
            part = text.encode(errors="surrogateescape")
            return b"\x0e" + chunks(part) + b"\x08" + locator + ub(len(part)) + answers.error(self._session, 0)
        assert operation == _LOB_LENGTH, operation
        return b"\x08" + locator + ub(len(data)) + answers.error(self._session, 0)
