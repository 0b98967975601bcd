"""What of a configuration is recorded: a hash of the whole, and what differs. Secrets never are."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from pydantic import SecretStr

from gateway.config.base import Settings
from gateway.telemetry.audit.detectors import looks_personal

MOST: Final = 500
"""Most keys of a kind in one record; how many there were beyond is told."""
_LONGEST: Final = 200
_WITHHELD: Final = "(withheld)"
_CREDENTIALS: Final = re.compile(r"://[^/\s]*@")


def settings_hash(settings: Settings) -> str:
    """SHA-256 of all settings, defaults included and secrets left out."""
    return hashlib.sha256(json.dumps(_plain(settings), sort_keys=True).encode()).hexdigest()


def difference(old: Settings, new: Settings) -> dict[str, Any]:
    """The fields of `configuration.changed` that tell old from new: hashes, and dotted keys with their values.

    Secrets are left out: a changed one shows nowhere, since whether it is the same is not known
    without reading it. Statements and long texts are told by their hash.
    """
    before, after = dict(_flat(_plain(old), "")), dict(_flat(_plain(new), ""))
    added = {key: _told(key, after[key]) for key in sorted(after.keys() - before.keys())}
    removed = {key: _told(key, before[key]) for key in sorted(before.keys() - after.keys())}
    differing = (key for key in sorted(before.keys() & after.keys()) if before[key] != after[key])
    changed = {key: [_told(key, before[key]), _told(key, after[key])] for key in differing}
    fields: dict[str, Any] = {"old": settings_hash(old), "new": settings_hash(new)}
    for name, each in (("added", added), ("removed", removed), ("changed", changed)):
        fields[name] = dict(islice(each.items(), MOST))
    if more := sum(max(0, len(each) - MOST) for each in (added, removed, changed)):
        fields["more"] = more
    return fields


def _told(key: str, value: Any) -> Any:
    """A value as it may stand in a record."""
    if not isinstance(value, str):
        return value
    if _CREDENTIALS.search(value):
        return _WITHHELD
    if key.endswith(".statement") or len(value) > _LONGEST or "\n" in value:
        return f"sha256:{hashlib.sha256(value.encode(errors='surrogatepass')).hexdigest()}"
    return _WITHHELD if looks_personal(value) else value


def _plain(value: Any) -> Any:
    """Settings as JSON; every secret is the same word."""
    match value:
        case Settings():
            return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case SecretStr():
            return "secret"
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner: Mapping[Any, Any] = value if isinstance(value, dict) else {}
    if isinstance(value, list):
        inner = dict(enumerate(value))
    if not inner:
        yield path, value
    for key, each in inner.items():
        yield from _flat(each, f"{path}.{key}" if path else str(key))
