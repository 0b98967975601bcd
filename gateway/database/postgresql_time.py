"""Dates, times and intervals of PostgreSQL, exact over their whole range, as ISO 8601 text.

PostgreSQL counts days and microseconds from 2000-01-01 in the proleptic
Gregorian calendar, far beyond Python's years 1 to 9999. Years before 1 are
astronomical (1 BC is 0000, 44 BC is -0043), years beyond 9999 carry a plus
sign (ISO 8601-1:2019 section 4.3.2, expanded representation).
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

_DAY: Final = 86_400_000_000
_SECOND: Final = 1_000_000
_EPOCH: Final = 730_425  # days from 0000-03-01 to 2000-01-01
_ORDINAL: Final = date(2000, 1, 1).toordinal()
_FIRST: Final = date.min.toordinal() - _ORDINAL
_LAST: Final = date.max.toordinal() - _ORDINAL
_DATE_MAX: Final = (1 << 31) - 1
_TIME_MAX: Final = (1 << 63) - 1
_INFINITE: Final = {"infinity": 1, "-infinity": -1}

_DATE: Final = r"(?P<year>[+-]?\d{4,7})-(?P<month>\d\d)-(?P<day>\d\d)"
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,6}))?)?"
_ZONE: Final = r"(?P<zone>[Zz]|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)?"
_DATE_FORM: Final = re.compile(_DATE, re.ASCII)
_TIME_FORM: Final = re.compile(_TIME + _ZONE, re.ASCII)
_MOMENT_FORM: Final = re.compile(f"{_DATE}(?:[Tt ]{_TIME}{_ZONE})?", re.ASCII)
_INTERVAL_FORM: Final = re.compile(
    r"P(?=.)(?:([+-]?\d+)Y)?(?:([+-]?\d+)M)?(?:([+-]?\d+)W)?(?:([+-]?\d+)D)?"
    r"(?:T(?=.)(?:([+-]?\d+)H)?(?:([+-]?\d+)M)?(?:([+-]?)(\d+)(?:[.,](\d{1,6}))?S)?)?",
    re.ASCII,
)


def date_text(value: tuple[int]) -> str:
    """A `date` from its binary form (days)."""
    (days,) = value
    if days >= _DATE_MAX or days <= -_DATE_MAX - 1:
        return "infinity" if days > 0 else "-infinity"
    return _civil(days)


def timestamp_text(value: tuple[int]) -> str:
    """A `timestamp` from its binary form (microseconds); no zone is invented."""
    (moment,) = value
    if moment >= _TIME_MAX or moment <= -_TIME_MAX - 1:
        return "infinity" if moment > 0 else "-infinity"
    days, rest = divmod(moment, _DAY)
    return f"{_civil(days)}T{_clock(rest)}"


def timestamptz_text(value: tuple[int]) -> str:
    """A `timestamptz` in UTC."""
    text = timestamp_text(value)
    return text if text.endswith("infinity") else f"{text}+00:00"


def time_text(value: tuple[int]) -> str:
    """A `time`; 24:00:00 stays what it is."""
    return _clock(value[0])


def timetz_text(value: tuple[int, int]) -> str:
    """A `timetz`; PostgreSQL counts its zone in seconds west."""
    clock, west = value
    sign, seconds = ("-", west) if west > 0 else ("+", -west)
    minutes, second = divmod(seconds, 60)
    zone = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}" + (f":{second:02d}" if second else "")
    return f"{_clock(clock)}{zone}"


def interval_text(value: tuple[int, int, int]) -> str:
    """An `interval` as an ISO 8601 duration, each part with its own sign, as `intervalstyle iso_8601` writes it."""
    months, days, microseconds = value
    if months == days == _DATE_MAX and microseconds == _TIME_MAX:
        return "infinity"
    if months == days == -_DATE_MAX - 1 and microseconds == -_TIME_MAX - 1:
        return "-infinity"
    years, months = _towards_zero(months, 12)
    hours, rest = _towards_zero(microseconds, 3600 * _SECOND)
    minutes, rest = _towards_zero(rest, 60 * _SECOND)
    date = "".join(f"{number}{unit}" for number, unit in ((years, "Y"), (months, "M"), (days, "D")) if number)
    time = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M")) if number)
    if rest:
        time += f"{'-' if rest < 0 else ''}{abs(rest) // _SECOND}{_fraction(abs(rest) % _SECOND)}S"
    return "P" + date + (f"T{time}" if time else "") if date or time else "PT0S"


def date_binary(text: str) -> tuple[int]:
    """The binary form of an ISO 8601 date. Raises ValueError."""
    if text in _INFINITE:
        return (_DATE_MAX if _INFINITE[text] > 0 else -_DATE_MAX - 1,)
    if not (match := _DATE_FORM.fullmatch(text)):
        raise ValueError("expected a date such as 2024-05-31")
    return (_days(match),)


def timestamp_binary(text: str) -> tuple[int]:
    """The binary form of a date and time without offset; UTC may be said. Raises ValueError."""
    moment, zone = _moment(text)
    if zone:
        raise ValueError("expected a date and time without an offset, such as 2024-05-31T10:30:00")
    return (moment,)


def timestamptz_binary(text: str) -> tuple[int]:
    """The binary form of a date and time with its offset. Raises ValueError."""
    moment, zone = _moment(text)
    if zone is None:
        raise ValueError("expected a date and time with its offset, such as 2024-05-31T10:30:00Z")
    return (moment if text in _INFINITE else moment - zone * _SECOND,)


def time_binary(text: str) -> tuple[int]:
    """The binary form of a time of day. Raises ValueError."""
    match = _TIME_FORM.fullmatch(text)
    if match is None or match["zone"]:
        raise ValueError("expected a time such as 10:30:00")
    return (_microseconds(match),)


def timetz_binary(text: str) -> tuple[int, int]:
    """The binary form of a time of day with its offset. Raises ValueError."""
    match = _TIME_FORM.fullmatch(text)
    if match is None or not match["zone"]:
        raise ValueError("expected a time with its offset, such as 10:30:00+02:00")
    return _microseconds(match), -_offset(match["zone"])


def interval_binary(text: str) -> tuple[int, int, int]:
    """The binary form of an ISO 8601 duration. Raises ValueError."""
    if not (match := _INTERVAL_FORM.fullmatch(text)):
        raise ValueError("expected an ISO 8601 duration such as P1DT2H30M")
    years, months, weeks, days, hours, minutes = (int(match[index] or 0) for index in range(1, 7))
    seconds = int(match[8] or 0) * _SECOND + int((match[9] or "").ljust(6, "0"))
    microseconds = (hours * 60 + minutes) * 60 * _SECOND + (-seconds if match[7] == "-" else seconds)
    value = (years * 12 + months, weeks * 7 + days, microseconds)
    if max(abs(value[0]), abs(value[1])) > _DATE_MAX or abs(value[2]) > _TIME_MAX:
        raise ValueError("the duration is too long")
    return value


def _civil(days: int) -> str:
    """The date of a day number; where Python's calendar ends, the year begins in March: its leap day is the last."""
    if _FIRST <= days <= _LAST:
        return date.fromordinal(days + _ORDINAL).isoformat()
    era, day = divmod(days + _EPOCH, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    shifted = (5 * day + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year += era * 400 + (month <= 2)
    sign = "-" if year < 0 else "+" if year > 9999 else ""
    return f"{sign}{abs(year):04d}-{month:02d}-{day - (153 * shifted + 2) // 5 + 1:02d}"


def _days(match: re.Match[str]) -> int:
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = (31, 29 if is_leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not (1 <= month <= 12 and 1 <= day <= longest[month - 1] and -4713 < year <= 5_874_897):
        raise ValueError("there is no such date")
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _EPOCH


def _moment(text: str) -> tuple[int, int | None]:
    if text in _INFINITE:
        return (_TIME_MAX if _INFINITE[text] > 0 else -_TIME_MAX - 1), 0
    if not (match := _MOMENT_FORM.fullmatch(text)):
        raise ValueError("expected a date and time such as 2024-05-31T10:30:00")
    moment = _days(match) * _DAY + (_microseconds(match) if match["hour"] else 0)
    if abs(moment) > 9_223_371_331_200_000_000:
        raise ValueError("the date is out of range")
    return moment, (_offset(match["zone"]) if match["zone"] else None)


def _microseconds(match: re.Match[str]) -> int:
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"] or 0)
    value = ((hour * 60 + minute) * 60 + second) * _SECOND + int((match["fraction"] or "").ljust(6, "0"))
    if minute > 59 or second > 59 or value > _DAY:
        raise ValueError("there is no such time of day")
    return value


def _offset(zone: str) -> int:
    """Seconds east of UTC."""
    if zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "").ljust(6, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:])
    if seconds >= 16 * 3600:
        raise ValueError("there is no such offset")
    return -seconds if zone[0] == "-" else seconds


def _clock(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, _SECOND)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{_fraction(fraction)}"


def _fraction(microseconds: int) -> str:
    return f".{microseconds:06d}".rstrip("0") if microseconds else ""


def _towards_zero(value: int, unit: int) -> tuple[int, int]:
    quotient = abs(value) // unit * (-1 if value < 0 else 1)
    return quotient, value - quotient * unit
