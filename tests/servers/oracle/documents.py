"""JSON and vectors in Oracle's binary forms (OSON of 21c, VECTOR of 23ai), from the JSON that SQLite holds."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from tests.servers.oracle.values import BINARY_FLOAT, encoder, number

_MAGIC: Final = b"\xffJZ"
_VERSION: Final = 1
_IS_SCALAR, _HASHES_OF_A_BYTE, _LARGE_TREE = 0x10, 0x0100, 0x1000
_OBJECT, _ARRAY, _MANY, _LARGE_OFFSETS = 0x84, 0xC0, 0x08, 0x20
_WORDS: Final = {None: b"\x30", True: b"\x31", False: b"\x32"}
_VECTOR_MAGIC, _FLOAT32 = 0xDB, 2


def oson(text: str) -> bytes:
    """A document: a header, the names of its fields, and the tree that refers to them."""
    value = json.loads(text, parse_float=Decimal)
    if not isinstance(value, dict | list):
        node = _scalar(value)
        return _MAGIC + struct.pack(">BHI", _VERSION, _IS_SCALAR | _LARGE_TREE, len(node)) + node
    names = sorted(set(_names(value)))
    tree = bytearray()
    _grow(tree, value, {name: index for index, name in enumerate(names, 1)})
    written, offsets = b"", b""
    for name in names:
        offsets += struct.pack(">H", len(written))
        written += bytes([len(name.encode())]) + name.encode()
    head = struct.pack(">BHBHIH", _VERSION, _HASHES_OF_A_BYTE | _LARGE_TREE, len(names), len(written), len(tree), 0)
    return _MAGIC + head + bytes(len(names)) + offsets + written + bytes(tree)


def _names(value: Any) -> Iterator[str]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names(item)
    yield from value if isinstance(value, dict) else ()


def _grow(tree: bytearray, value: Any, ids: dict[str, int]) -> int:
    """Put a value, and what is in it, at the tree's end; where it begins."""
    at = len(tree)
    if not isinstance(value, dict | list):
        tree += _scalar(value)
        return at
    is_many = len(value) > 0xFF
    tree.append((_OBJECT if isinstance(value, dict) else _ARRAY) | _LARGE_OFFSETS | _MANY * is_many)
    tree += struct.pack(">H" if is_many else "B", len(value))
    tree += bytes(ids[name] for name in (value if isinstance(value, dict) else ()))
    table = len(tree)
    tree += bytes(4 * len(value))
    for index, item in enumerate(value.values() if isinstance(value, dict) else value):
        struct.pack_into(">I", tree, table + 4 * index, _grow(tree, item, ids))
    return at


def _scalar(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, str):
        data = value.encode()
        return (b"\x33" + bytes([len(data)]) if len(data) <= 0xFF else b"\x38" + struct.pack(">I", len(data))) + data
    data = number(value)
    return b"\x34" + bytes([len(data)]) + data


def vector(text: str) -> bytes:
    """A dense vector of single-precision numbers."""
    numbers = json.loads(text)
    head = struct.pack(">BBHBI", _VECTOR_MAGIC, 0, 0, _FLOAT32, len(numbers))
    return head + b"".join(encoder(BINARY_FLOAT)(each) for each in numbers)
