"""The string formats that arguments are held to; unlike JSON Schema's default, they are asserted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK: Final = r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(\.[0-9]{1,9})?"
_OFFSET: Final = r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_TIME: Final = re.compile(_CLOCK + _OFFSET)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_DURATION: Final = re.compile(
    r"P(?!$)([0-9]+W|([0-9]+Y)?([0-9]+M)?([0-9]+D)?(T(?=[0-9])([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]+)?S)?)?)"
)


def is_date(text: str) -> bool:
    """RFC 3339 full-date: a day that exists, written 2024-01-31."""
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def is_time(text: str) -> bool:
    """RFC 3339 full-time: with its offset, such as 13:45:00Z."""
    return _TIME.fullmatch(text) is not None


def is_date_time(text: str) -> bool:
    """RFC 3339 date-time: with its offset, such as 2024-01-31T13:45:00+01:00."""
    return text[10:11] in ("T", "t", " ") and is_date(text[:10]) and is_time(text[11:])


def is_uuid(text: str) -> bool:
    """RFC 9562 in its hyphenated form."""
    return _UUID.fullmatch(text) is not None


def is_email(text: str) -> bool:
    """The addresses that HTML forms accept (WHATWG), a practical part of RFC 5321."""
    return _EMAIL.fullmatch(text) is not None


def is_ipv4(text: str) -> bool:
    """A dotted quad."""
    return _parses(ipaddress.IPv4Address, text)


def is_ipv6(text: str) -> bool:
    """RFC 4291 text, without a zone."""
    return "%" not in text and _parses(ipaddress.IPv6Address, text)


def is_uri(text: str) -> bool:
    """An absolute URI (RFC 3986): a scheme and something after it, in printable ASCII."""
    if not text.isascii() or not text.isprintable() or re.search(r'[\s<>"{}|\\^`]', text):
        return False
    return _parses(_split, text)


def is_duration(text: str) -> bool:
    """ISO 8601 as in RFC 3339 appendix A, such as P3DT4H; seconds may have a fraction."""
    return _DURATION.fullmatch(text) is not None


def _split(text: str) -> None:
    parts = urlsplit(text)
    if not parts.scheme or not (parts.netloc or parts.path):
        raise ValueError(text)


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


FORMATS: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = MappingProxyType(
    {
        "date": (is_date, "a date such as 2024-01-31"),
        "time": (is_time, "a time with its offset such as 13:45:00Z"),
        "date-time": (is_date_time, "a date and time with its offset such as 2024-01-31T13:45:00Z"),
        "duration": (is_duration, "an ISO 8601 duration such as P3DT4H"),
        "uuid": (is_uuid, "a UUID such as 123e4567-e89b-12d3-a456-426614174000"),
        "email": (is_email, "an e-mail address"),
        "ipv4": (is_ipv4, "an IPv4 address"),
        "ipv6": (is_ipv6, "an IPv6 address"),
        "uri": (is_uri, "an absolute URI"),
    }
)
"""Each known format: its check, and how a message names it."""
