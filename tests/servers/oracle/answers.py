"""Answers of the server that several parts of the dialogue give."""

from __future__ import annotations

from collections.abc import Sequence

from tests.servers.oracle.engine import Session
from tests.servers.oracle.values import Shape
from tests.servers.oracle.wire import chunks, sized, ub

IN_TRANSACTION = 2


def status(session: Session | None) -> bytes:
    """The end of a call that went well and has nothing to tell."""
    return b"\x09" + ub(_state(session)) + ub(0)


def error(
    session: Session | None, number: int, text: str = "", *, cursor: int = 0, count: int = 0, position: int = 0
) -> bytes:
    """The end of a call; 0 is none, and 1403 the end of the rows."""
    head = ub(_state(session)) + ub(0) + ub(0) + ub(min(number, 65535)) + ub(0) + ub(0) + ub(cursor)
    rowid = ub(0) + ub(0) + b"\0" + ub(0) + ub(0)
    body = ub(position) + bytes(6) + rowid + ub(0) + b"\0\0" + ub(0) + ub(0) + ub(0) + ub(0) + ub(0) + ub(0)
    return b"\x04" + head + body + ub(number) + ub(count) + (chunks(text.encode()) if number else b"")


def _state(session: Session | None) -> int:
    return IN_TRANSACTION if session is not None and session.is_in_transaction else 0


def parameters(pairs: Sequence[tuple[str, str, int]]) -> bytes:
    """Names and values, each with its flags."""
    told = (sized(key.encode()) + sized(value.encode()) + ub(flags) for key, value, flags in pairs)
    return b"\x08" + ub(len(pairs)) + b"".join(told)


def described(shapes: Sequence[Shape], *, is_whole: bool = True) -> bytes:
    """A query's columns; those of a REF CURSOR stand within another message."""
    columns = b"".join(shape.described() for shape in shapes)
    body = ub(0) + ub(len(shapes)) + (b"\0" if shapes else b"") + columns
    return (b"\x10\0" if is_whole else b"") + body + sized(b"") + ub(0) * 4 + sized(b"")
