"""Points in time and intervals: as SQLite holds them, on the wire, and as TO_CHAR writes them.

A moment is the text `YYYY-MM-DD[ HH:MM:SS[.fraction]]`, and after it, where the type has a zone, an offset
(`+05:30`) or a region (`Europe/Berlin`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final
from zoneinfo import ZoneInfo

REGIONS: Final = {"America/New_York": 100, "Asia/Kolkata": 772, "Europe/London": 369, "Europe/Berlin": 383}
"""A few of the numbers that Oracle knows regions by; the wire has the number only."""
_HAS_REGION: Final = 0x80
_MIDDLE: Final = 0x80000000
_MOMENT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?)? ?([+-]\d\d:\d\d|[A-Z]\w+/\w+)?"
)
_DAYS: Final = re.compile(r"(-?)(\d+) (\d+):(\d+):(\d+)(?:\.(\d{1,9}))?")
_ELEMENT: Final = re.compile(r'"([^"]*)"|SYYYY|YYYY|MM|DD|HH24|MI|SS|FF9|TZH|TZM|TZR')


@dataclass(frozen=True)
class Moment:
    """Local time, nanoseconds, and the zone as it is written; "" where there is none."""

    fields: tuple[int, int, int, int, int, int]
    nanoseconds: int
    zone: str

    @property
    def offset(self) -> timedelta:
        """How far local time is ahead of UTC, which is all of it where there is no zone."""
        if not self.zone:
            return timedelta(0)
        if self.zone in REGIONS:
            found = datetime(*self.fields, tzinfo=ZoneInfo(self.zone)).utcoffset()
            assert found is not None
            return found
        size = timedelta(hours=int(self.zone[1:3]), minutes=int(self.zone[4:6]))
        return -size if self.zone[0] == "-" else size

    def wire(self, *, has_time: bool, has_zone: bool) -> bytes:
        """A DATE, or a TIMESTAMP; one with a zone holds UTC, and the offset or the region's number."""
        year, month, day, hour, minute, second = self.fields
        if has_zone:
            there = datetime(*self.fields, tzinfo=timezone(self.offset)).astimezone(UTC)
            year, month, day, hour, minute, second, *_ = there.timetuple()
        data = bytes([year // 100 + 100, year % 100 + 100, month, day, hour + 1, minute + 1, second + 1])
        if has_time:
            data += struct.pack(">I", self.nanoseconds)
        return data + self._zone() if has_zone else data

    def _zone(self) -> bytes:
        if (region := REGIONS.get(self.zone)) is not None:
            return bytes([_HAS_REGION | region >> 6, (region & 0x3F) << 2])
        minutes = round(self.offset / timedelta(minutes=1))
        sign = -1 if minutes < 0 else 1
        return bytes([20 + sign * (abs(minutes) // 60), 60 + sign * (abs(minutes) % 60)])

    def written(self, form: str) -> str:
        """What TO_CHAR writes for a format."""
        year, month, day, hour, minute, second = self.fields
        minutes = round(self.offset / timedelta(minutes=1))
        elements: dict[str, Callable[[], str]] = {
            "SYYYY": lambda: f" {year:04d}",
            "YYYY": lambda: f"{year:04d}",
            "MM": lambda: f"{month:02d}",
            "DD": lambda: f"{day:02d}",
            "HH24": lambda: f"{hour:02d}",
            "MI": lambda: f"{minute:02d}",
            "SS": lambda: f"{second:02d}",
            "FF9": lambda: f"{self.nanoseconds:09d}",
            "TZH": lambda: f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}",
            "TZM": lambda: f"{abs(minutes) % 60:02d}",
            "TZR": lambda: self.zone or "+00:00",
        }
        return _ELEMENT.sub(lambda found: elements[found[0]]() if found[1] is None else found[1], form)


def moment(text: str) -> Moment:
    """A moment from its text."""
    match = _MOMENT.fullmatch(text)
    assert match, text
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    return Moment((year, month, day, hour, minute, second), int((match[7] or "0").ljust(9, "0")), match[8] or "")


def read_moment(data: bytes) -> str:
    """A bind's value; the driver sends no zones but UTC."""
    year = (data[0] - 100) * 100 + data[1] - 100
    text = f"{year:04d}-{data[2]:02d}-{data[3]:02d}T{data[4] - 1:02d}:{data[5] - 1:02d}:{data[6] - 1:02d}"
    return text + (f".{int.from_bytes(data[7:11], 'big') // 1000:06d}" if len(data) > 7 else "")


def day_to_second(text: str) -> bytes:
    """An interval written as `[-]days hours:minutes:seconds[.fraction]`, on the wire."""
    match = _DAYS.fullmatch(text)
    assert match, text
    sign = -1 if match[1] else 1
    days, hours, minutes, seconds = (sign * int(match[index]) for index in (2, 3, 4, 5))
    fraction = sign * int((match[6] or "0").ljust(9, "0"))
    head = struct.pack(">I", days + _MIDDLE) + bytes([hours + 60, minutes + 60, seconds + 60])
    return head + struct.pack(">I", fraction + _MIDDLE)


def year_to_month(text: str) -> bytes:
    """An interval written as `[-]years-months`, on the wire."""
    match = re.fullmatch(r"(-?)(\d+)-(\d+)", text)
    assert match, text
    sign = -1 if match[1] else 1
    return struct.pack(">IB", sign * int(match[2]) + _MIDDLE, sign * int(match[3]) + 60)


def to_char(text: str | None, form: str = "") -> str | None:
    """TO_CHAR of a moment with a format, or of an INTERVAL DAY(9) TO SECOND(9) without."""
    if text is None or form:
        return None if text is None else moment(text).written(form)
    match = _DAYS.fullmatch(text)
    assert match, text
    hours, minutes, seconds = (int(match[index]) for index in (3, 4, 5))
    fraction = (match[6] or "").ljust(9, "0")
    return f"{match[1] or '+'}{int(match[2]):09d} {hours:02d}:{minutes:02d}:{seconds:02d}.{fraction}"
