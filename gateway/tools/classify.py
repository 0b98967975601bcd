"""Judges at load whether a statement only reads: the third fence, behind the account and the transaction.

It works on the lexer's tokens, in which every word is plain: what a word does is told by its position, so that columns
and functions named `update`, `replace` or `insert` stay what they are. Whatever cannot be followed is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gateway.database.lexer import Kind, Token, tokenize
from gateway.tools.statement import where

_ROWS: Final = frozenset({"SELECT", "WITH", "VALUES", "TABLE"})
_PLANS: Final = frozenset({"EXPLAIN", "DESCRIBE", "DESC"})
_TELLS: Final = frozenset({"SHOW"})
_CHANGES: Final = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})
_PLAN_WORDS: Final = frozenset({"ANALYZE", "ANALYSE", "VERBOSE", "EXTENDED", "PARTITIONS", "QUERY", "PLAN"})
_LOCKS: Final = (("UPDATE",), ("SHARE",), ("NO", "KEY", "UPDATE"), ("KEY", "SHARE"))
_CUTTERS: Final = frozenset({"SUBSTRING", "OVERLAY"})
"""Functions with a FOR of their own: `substring(name from 1 for share)`."""
_READING_PRAGMAS: Final = ("_info", "_xinfo", "_list")
_REMEDY: Final = "on a source with access: read-write, say writes: true; else write it as a plain SELECT"


def changes(sql: str, dialect: str) -> list[str]:
    """What in a statement does more than read, each with its line and column; empty for a plain read.

    Args:
        sql: one statement, in which `statement.scan` found no mistake.
        dialect: as the lexer has it.
    """
    found = _Reader(tokenize(sql, dialect), dialect).findings()
    return [f"{where(sql, token.start)}: {words}; {_REMEDY}" for token, words in found]


class _Reader:
    """The tokens of one statement, and how to walk them."""

    def __init__(self, tokens: Sequence[Token], dialect: str) -> None:
        self._tokens = tokens
        self._dialect = dialect

    def findings(self) -> Iterator[tuple[Token, str]]:
        """Everything that is not a read, at the token where it begins."""
        first = self._inside(0)
        head = self._word(first)
        if head in _ROWS:
            yield from self._rows(first)
        elif head in _PLANS and self._dialect != "oracle":
            yield from self._plan(first)
        elif head == "PRAGMA" and self._dialect == "sqlite":
            yield from self._pragma(first)
        elif head not in _TELLS:
            yield self._at(first), f"a tool that reads cannot begin with {self._shown(first)}"

    # Queries

    def _rows(self, first: int) -> Iterator[tuple[Token, str]]:
        """A query: its WITH clauses, wherever they are, and the clauses that store or lock."""
        if self._word(first) == "WITH":
            yield from self._with(first)
        for index in range(first + 1, len(self._tokens)):
            if self._is_clause(index, "INTO"):
                yield self._at(index), "INTO stores the rows instead of giving them back"
            elif self._is_clause(index, "FOR") and self._is_lock(index):
                yield self._at(index), "the FOR clause locks rows, as only a change needs it"
            elif self._words(index, 4) == ("LOCK", "IN", "SHARE", "MODE"):
                yield self._at(index), "LOCK IN SHARE MODE locks rows, as only a change needs it"

    def _with(self, index: int) -> Iterator[tuple[Token, str]]:
        """WITH name (columns) AS [NOT] MATERIALIZED (body) SEARCH ... CYCLE ..., and so on; then the statement."""
        index += 1 + (self._word(index + 1) == "RECURSIVE" and self._word(index + 2) != "AS")
        while True:
            start = index
            index += 1
            if self._is(index, "("):
                index = self._behind(index)
            body = next(
                (index + length for length in (1, 2, 3) if self._is(index + length, "(")),
                len(self._tokens),
            )
            if self._word(index) != "AS" or body >= len(self._tokens):
                yield self._at(start), "this WITH clause cannot be followed"
                return
            yield from self._verb(self._inside(body))
            index = self._behind_search(self._behind(body))
            if not self._is(index, ","):
                break
            index += 1
        yield from self._verb(self._inside(index))

    def _verb(self, index: int) -> Iterator[tuple[Token, str]]:
        """The statement in or behind a WITH clause."""
        word = self._word(index)
        if word == "WITH":
            yield from self._with(index)
        elif word in _CHANGES:
            yield self._at(index), f"{word} changes data, also inside WITH"
        elif word not in _ROWS:
            yield self._at(index), f"expected SELECT here, got {self._shown(index)}"

    def _behind_search(self, index: int) -> int:
        """Past SEARCH ... SET name and CYCLE ... SET name ... USING name (SQL:2016, search or cycle clause)."""
        for clause, last in (("SEARCH", "SET"), ("CYCLE", "USING")):
            if self._word(index) == clause:
                ends = (at for at in range(index, len(self._tokens)) if self._word(at) == last)
                index = next(ends, len(self._tokens)) + 2
        return index

    def _is_lock(self, index: int) -> bool:
        is_locking = any(self._words(index + 1, len(words)) == words for words in _LOCKS)
        return is_locking and self._dialect != "sqlite" and self._caller(index) not in _CUTTERS

    # Statements that tell about others

    def _plan(self, first: int) -> Iterator[tuple[Token, str]]:
        """EXPLAIN runs its statement only with ANALYZE."""
        index, is_run = first + 1, False
        if self._is(index, "(") and self._word(self._inside(index)) not in _ROWS:
            behind = self._behind(index)
            is_run = any(self._word(at) in {"ANALYZE", "ANALYSE"} for at in range(index, behind))
            index = behind
        while self._word(index) in _PLAN_WORDS or (self._word(index) == "FORMAT" and self._is(index + 1, "=")):
            is_run |= self._word(index) in {"ANALYZE", "ANALYSE"}
            index += 3 if self._word(index) == "FORMAT" else 1
        if self._word(index) == "INTO":
            yield self._at(index), "INTO stores the plan instead of giving it back"
        elif is_run:
            yield from self._run(self._inside(index))

    def _run(self, index: int) -> Iterator[tuple[Token, str]]:
        if self._word(index) in _ROWS:
            yield from self._rows(index)
        else:
            yield self._at(index), f"EXPLAIN ANALYZE runs its {self._shown(index)}"

    def _pragma(self, first: int) -> Iterator[tuple[Token, str]]:
        """A pragma with an argument changes a setting, unless its argument only says what to tell about."""
        name = first + (3 if self._is(first + 2, ".") else 1)
        if name + 1 < len(self._tokens) and not self._word(name).lower().endswith(_READING_PRAGMAS):
            yield self._at(name), f"PRAGMA {self._shown(name)} with a value changes a setting"

    # Tokens

    def _is(self, index: int, mark: str) -> bool:
        return index < len(self._tokens) and self._tokens[index].text == mark

    def _word(self, index: int) -> str:
        """The unquoted word there, in capitals; "" for anything else."""
        is_word = index < len(self._tokens) and self._tokens[index].kind is Kind.WORD
        return self._tokens[index].text.upper() if is_word else ""

    def _words(self, index: int, count: int) -> tuple[str, ...]:
        return tuple(self._word(at) for at in range(index, index + count))

    def _is_clause(self, index: int, word: str) -> bool:
        """Whether a reserved word stands for itself: no column `t.into`, no label `as into`, no placeholder `:into`."""
        before = self._tokens[index - 1]
        is_placeholder = before.text == ":" and before.end + 1 == self._tokens[index].start
        is_name = is_placeholder or before.text == "." or self._word(index - 1) == "AS"
        return self._word(index) == word and not is_name

    def _inside(self, index: int) -> int:
        """The first token at or after this one that is no opening parenthesis."""
        while self._is(index, "("):
            index += 1
        return index

    def _behind(self, index: int) -> int:
        """The token after the parenthesis that closes this one."""
        depth = 0
        for at in range(index, len(self._tokens)):
            depth += self._is(at, "(") - self._is(at, ")")
            if depth == 0:
                return at + 1
        return len(self._tokens)

    def _caller(self, index: int) -> str:
        """The word before the parenthesis in which a token stands."""
        depth = 0
        for at in range(index - 1, 0, -1):
            depth += self._is(at, ")") - self._is(at, "(")
            if depth < 0:
                return self._word(at - 1)
        return ""

    def _at(self, index: int) -> Token:
        return self._tokens[min(index, len(self._tokens) - 1)]

    def _shown(self, index: int) -> str:
        return self._word(index) or (f"{self._tokens[index].text[:20]!r}" if index < len(self._tokens) else "its end")
