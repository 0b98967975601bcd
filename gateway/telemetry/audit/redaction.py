"""What of a call's arguments is recorded: hashes by default, clear values only where that is safe or asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import orjson

from gateway.telemetry.audit.chain import Mac, encode
from gateway.telemetry.audit.detectors import looks_personal

_MAX_CLEAR: Final = 256
_PREFIX: Final = "hmac:"
_HASH_DIGITS: Final = 32


class Treatment(Enum):
    """How a parameter's value is recorded."""

    HASH = "hash"
    """A keyed hash: equal values have equal hashes, and nothing else can be told from it."""
    BOOLEAN = "boolean"
    """true and false in clear, anything else hashed."""
    CHOICE = "choice"
    """The values of an enumeration in clear, anything else hashed."""
    CLEAR = "clear"
    """In clear, unless a detector finds a personal identifier in it."""
    ABSENT = "absent"
    """Not at all."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the calls of one tool are recorded; made once, at load.

    Attributes:
        statement_hash: SHA-256 of the statement as the database gets it.
        treatments: of each parameter.
        choices: of each parameter with an enumeration, the values that are safe in clear.
    """

    statement_hash: str
    treatments: Mapping[str, Treatment]
    choices: Mapping[str, frozenset[str]]


def plan(statement: str, properties: Mapping[str, Any], sensitive: Iterable[str], clear: Iterable[str]) -> Plan:
    """The plan of a tool.

    Args:
        statement: its SQL.
        properties: the schema of each parameter.
        sensitive: parameters whose values are never shown anywhere.
        clear: parameters whose author said `audit: clear`.
    """
    hidden, shown = frozenset(sensitive), frozenset(clear)
    treatments: dict[str, Treatment] = {}
    choices: dict[str, frozenset[str]] = {}
    for name, schema in properties.items():
        if name in hidden:
            treatments[name] = Treatment.ABSENT
        elif name in shown:
            treatments[name] = Treatment.CLEAR
        elif isinstance(schema, dict) and schema.get("type") in ("boolean", ["boolean", "null"]):
            treatments[name] = Treatment.BOOLEAN
        elif isinstance(schema, dict) and isinstance(schema.get("enum"), list):
            treatments[name] = Treatment.CHOICE
            texts = (value for value in schema["enum"] if isinstance(value, str))
            choices[name] = frozenset(value for value in texts if _is_short(value) and not looks_personal(value))
        else:
            treatments[name] = Treatment.HASH
    return Plan(hashlib.sha256(statement.encode()).hexdigest(), treatments, choices)


class Redactor:
    """Makes arguments fit to be recorded.

    Args:
        key: of the hashes.
    """

    def __init__(self, key: bytes) -> None:
        self._mac = Mac(key)

    def arguments(self, arguments: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
        """The arguments as they are recorded; those that the tool does not have are left out, with their names."""
        recorded: dict[str, Any] = {}
        for name, value in arguments.items():
            treatment = plan.treatments.get(name, Treatment.ABSENT)
            if value is None and treatment is not Treatment.ABSENT:
                recorded[name] = None
            elif treatment is Treatment.HASH:
                recorded[name] = self.hash(value)
            elif treatment is not Treatment.ABSENT:
                is_safe = _is_safe(value, treatment, plan.choices.get(name))
                recorded[name] = _plain(value) if is_safe else self.hash(value)
        return recorded

    def hash(self, value: Any) -> str:
        """The keyed hash of a JSON value (HMAC-SHA256, its first 128 bits); 1 and 1.0 are equal, 1 and "1" are not."""
        if type(value) is str:
            content = b'"' + value.encode(errors="surrogatepass")
        else:
            content = b"%d" % value if type(value) is int else _canonical(value)
        return _PREFIX + self._mac.digest(content)[:_HASH_DIGITS]


def _is_safe(value: Any, treatment: Treatment, choices: frozenset[str] | None) -> bool:
    """Whether a value may be in clear."""
    match treatment:
        case Treatment.BOOLEAN:
            return isinstance(value, bool)
        case Treatment.CHOICE:
            return isinstance(value, str) and choices is not None and value in choices
        case _:
            return _is_short(value) and not looks_personal(value)


def _is_short(value: Any) -> bool:
    """Whether a value may stand in a record at all."""
    return not isinstance(value, list | dict | str) or len(encode({"v": _plain(value)})) <= _MAX_CLEAR


def _canonical(value: Any) -> bytes:
    try:
        return orjson.dumps(_plain(value), option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return encode({"v": _plain(value)})


def _plain(value: Any) -> Any:
    """The value without decimals: whole ones are integers, others text that is no float's guess."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and value.adjusted() < 40 else str(value.normalize())
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value
