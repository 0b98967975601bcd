"""Durations and sizes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.units import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5ms", 0.005), ("30s", 30), ("1.5s", 1.5), ("5m", 300), ("2h", 7200), ("7d", 604800), ("0s", 0)],
)
def test_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("512B", 512), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)])
def test_size_is_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value", [30, 1.5, None, True, "30", "s", "-1s", "1 s", "1S", "1e3s", "30s\n", "٣s", "1.s", "9" * 20 + "s"]
)
def test_duration_without_number_and_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration with its unit"):
        parse_duration(value)


@pytest.mark.parametrize("value", [30, None, "30", "1kb", "1MB", "1.5MiB", "-1B", "1 B", "9" * 5000 + "B"])
def test_size_without_number_and_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size with its unit"):
        parse_size(value)


@given(st.integers(0, 365 * 86400 * 1000))
def test_duration_survives_writing(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 999_999_999))
def test_size_survives_writing(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.from_regex(DURATION_PATTERN) | st.text(), st.from_regex(SIZE_PATTERN) | st.text())
def test_schema_and_parser_agree(duration: str, size: str) -> None:
    for text, pattern, parse in ((duration, DURATION_PATTERN, parse_duration), (size, SIZE_PATTERN, parse_size)):
        try:
            is_accepted = parse(text) >= 0
        except ValueError as error:
            is_accepted = "at most" in str(error)
        assert is_accepted == (re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None)
