"""What a statement is to Oracle, told by its first word, and whether it may leave something in a session."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

_BEFORE: Final = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)
_WORD: Final = re.compile(r"[A-Za-z]+")
_CALLED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_$#.]*)\s*\(")
_WORDS: Final = (
    "abs add_months all and any as asciistr avg between bitand by case cast ceil char chr coalesce collect concat "
    "connect convert corr count cube cume_dist date decode dense_rank desc distinct else exists exp extract first "
    "first_value floor from greatest group grouping having hextoraw in initcap instr interval is join json_array "
    "json_arrayagg json_exists json_object json_objectagg json_query json_table json_value lag last last_day "
    "last_value lead least length like listagg ln log lower lpad ltrim max median min mod months_between next_day "
    "not ntile nullif number numtodsinterval numtoyminterval nvl nvl2 nvarchar2 on or order over partition "
    "percent_rank percentile_cont percentile_disc power rank ratio_to_report raw rawtohex regexp_count "
    "regexp_instr regexp_like regexp_replace regexp_substr replace rollup round row_number rpad rtrim select set "
    "sign sqrt standard_hash stddev substr sum sys_context sys_extract_utc then timestamp to_char to_clob to_date "
    "to_dsinterval to_number to_timestamp to_timestamp_tz to_yminterval translate trim trunc tz_offset union "
    "unistr upper using values varchar2 variance when where width_bucket with within xmlagg xmlelement xmlforest "
    "xmlserialize"
)
_HARMLESS: Final = frozenset(_WORDS.split())
"""Names before a parenthesis that leave nothing in a session: built-in functions, types and keywords."""


class Form(Enum):
    """What the driver and the server do with a statement."""

    QUERY = "query"
    CHANGE = "change"
    BLOCK = "block"
    OTHER = "other"
    """Definitions and the like, which run, and commit, as soon as they are parsed."""


_FORMS: Final = {
    **dict.fromkeys(("SELECT", "WITH"), Form.QUERY),
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE", "MERGE"), Form.CHANGE),
    **dict.fromkeys(("BEGIN", "DECLARE", "CALL"), Form.BLOCK),
}


def form_of(text: str) -> Form:
    """The form of a statement, by its first word."""
    start = _BEFORE.match(text)
    word = _WORD.match(text, start.end() if start else 0)
    return _FORMS.get(word[0].upper(), Form.OTHER) if word else Form.OTHER


def bare(text: str) -> str:
    """A statement without the comments behind it, such as the one that tells which call it is."""
    while True:
        text = text.rstrip()
        last = text.rpartition("\n")[2]
        if text.endswith("*/"):
            text = text[: text.rindex("/*")]
        elif last.lstrip().startswith("--"):
            text = text.removesuffix(last)
        else:
            return text


def sendable(text: str) -> str:
    """The statement as the server takes it: SQL without a final semicolon (ORA-00911), blocks with theirs.

    Comments behind it stay there.
    """
    head = bare(text)
    comments = text[len(head) :].rstrip()
    if form_of(head) is not Form.BLOCK:
        return head.rstrip("; \t\r\n") + comments
    head = head.removesuffix("/").rstrip()  # SQL*Plus's own
    if head.lstrip()[:4].upper() == "CALL":
        return head.rstrip(";") + comments
    return f"{head.removesuffix(';')};{comments}"


def leaves_nothing(text: str) -> bool:
    """Whether a query provably leaves nothing behind: no functions but those we know, which keep no state."""
    if form_of(text) is not Form.QUERY:
        return False
    return all(name.lower() in _HARMLESS for name in _CALLED.findall(text))
