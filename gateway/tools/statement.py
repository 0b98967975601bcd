"""Finds `:name` placeholders in an author's SQL and puts the engine's own in their place.

Nothing else of the text is touched. What is a string, a quoted name, a comment
or a word is decided by the lexer of the engine's dialect. It knows no keywords:
`:limit` and `:order by` are found like `:id`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from gateway.database.engine import CallsProcedures, Engine, Output, Statement
from gateway.database.lexer import Kind, Token, Unclosed, tokenize

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SPACE_OR_LINE_COMMENT: Final = re.compile(r"\s+|--[^\r\n]*")
_BLOCKS: Final = frozenset({"BEGIN", "DECLARE"})
_RUNS_IN_MYSQL: Final = ("/*!", "/*M!")
"""What looks like a comment and is SQL to MySQL and MariaDB (MySQL manual, Comments)."""
_SESSION_CONTROL: Final = frozenset(
    {"ABORT", "BEGIN", "COMMIT", "END", "PREPARE", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"}
    | {"DEALLOCATE", "DISCARD", "LISTEN", "RESET", "SET", "UNLISTEN"}
)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One `:name` in a statement, at characters `start` to `end` (exclusive)."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found in a statement.

    Attributes:
        text: the statement without a final semicolon.
        placeholders: in the order of the text.
        mistakes: what is wrong, each with its line and column in the statement.
    """

    text: str
    placeholders: tuple[Placeholder, ...]
    mistakes: tuple[str, ...]


def scan(sql: str, dialect: str, declared: Iterable[str]) -> Scan:
    """Find the placeholders and the mistakes of one statement.

    Args:
        sql: as the author wrote it.
        dialect: as the lexer has it.
        declared: the names of the tool's parameters.
    """
    names = frozenset(declared)
    if "\0" in sql:
        return Scan(sql, (), ("the statement contains a NUL character",))
    try:
        tokens = tokenize(sql, dialect)
    except Unclosed as error:
        return Scan(sql, (), (_unclosed(sql, error),))
    text, tokens, mistakes = (sql, tokens, []) if _is_block(tokens, dialect) else _single(sql, tokens)
    mistakes += _misread(text, tokens, dialect)
    if not tokens:
        return Scan(text, (), (*mistakes, "the statement is empty"))
    if dialect != "oracle" and tokens[0].text.upper() in _SESSION_CONTROL:
        mistakes.append(f"{tokens[0].text.upper()} controls the session; a tool reads or writes rows, nothing else")
    mistakes += _native(text, tokens, dialect)
    found = list(_placeholders(text, tokens))
    mistakes += [_undeclared(text, item, names) for item in found if item.name not in names]
    return Scan(text, tuple(item for item in found if item.name in names), tuple(mistakes))


def where(sql: str, position: int) -> str:
    """A character of a statement as its author counts: from line 1, column 1."""
    line = sql.count("\n", 0, position) + 1
    column = position - (sql.rfind("\n", 0, position) + 1) + 1
    return f"line {line}, column {column}"


def render(
    name: str,
    found: Scan,
    engine: Engine,
    types: Mapping[str, str],
    *,
    writes: bool,
    outputs: Sequence[Output] = (),
) -> Statement:
    """The statement with the engine's placeholders; call it only where nothing is mistaken.

    Numbered placeholders ($1, ?1) reuse one number for one name; others repeat.

    Args:
        name: the tool's name.
        found: what `scan` returned.
        engine: whose placeholders to write.
        types: the JSON Schema type of each parameter.
        writes: whether the statement changes data.
        outputs: what it gives out, on an engine that calls procedures.
    """
    given = {each.name: index for index, each in enumerate(outputs, 1)}
    is_numbered = engine.placeholder(1, "x") != engine.placeholder(2, "x")
    order: list[str] = []
    pieces: list[str] = []
    done = 0
    for item in found.placeholders:
        before = found.text[done : item.start]
        done = item.end
        if item.name in given and isinstance(engine, CallsProcedures):
            pieces += [before, _apart(before), engine.output(given[item.name])]
            continue
        if is_numbered and item.name in order:
            position = order.index(item.name) + 1
        else:
            order.append(item.name)
            position = len(order)
        pieces += [before, _apart(before), engine.placeholder(position, item.name)]
    pieces.append(found.text[done:])
    return Statement(name, "".join(pieces), tuple(order), tuple(types[each] for each in order), writes, tuple(outputs))


