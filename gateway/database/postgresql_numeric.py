"""PostgreSQL's numeric, digit for digit: its scale and its trailing zeros are part of the value."""

from __future__ import annotations

import struct
from decimal import Decimal
from types import MappingProxyType
from typing import Final

_NEGATIVE: Final = 0x4000
_SPECIAL: Final = MappingProxyType({0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"})
_HEADER: Final = struct.Struct(">HhHH")
_FEW: Final = 64
_MOST_WHOLE: Final = 131_072
_MOST_SCALE: Final = 16_383


def decode(data: bytes) -> Decimal:
    """From the binary form: groups of four decimal digits (src/backend/utils/adt/numeric.c, numeric_send)."""
    count, weight, sign, scale = _HEADER.unpack_from(data)
    if sign in _SPECIAL:
        return Decimal(_SPECIAL[sign])
    groups = struct.unpack_from(f">{count}H", data, _HEADER.size)
    is_usual = count <= _FEW and abs(weight) <= _FEW and scale <= _FEW
    digits = _digits(groups, weight, scale) if is_usual else _many_digits(groups, weight, scale)
    return Decimal(f"-{digits}" if sign == _NEGATIVE else digits)


def _digits(groups: tuple[int, ...], weight: int, scale: int) -> str:
    """The number as text, by way of an integer of all its digits."""
    value = 0
    for group in groups:
        value = value * 10_000 + group
    missing = scale - 4 * (len(groups) - 1 - weight)
    digits = str(value * 10**missing if missing >= 0 else value // 10**-missing)
    if not scale:
        return digits
    digits = digits.rjust(scale + 1, "0")
    return f"{digits[:-scale]}.{digits[-scale:]}"


def _many_digits(groups: tuple[int, ...], weight: int, scale: int) -> str:
    """The same where an integer would take longer, or be larger than Python writes."""
    digits = "".join([f"{group:04d}" for group in groups])
    point = (weight + 1) * 4
    whole = digits[:point].ljust(point, "0") if point > 0 else "0"
    fraction = digits[point:] if point >= 0 else "0" * -point + digits
    return f"{whole}.{fraction[:scale].ljust(scale, '0')}"


def encode(value: Decimal) -> bytes:
    """To the binary form.

    Raises:
        ValueError: more digits than numeric holds.
    """
    if not value.is_finite():
        name = "NaN" if value.is_nan() else "Infinity" if value > 0 else "-Infinity"
        return _HEADER.pack(0, 0, next(sign for sign, text in _SPECIAL.items() if text == name), 0)
    exponent = int(value.as_tuple().exponent)
    if value.adjusted() >= _MOST_WHOLE or exponent < -_MOST_SCALE:
        raise ValueError("the number has too many digits")
    whole, _, fraction = f"{value.copy_abs():f}".partition(".") if value else ("0", "", "0" * max(0, -exponent))
    width = -(-len(whole) // 4) * 4
    digits = whole.rjust(width, "0") + fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int(digits[index : index + 4]) for index in range(0, len(digits), 4)]
    sign = _NEGATIVE if value < 0 else 0
    return _HEADER.pack(len(groups), width // 4 - 1, sign, len(fraction)) + struct.pack(f">{len(groups)}H", *groups)
