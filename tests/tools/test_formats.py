"""Formats accept what their standard accepts, and refuse near misses."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tools.formats import FORMATS

GOOD = {
    "date": ["2024-02-29", "0001-01-01", "9999-12-31"],
    "time": ["00:00:00Z", "23:59:60Z", "13:45:00.123456789+05:30", "13:45:00z"],
    "date-time": ["2024-02-29T13:45:00Z", "2024-02-29t13:45:00.5-08:00", "2024-02-29 13:45:00Z"],
    "duration": ["P1D", "PT1H", "P1Y2M3DT4H5M6S", "P2W", "PT0.5S"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000"],
    "email": ["a@example.com", "a.b+c@x-y.example"],
    "ipv4": ["192.0.2.1", "0.0.0.0"],
    "ipv6": ["::1", "2001:db8::1"],
    "uri": ["https://example.com/a?b=c#d", "urn:isbn:0451450523", "mailto:a@example.com"],
}
BAD = {
    "date": [
        "2023-02-29",
        "2024-13-01",
        "24-01-01",
        "2024-1-1",
        "2024-01-01\n",
        "20240101",
        "2024-W01-1",
        "٢٠٢٤-01-01",
    ],
    "time": ["13:45:00", "24:00:00Z", "13:60:00Z", "13:45Z", "13:45:00+24:00", "13:45:00Z\n"],
    "date-time": ["2024-02-29T13:45:00", "2023-02-29T13:45:00Z", "2024-02-29", "2024-02-29_13:45:00Z"],
    "duration": ["P", "PT", "1D", "P1H", "P1D\n", "P1W2D"],
    "uuid": [
        "123e4567e89b12d3a456426614174000",
        "{123e4567-e89b-12d3-a456-426614174000}",
        "g23e4567-e89b-12d3-a456-426614174000",
    ],
    "email": ["a", "@b", "a@", "a@b@c", "a b@example.com"],
    "ipv4": ["256.0.0.1", "1.2.3", "01.2.3.4", "1.2.3.4\n"],
    "ipv6": [":::", "fe80::1%eth0", "1.2.3.4"],
    "uri": ["/relative", "no scheme", "https://exa mple.com", "https://[::1", "http://é.example", ""],
}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_good_and_bad(name: str) -> None:
    check, phrase = FORMATS[name]
    assert [text for text in GOOD[name] if not check(text)] == []
    assert [text for text in BAD[name] if check(text)] == []
    assert phrase.startswith(("a ", "an "))


@given(st.dates())
def test_every_day_is_a_date(day: date) -> None:
    assert FORMATS["date"][0](day.isoformat())


@given(st.datetimes(), st.integers(-23 * 60 - 59, 23 * 60 + 59))
def test_every_moment_with_an_offset_is_a_date_time(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert FORMATS["date-time"][0](zoned.isoformat())
    assert not FORMATS["date-time"][0](moment.isoformat())


@given(st.uuids())
def test_every_uuid(value: object) -> None:
    assert FORMATS["uuid"][0](str(value))
