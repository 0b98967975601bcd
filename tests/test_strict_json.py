"""How deep documents may nest, told from their text alone."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.strict_json import MAX_DEPTH, nests_too_deep

_VALUES = st.recursive(
    st.none() | st.text('[]{}"\\a') | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('[]{}"\\a'), inner),
)


def levels(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(levels, value.values()), default=0)
        case list():
            return 1 + max(map(levels, value), default=0)
    return 0


@given(_VALUES, st.integers(MAX_DEPTH - 12, MAX_DEPTH + 2), st.sampled_from([("[", "]"), ('{"]":', "}")]))
def test_levels_are_counted_whatever_texts_hold(value: Any, around: int, bracket: tuple[str, str]) -> None:
    opening, closing = bracket
    # Many siblings, so that the number of brackets alone tells nothing.
    written = f"[{'[],' * MAX_DEPTH}{opening * around}{json.dumps(value)}{closing * around}]"
    assert nests_too_deep(written.encode()) == (1 + around + levels(value) > MAX_DEPTH)


@pytest.mark.parametrize(
    "written",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"[[]," * 300_000,
        b"[" * 65 + b'"' + b'\\"' * 500_000,
        b"[" * 65 + b'"",' * 300_000,
        b"[" * 65 + b'"' + b"\\" * 1_000_000,
    ],
)
def test_it_takes_no_longer_than_the_text_is_long(written: bytes) -> None:
    started = time.thread_time()
    assert nests_too_deep(written)
    assert time.thread_time() - started < 1


@pytest.mark.parametrize(
    "written", [b'"' + b"[" * 100, b'"\\"' + b"[" * 100 + b'"', b"\\" * 9, b"]" * 100, b"[]" * 100]
)
def test_what_opens_no_level_is_not_deep(written: bytes) -> None:
    assert not nests_too_deep(written)
