"""PostgreSQL's numeric: both ways of reading it say the same, digit for digit."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gateway.database import postgresql_numeric as numeric
from gateway.database import postgresql_time as temporal

GROUPS = st.lists(st.integers(0, 9999), max_size=12).map(tuple)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40))
def test_what_is_written_is_read_with_its_trailing_zeros(value: Decimal) -> None:
    plain = Decimal(f"{value:f}")
    read = numeric.decode(numeric.encode(plain))
    assert read == plain
    assert read.as_tuple().exponent == min(0, int(plain.as_tuple().exponent))


@given(GROUPS, st.integers(-12, 12), st.integers(0, 40))
def test_the_short_way_is_the_long_one(groups: tuple[int, ...], weight: int, scale: int) -> None:
    short, long = (make(groups, weight, scale) for make in (numeric._digits, numeric._many_digits))
    assert Decimal(short) == Decimal(long)
    assert Decimal(short).as_tuple().exponent == Decimal(long).as_tuple().exponent


@given(st.dates())
def test_python_s_calendar_is_postgresql_s(day: date) -> None:
    days = (day - date(2000, 1, 1)) // timedelta(days=1)
    assert temporal.date_text((days,)) == day.isoformat()
