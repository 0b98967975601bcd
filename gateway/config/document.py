"""One YAML file as a bounded tree in which every node knows its line.

Scalars follow the core schema of YAML 1.2 (section 10.3.2) without octal and
hexadecimal numbers: only true and false are booleans, so `country: no` stays
text, and so do 010, 12:30 and dates. Tags are refused, duplicate keys are
problems, and aliases (with `<<` to merge a mapping) are counted as if written out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.config.problems import ConfigError, KeyPath, Place, Problem

MAX_BYTES: Final = 4 << 20
"""Largest file."""
MAX_NODES: Final = 100_000
"""Most values in a configuration, each alias counted as if written out."""
MAX_DEPTH: Final = 64
"""Deepest nesting."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,299})", re.ASCII)
_FLOAT: Final = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?|(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+)", re.ASCII
)
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value as it is written; quoted text is never a number."""

    text: str
    is_plain: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping: where the key is written, and its value."""

    place: Place
    node: Node


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping."""

    entries: dict[str, Entry]
    place: Place


Node = Scalar | Items | Entries


def plain_value(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means: null, a boolean, a number, or else its text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def read_document(file: Path) -> tuple[Node | None, list[Problem]]:
    """Read one file; None for one that holds nothing, or nothing but comments.

    Raises:
        ConfigError: it cannot be read or is not YAML; nothing more can be said about it.
    """
    top = Place(file, 1)
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem((), f"cannot be read: {error.strerror}", top)]) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError([Problem((), f"expected at most {MAX_BYTES >> 20} MiB of YAML", top)])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem((), "expected text in UTF-8", Place(file, line))]) from None
    composer = _Composer(file, text)
    try:
        return composer.compose(), composer.problems
    except yaml.MarkedYAMLError as error:
        # Only the mark and the words of the error: its snippet could show a secret.
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        hint = _flow_hint(text, line)
        raise ConfigError([Problem((), f"not valid YAML: {error.problem}{hint}", Place(file, line))]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([Problem((), "not valid YAML: a control character", Place(file, line))]) from None


def _flow_hint(text: str, line: int) -> str:
    """A hint for the usual slip: `{password: ${env:NAME}}` without quotes."""
    written = text.splitlines()[line - 1 : line] or [""]
    is_slip = re.search(r"[\[{,].*[:,\[]\s*[^\"'\s]*\$\{", written[0][:500]) is not None
    return '; between { } or [ ] a reference needs quotes: "${...}"' if is_slip else ""


class _Composer:
    """Builds nodes from parser events, so that nothing is constructed and all is counted."""

    def __init__(self, file: Path, text: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def compose(self) -> Node | None:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        node: Node | None = self._node(next(self._events), ())
        if isinstance(node, Scalar) and node.is_plain and plain_value(node.text) is None:
            node = None
        next(self._events)
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            self._refuse((), "expected one document in a file; this starts another", self._place(following))
        return node

    def _place(self, event: Any) -> Place:
        return Place(self._file, event.start_mark.line + 1)

    def _refuse(self, path: KeyPath, message: str, place: Place) -> None:
        self.problems.append(Problem(path, message, place))

    def _bound(self, path: KeyPath, place: Place, more: int = 1) -> None:
        self._count += more
        if self._count > MAX_NODES:
            raise ConfigError([Problem((), f"expected at most {MAX_NODES} values", place)])
        if len(path) > MAX_DEPTH:
            raise ConfigError([Problem(path[:4], f"expected at most {MAX_DEPTH} levels of nesting", place)])

    def _node(self, event: Any, path: KeyPath) -> Node:
        place = self._place(event)
        self._bound(path, place)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), path, place)
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._refuse(path, "YAML tags are not supported; write the plain value", place)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(event.value, event.implicit[0], place)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._items(path, place)
        else:
            node = self._entries(path, place)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, path: KeyPath, place: Place) -> Node:
        if anchor not in self._anchors:
            raise ConfigError([Problem(path, f"there is no anchor &{anchor} before this alias", place)])
        return replace(self._anchors[anchor], place=place)

    def _items(self, path: KeyPath, place: Place) -> Items:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return Items(tuple(items), place)

    def _entries(self, path: KeyPath, place: Place) -> Entries:
        entries: dict[str, Entry] = {}
        merged: list[tuple[Place, Node]] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            at = self._place(event)
            key = self._node(event, path)
            if not isinstance(key, Scalar):
                self._refuse(path, "expected text as a key", at)
                self._node(next(self._events), path)
                continue
            node = self._node(next(self._events), (*path, key.text))
            if key.text == "<<" and key.is_plain:
                merged.append((at, node))
            elif key.text in entries:
                self._refuse((*path, key.text), f"defined twice; first at {entries[key.text].place}", at)
            else:
                entries[key.text] = Entry(at, node)
        for at, node in merged:
            self._merge(entries, node, path, at)
        return Entries(entries, place)

    def _merge(self, entries: dict[str, Entry], node: Node, path: KeyPath, place: Place) -> None:
        for each in node.items if isinstance(node, Items) else (node,):
            if not isinstance(each, Entries):
                self._refuse(path, "expected an alias of a mapping after <<", place)
                continue
            self._bound(path, place, len(each.entries))
            for key, entry in each.entries.items():
                entries.setdefault(key, entry)
