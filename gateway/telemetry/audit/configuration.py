"""What of a configuration is recorded: a hash of the whole, and which keys differ. Values and secrets never are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from gateway.config.base import Settings


def settings_hash(settings: Settings) -> str:
    """SHA-256 of all settings, defaults included and secrets left out."""
    return hashlib.sha256(json.dumps(_plain(settings), sort_keys=True).encode()).hexdigest()


def difference(old: Settings, new: Settings) -> dict[str, Any]:
    """The fields of `configuration.changed` that tell old from new: hashes, and dotted keys without values.

    A changed secret shows nowhere: whether it is the same is not known without reading it.
    """
    before, after = dict(_flat(_plain(old), "")), dict(_flat(_plain(new), ""))
    return {
        "old": settings_hash(old),
        "new": settings_hash(new),
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(key for key in before.keys() & after.keys() if before[key] != after[key]),
    }


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
