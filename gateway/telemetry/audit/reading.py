"""Reading what was written: plain files and compressed archives, line by line."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.errors import GatewayError
from gateway.strict_json import nests_too_deep
from gateway.telemetry.audit.chain import HASH, HEAD, LINE, Link

MAX_LINE: Final = 16 << 20
_OPENERS: Final[Mapping[str, Callable[[Path, str], Any]]] = {".gz": gzip.open, ".xz": lzma.open}


class Unreadable(GatewayError):
    """A file cannot be read."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file.

    Attributes:
        file: which.
        number: counted from 1.
        content: without its line break.
        is_whole: whether it ended with a line break.
    """

    file: Path
    number: int
    content: bytes
    is_whole: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line that is a record or a head.

    Attributes:
        signed: the bytes that were hashed.
        hash: what the line says their hash is.
        fields: what it says.
    """

    signed: bytes
    hash: str
    fields: dict[str, Any]

    @property
    def is_head(self) -> bool:
        """Whether it tells where a chain stands, and is no link of it."""
        return bool(self.fields["event"] == HEAD)

    @property
    def link(self) -> Link:
        """The point of the chain that it names."""
        return Link(self.fields["chain"], self.fields["seq"], self.fields["head"] if self.is_head else self.hash)


def lines(file: Path) -> Iterator[Line]:
    """The lines of a file; `.gz` and `.xz` are uncompressed on the way.

    Raises:
        Unreadable: it cannot be read, or a line is longer than any record.
    """
    try:
        opener: Callable[[Path, str], Any] = _OPENERS.get(file.suffix, open)
        with opener(file, "rb") as stream:
            rest: Iterator[bytes] = iter(lambda: stream.readline(MAX_LINE), b"")
            for number, content in enumerate(rest, 1):
                yield Line(file, number, content.rstrip(b"\n"), content.endswith(b"\n"))
    except (OSError, EOFError, lzma.LZMAError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged"
        raise Unreadable(f"{file}: cannot be read: {reason}") from error


def entry(content: bytes) -> Entry | None:
    """The record or head that a line is; None for anything else."""
    match = LINE.fullmatch(content)
    if match is None or nests_too_deep(content):  # what arguments may hold is flatter
        return None
    try:
        fields = json.loads(match[1] + b"}")
    except ValueError:
        return None
    wanted: dict[str, type] = {"chain": str, "seq": int, "event": str, "time": str}
    if not all(isinstance(fields.get(name), kind) for name, kind in wanted.items()):
        return None
    if HASH.fullmatch(str(fields.get("head" if fields["event"] == HEAD else "prev"))) is None:
        return None
    return Entry(match[1], match[2].decode(), fields)


def last_link(content: bytes) -> Link | None:
    """The last record in the end of a file."""
    for line in reversed(content.split(b"\n")):
        found = entry(line)
        if found is not None and not found.is_head:
            return found.link
    return None
