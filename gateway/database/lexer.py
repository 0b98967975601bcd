"""SQL cut into tokens as each database cuts it: what is a string, a quoted name, a comment, a word.

Nothing is parsed, and no word means anything here. Each dialect follows its manual: PostgreSQL "Lexical
Structure", MySQL "Language Structure", Oracle "Basic Elements of Oracle SQL", SQLite "SQL As Understood By SQLite".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple


class Kind(Enum):
    """What a token is."""

    WORD = "word"
    """A keyword or a name without quotes."""
    NAME = "name"
    """A name in quotes."""
    STRING = "string"
    ESCAPED = "escaped"
    """PostgreSQL's E'...', in which a backslash escapes."""
    NUMBER = "number"
    NATIVE = "native"
    """A placeholder in the database's own style."""
    MARK = "mark"
    """One character of punctuation or of an operator; `::` and `:=` are one."""


class Token(NamedTuple):
    """A piece of SQL, as it is written: `text` begins at character `start`; `end` is its last."""

    kind: Kind
    text: str
    start: int
    end: int


class Unclosed(ValueError):
    """A string, a quoted name or a comment has no end.

    Args:
        closer: what is missing.
        start: the character where it begins.
    """

    def __init__(self, closer: str, start: int) -> None:
        super().__init__(f"{closer} is missing")
        self.closer = closer
        self.start = start


# Quantifiers that never give back: a quote that is doubled is never taken for an end.
_STRING: Final = r"'[^']*+(?:''[^']*+)*+'"
_BACKSLASHED: Final = r"'[^'\\]*+(?:(?:''|\\.)[^'\\]*+)*+'"
_NAME: Final = r'"[^"]*+(?:""[^"]*+)*+"'
_TICKED: Final = r"`[^`]*+(?:``[^`]*+)*+`"
# Every character beyond ASCII that is no space may be part of a name; of ASCII the letters, digits, _ and mostly $.
_FIRST: Final = r"[^\s\x00-@\[-^`{-\x7f]"
_PART: Final = r"[^\s\x00-#%-/:-@\[-^`{-\x7f]"
_TAG: Final = rf"\$(?:{_FIRST}[^\s\x00-/:-@\[-^`{{-\x7f]*+)?\$"
_QUOTED: Final = r"[nN]?[qQ]'(?:\[.*?\]'|\{.*?\}'|\(.*?\)'|<.*?>'|(?P<mark_>[^\s\[{(<]).*?(?P=mark_)')"
_EXPONENT: Final = r"[eE][+-]?[0-9]++"
_NUMBER: Final = rf"0[xX][0-9A-Fa-f_]++|[0-9][0-9_]*+(?:\.[0-9_]*+)?(?:{_EXPONENT})?"
# A word may begin with digits, but not with those that a point or an exponent makes a number of.
_NUMBER_IN_MYSQL: Final = rf"0[xX][0-9A-Fa-f]++(?!{_PART})|[0-9]++(?:\.[0-9]*+(?:{_EXPONENT})?|{_EXPONENT}|(?!{_PART}))"


def _dialect(
    *, word: str, opener: str, comment: str = "--[^\r\n]*+", number: str = _NUMBER, **closed: str
) -> re.Pattern[str]:
    """The pattern of one token, whichever it is: its group says.

    Args:
        word: a name without quotes.
        opener: what begins a string or a quoted name; reached where that has no end.
        comment: to the end of the line.
        number: a literal.
        closed: strings, quoted names and native placeholders.
    """
    first = {"space": rf"\s++|{comment}", "block": r"/\*"}
    last = {"opener": opener, "number": number, "word": word, "mark": "::|:=|."}
    groups = (f"(?P<{kind}>{pattern})" for kind, pattern in (first | closed | last).items())
    return re.compile("|".join(groups), re.DOTALL)


_DIALECTS: Final[Mapping[str, re.Pattern[str]]] = {
    "postgres": _dialect(
        string=rf"{_STRING}|(?P<tag_>{_TAG}).*?(?P=tag_)",
        escaped=f"[eE]{_BACKSLASHED}",
        name=_NAME,
        opener=rf"[eE]?'|\"|{_TAG}",
        native=r"\$[0-9]++",
        word=f"{_FIRST}{_PART}*+",
    ),
    "mysql": _dialect(
        comment=r"--(?=[\x00-\x20\x7f]|\Z)[^\n]*+|#[^\n]*+",
        string=f"{_BACKSLASHED}|{_BACKSLASHED.replace(chr(39), chr(34))}",
        name=_TICKED,
        opener="['\"`]",
        native=r"\?",
        number=_NUMBER_IN_MYSQL,
        word=f"{_PART}++",
    ),
    "oracle": _dialect(
        string=f"{_QUOTED}|{_STRING}",
        name=_NAME,
        opener=r"[nN]?[qQ]'|['\"]",
        number=f"(?:{_NUMBER})[fFdD]?",
        word=f"{_FIRST}(?:{_PART}|[#@])*+",
    ),
    "sqlite": _dialect(
        comment="--[^\n]*+",
        string=_STRING,
        name=rf"{_NAME}|{_TICKED}|\[[^\]]*+\]",
        opener=r"['\"`\[]",
        native=rf"\?[0-9]*+|[@$]{_PART}++",
        word=f"{_FIRST}{_PART}*+",
    ),
}


def tokenize(sql: str, dialect: str) -> list[Token]:
    """The tokens of SQL, without space and comments.

    Args:
        sql: one statement, or several.
        dialect: "postgres", "mysql", "oracle" or "sqlite".

    Raises:
        Unclosed: something has no end.
    """
    pattern, tokens, position = _DIALECTS[dialect], list[Token](), 0
    while position < len(sql):
        match = pattern.match(sql, position)
        assert match is not None and match.lastgroup is not None  # noqa: S101, PT018 - the last mark is any character
        if match.lastgroup == "opener":
            closer = {"[": "]"}.get(match[0], match[0].lstrip("eEnNqQ"))
            raise Unclosed(closer, position)
        if match.lastgroup == "block":
            position = _behind_comment(sql, position, nests=dialect == "postgres")
            continue
        if match.lastgroup != "space":
            tokens.append(Token(Kind(match.lastgroup), match[0], position, match.end() - 1))
        position = match.end()
    return tokens


def _behind_comment(sql: str, start: int, *, nests: bool) -> int:
    """The character behind a comment; PostgreSQL's may contain others."""
    position, depth = start + 2, 1
    while depth:
        end = sql.find("*/", position)
        inner = sql.find("/*", position) if nests else -1
        if end < 0:
            raise Unclosed("*/", start)
        is_inner = 0 <= inner < end
        depth += 1 if is_inner else -1
        position = (inner if is_inner else end) + 2
    return position
