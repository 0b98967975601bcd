"""Patterns over claims: what matches, and that none keeps the loop busy."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tools.patterns import MAX_TEXT, compile_whole

_LIMIT = 0.25
"""Seconds; a catastrophic pattern takes ages of the universe."""


@pytest.mark.parametrize(
    "pattern",
    [
        "CC-[0-9]+",
        r"[a-z.]+@[a-z.]+\.(com|org)",
        "(?:eu|us)-[a-z]{2,8}-[0-9]",
        r"\(a\+\)\+",
        "[(a+)+]*",
        "a{2,3}(b{1,2}){2}",
        "(?P<name>x)?y",
        "^abc$",
        "(ab)*",
        "a{,3}",
        "x{}",
    ],
)
def test_patterns_of_every_day_are_taken(pattern: str) -> None:
    compile_whole(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|a)*b",
        "(a|ab)+c",
        "a*a*a*b",
        "(?:a?){40}a{40}",
        "((a{0,9}){0,9}){0,9}",
        "(x+x+)+y",
        "(?:(?:a|b)|c)*d",
        "a?" * 30 + "b",
        "(a*?)*?b",
        "([a-z]+)*",
        "(?=(a+)+b)a",
        "(a)\\1",
        "(?i)a",
        "(?P<a>x)(?P=a)",
        "(?(1)a|b)",
        "(",
        "*",
    ],
)
def test_what_may_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(re.error):
        compile_whole(pattern)


def _grouped(parts: tuple[list[str], str]) -> str:
    return f"(?:{'|'.join(parts[0])}){parts[1]}"


_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", r"\w", "(?:a|b)", "(a)", "(ab)", "(?=a)", "\\(", "[)]"])
_REPEATS = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "{,4}", "*?", "++"])
_FLAT = st.lists(st.tuples(_ATOMS, _REPEATS).map("".join), min_size=1, max_size=5).map("".join)
_NESTED = st.recursive(
    _FLAT, lambda inner: st.tuples(st.lists(inner, min_size=1, max_size=2), _REPEATS).map(_grouped), max_leaves=4
)


@given(_NESTED, st.sampled_from(["a" * MAX_TEXT, "ab" * (MAX_TEXT // 2), "a" * (MAX_TEXT - 1) + "!"]))
def test_whatever_is_taken_is_quick(pattern: str, text: str) -> None:
    try:
        compiled = compile_whole(pattern)
    except re.error:
        return
    started = time.process_time()
    compiled.fullmatch(text)
    assert time.process_time() - started < _LIMIT, pattern