def _single(sql: str, tokens: Sequence[Token]) -> tuple[str, list[Token], list[str]]:
    """The first statement's text and tokens; a further statement is a mistake."""
    ends = [index for index, token in enumerate(tokens) if token.text == ";"]
    if not ends:
        return sql, list(tokens), []
    further = [token for token in tokens[ends[0] :] if token.text != ";"]
    if further:
        return sql, list(tokens), [f"a second statement begins at {where(sql, further[0].start)}; a tool has one"]
    return sql[: tokens[ends[0]].start], list(tokens[: ends[0]]), []


def _is_block(tokens: Sequence[Token], dialect: str) -> bool:
    """Whether it is a PL/SQL block, whose semicolons are its own."""
    return dialect == "oracle" and bool(tokens) and tokens[0].text.upper() in _BLOCKS


def _placeholders(sql: str, tokens: Sequence[Token]) -> Iterable[Placeholder]:
    for colon, word in pairwise(tokens):
        if colon.text == ":" and word.kind is Kind.WORD and word.start == colon.end + 1:
            yield Placeholder(sql[word.start : word.end + 1], colon.start, word.end + 1)


def _native(sql: str, tokens: Sequence[Token], dialect: str) -> list[str]:
    """Mistakes for placeholders in the engine's own style, which would bypass the parameters."""
    found: list[Token] = []
    depth = 0
    for index, token in enumerate(tokens):
        follower = tokens[index + 1] if index + 1 < len(tokens) else None
        depth += {"[": 1, "]": -1}.get(token.text, 0)
        is_native = token.kind is Kind.NATIVE
        if token.text == ":" and dialect in ("sqlite", "oracle") and follower is not None:
            is_key = index > 0 and tokens[index - 1].kind is Kind.STRING
            is_numbered = follower.kind is Kind.NUMBER and follower.start == token.end + 1
            is_native = is_numbered and depth == 0 and not is_key
        if is_native:
            found.append(token)
    return [
        f"{where(sql, token.start)}: a placeholder of the database's own style; declare a parameter and write :name"
        for token in found
    ]


def _misread(sql: str, tokens: Sequence[Token], dialect: str) -> list[str]:
    """Mistakes for text that the lexer would read differently than the database does."""
    mistakes = []
    edges = [(token.start, token.end + 1) for token in tokens]
    gaps = zip([0, *(end for _, end in edges)], [*(start for start, _ in edges), len(sql)], strict=True)
    for start, end in gaps:
        if not _is_blank(sql[start:end], dialect):
            mistakes.append(f"{where(sql, start)}: write this comment more plainly: /* text */ or -- text")
    for first, second in pairwise(tokens):
        is_continued = first.kind is Kind.ESCAPED and second.kind is Kind.STRING
        if is_continued and "\\" in sql[second.start : second.end + 1]:
            mistakes.append(f"{where(sql, second.start)}: write an E'...' string in one piece")
    return mistakes


def _is_blank(gap: str, dialect: str) -> bool:
    """Whether a gap between tokens is nothing but space and comments, as the database counts them."""
    position, depth = 0, 0
    while position < len(gap):
        two = gap[position : position + 2]
        if dialect == "mysql" and not depth and gap.startswith(_RUNS_IN_MYSQL, position):
            return False
        if depth and two == "*/":
            position, depth = position + 2, depth - 1
        elif two == "/*" and (depth == 0 or dialect == "postgres"):
            position, depth = position + 2, depth + 1
        elif depth:
            position += 1
        elif match := _SPACE_OR_LINE_COMMENT.match(gap, position):
            position = match.end()
        elif dialect == "mysql" and gap[position] == "#":
            position = gap.find("\n", position) if "\n" in gap[position:] else len(gap)
        else:
            return False
    return depth == 0


def _apart(before: str) -> str:
    """A space where the placeholder would grow together with the word before it (`limit:n`)."""
    return " " if before and (before[-1].isalnum() or before[-1] in "_$") else ""


def _undeclared(sql: str, item: Placeholder, names: frozenset[str]) -> str:
    if not _NAME.fullmatch(item.name):
        hint = "a placeholder is made of letters, digits and _"
    elif close := difflib.get_close_matches(item.name, sorted(names), 1):
        hint = f"did you mean :{close[0]}?"
    else:
        hint = "declare it, or put a space after the colon where it is not meant as a placeholder"
    return f"{where(sql, item.start)}: the placeholder :{item.name} has no parameter; {hint}"


def _unclosed(sql: str, error: Unclosed) -> str:
    what = "comment that" if error.closer == "*/" else "string or quoted name"
    return f"{where(sql, error.start)}: a {what} is not closed; {error.closer} is missing"
