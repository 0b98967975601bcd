"""Which statements provably leave nothing behind in a MySQL session, so that a reset can be spared."""

from __future__ import annotations

import re
from typing import Final

_CALLED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_$]*)\s*\(")
_READING: Final = ("select", "with", "values", "show")
_WORDS: Final = (
    "abs all and any as asc avg between bigint binary case cast ceil ceiling char char_length coalesce concat "
    "concat_ws convert count cume_dist curdate current_date current_time current_timestamp date date_add "
    "date_format date_sub datediff datetime day dayofmonth dayofweek decimal dense_rank desc distinct else "
    "exists exp extract first_value floor format from from_unixtime greatest group_concat having hex hour if "
    "ifnull in instr int interval isnull join json_array json_arrayagg json_contains json_extract json_length "
    "json_object json_objectagg json_unquote json_value lag last_value lcase lead least left length like ln "
    "locate log lower lpad ltrim max mid min minute mod month monthname not now nth_value ntile nullif on or "
    "order over partition percent_rank pow power quarter rand rank recursive regexp repeat replace reverse "
    "right round row_number rpad rtrim second select sign signed sqrt stddev substr substring sum then time "
    "timestampdiff trim truncate ucase unhex union unsigned upper using utc_timestamp values varchar variance "
    "week weekday when where with year"
)
_HARMLESS: Final = frozenset(_WORDS.split())
"""Names before a parenthesis that leave nothing in a session: built-in functions, types and keywords."""


def leaves_nothing(text: str) -> bool:
    """Whether a statement provably leaves no session state: no variables, locks or functions that we do not know."""
    lowered = text.lower()
    if "@" in text or "`" in text or not lowered.lstrip("( \t\r\n").startswith(_READING):
        return False
    return "into" not in lowered and all(name in _HARMLESS for name in _CALLED.findall(lowered))
