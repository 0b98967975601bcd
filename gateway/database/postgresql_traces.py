"""Finds the reads that provably leave nothing in a PostgreSQL session, so that its reset may be skipped.

A read is rolled back, and that undoes settings, temporary objects and transaction locks. What a
rollback does not undo (advisory locks of the session, random seeds, a language's globals) is done
by functions. So a read is traceless when every function that it could reach is built in and not
volatile. Names are compared generously: every word of the text counts, wherever it stands.
"""

from __future__ import annotations

import re
import time
from typing import Any, Final

import asyncpg

BELIEVED: Final = 300.0
"""Seconds for which an answer is believed; somebody may replace a table by a view."""

_MOST: Final = 1024

_HEAD: Final = re.compile(r"[\s(]*(select|with|values|table)\b", re.IGNORECASE)
_WORD: Final = re.compile(r"[A-Za-z0-9_$\u0080-\U0010ffff]+")
_FOLDED: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_LONGEST: Final = 63

# Objects from 16384 on were made by users (PostgreSQL source, FirstNormalObjectId). Operators and casts
# reach functions that are not named; those of extensions are C.
_QUESTION: Final = r"""
select not (
  exists (select from pg_catalog.pg_proc
          where (proname = any($1::text[]) or (proname !~ '^[[:alnum:]_$]+$' and position(proname::text in $2) > 0))
          and (oid >= 16384 or provolatile = 'v' or proname ~ '_to_xml|^pg_input_'))
  or exists (select from pg_catalog.pg_class
             where (relname = any($1::text[]) or (relname !~ '^[[:alnum:]_$]+$' and position(relname::text in $2) > 0))
             and oid >= 16384 and (relkind in ('v', 'f', 'c') or relrowsecurity))
  or exists (select from pg_catalog.pg_type
             where (typname = any($1::text[]) or (typname !~ '^[[:alnum:]_$]+$' and position(typname::text in $2) > 0))
             and oid >= 16384 and typtype = 'd')
  or exists (select from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
             where p.oid >= 16384 and (p.provolatile = 'v' or l.lanname not in ('c', 'internal'))
             and (p.oid in (select oprcode from pg_catalog.pg_operator where oid >= 16384)
                  or p.oid in (select castfunc from pg_catalog.pg_cast where oid >= 16384))))
"""


class Traces:
    """What one connection knows of its statements, by their texts."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bool, float]] = {}

    def is_traceless(self, text: str) -> bool:
        """Whether a read with this text leaves nothing once it is rolled back; False as long as nobody asked."""
        is_traceless, until = self._known.get(text, (False, 0.0))
        return is_traceless and time.monotonic() < until

    async def ask(self, raw: Any, text: str) -> None:
        """Ask the catalogue about a statement, unless a recent answer is known."""
        if time.monotonic() < self._known.get(text, (False, 0.0))[1]:
            return
        is_traceless = False
        if _HEAD.match(text) and "u&" not in text.lower():  # U&"..." spells names that no search finds
            try:
                is_traceless = bool(await raw.fetchval(_QUESTION, _names(text), text))
            except asyncpg.PostgresError:
                is_traceless = False
        if len(self._known) >= _MOST:  # texts differ with each call where a comment tells the trace
            self._known.clear()
        self._known[text] = (is_traceless, time.monotonic() + BELIEVED)

    def forget(self) -> None:
        """The schema changed."""
        self._known.clear()


def _names(text: str) -> list[str]:
    """Every word, as written and as PostgreSQL folds it (PostgreSQL documentation, section 4.1.1)."""
    words = set(_WORD.findall(text))
    words |= {word.translate(_FOLDED) for word in words}
    return sorted({word.encode()[:_LONGEST].decode(errors="ignore") for word in words})
