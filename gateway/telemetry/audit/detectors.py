"""Detectors of personal identifiers: what looks like one is never recorded in clear.

They err on the side of hashing: a number that could be a card is treated as one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

_EMAIL: Final = re.compile(r"[^\s@<>()]+\s?(?:@|%40|\(at\)|\[at\])\s?[^\s@<>()]+\.[^\W\d_]{2,}", re.IGNORECASE)
_RUN: Final = re.compile(r"\+?\d(?:[\s().,/_|:-]{0,3}\d){6,}")
_LETTERED: Final = re.compile(r"[A-Z0-9](?:[\s./-]?[A-Z0-9]){7,}", re.IGNORECASE)
_IBAN: Final = re.compile(r"(?=([A-Z]{2}\d{2}[A-Z0-9]{11,30}))")
_HARMLESS: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)?)?"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    re.IGNORECASE | re.ASCII,
)
_NATIONAL: Final = (
    re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]"),  # United Kingdom, NINO
    re.compile(r"[XYZ]?\d{7,8}[A-HJ-NP-TV-Z]"),  # Spain, DNI and NIE
    re.compile(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]"),  # Italy, codice fiscale
    re.compile(r"[A-Z]{5}\d{4}[A-Z]"),  # India, PAN
    re.compile(r"\d{6}[-+A]?\d{3}[0-9A-Y]"),  # Finland, HETU; Sweden, Denmark
)
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_DIGITS: Final = re.compile(r"\D")
_SEPARATORS: Final = re.compile(r"[\s./-]")
_PHONE_DIGITS: Final = 7
_LONG_NUMBER: Final = 9
_MAX_LEAVES: Final = 1000


def looks_personal(value: Any) -> bool:
    """Whether a JSON value holds what may be an e-mail address, a phone, card or account number, or a national id.

    Digits count as a phone number from seven on where they are grouped or begin with +, and any nine
    together may be a national id (US SSN, and most others), so such values are never in clear.
    """
    leaves: list[str] = []
    for leaf in _leaves(value):
        if not _HARMLESS.fullmatch(leaf):  # dates and UUIDs, which have as many digits
            leaves.append(leaf)
        if len(leaves) > _MAX_LEAVES:
            return True
    # Joined, too: an identifier may be spread over the items of a list.
    return any(_text_is_personal(leaf) for leaf in leaves) or (len(leaves) > 1 and _text_is_personal(" ".join(leaves)))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _text_is_personal(text: str) -> bool:
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    if _EMAIL.search(text):
        return True
    return any(_number_is_personal(match[0]) for match in _RUN.finditer(text)) or any(
        _lettered_is_personal(match[0]) for match in _LETTERED.finditer(text)
    )


def _number_is_personal(run: str) -> bool:
    digits = _DIGITS.sub("", run)
    is_grouped = len(digits) < len(run)
    return len(digits) >= _LONG_NUMBER or (is_grouped and len(digits) >= _PHONE_DIGITS)


def _lettered_is_personal(run: str) -> bool:
    compact = _SEPARATORS.sub("", run).upper()
    if any(pattern.search(compact) for pattern in _NATIONAL):
        return True
    return any(_is_iban(match[1]) for match in _IBAN.finditer(compact))


def _is_iban(text: str) -> bool:
    """ISO 13616: the number is 1 modulo 97; what follows it in the text is not known, so every length is tried."""
    tail, remainder = int(_digits_of(text[:4])), int(_digits_of(text[4:14])) % 97
    for length in range(15, len(text) + 1):
        for digit in _digits_of(text[length - 1]):
            remainder = (remainder * 10 + int(digit)) % 97
        if (remainder * 1_000_000 + tail) % 97 == 1:
            return True
    return False


def _digits_of(text: str) -> str:
    return "".join(str(int(letter, 36)) for letter in text)
