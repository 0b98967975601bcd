"""What a running process cannot change: its listeners, and what was opened before the first configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway.config.base import Settings
from gateway.config.models import GatewaySettings
from gateway.config.problems import KeyPath

RESTART: Final[tuple[KeyPath, ...]] = (
    ("server", "host"),
    ("server", "port"),
    ("server", "reuse_port"),
    ("server", "tls"),
    ("server", "max_connections"),
    ("server", "header_timeout"),
    ("server", "shutdown_grace"),
    ("admin",),
    ("audit",),
    ("telemetry",),
)
"""Sections and keys that take effect at the next start."""

MOST_CHANGES: Final = 50
"""Changes that are told one by one."""


def pinned(running: GatewaySettings, wanted: GatewaySettings) -> tuple[GatewaySettings, tuple[str, ...]]:
    """The settings wanted, with what is running where a change needs a restart; and the keys of these changes."""
    waiting: list[KeyPath] = []
    for path in RESTART:
        waiting += _changes(_at(running, path), _at(wanted, path), path)
        wanted = _with(wanted, path, _at(running, path))
    return wanted, tuple(".".join(map(str, path)) for path in waiting)


def changes(running: GatewaySettings, wanted: GatewaySettings) -> tuple[str, ...]:
    """The keys that differ, in order, without their values: `tools.orders.statement`; at most `MOST_CHANGES`."""
    found = [".".join(map(str, path)) for path in _changes(running, wanted, ())]
    if len(found) > MOST_CHANGES:
        return (*found[:MOST_CHANGES], f"and {len(found) - MOST_CHANGES} more")
    return tuple(found)


def _changes(old: Any, new: Any, path: KeyPath) -> Iterator[KeyPath]:
    if old == new:
        return
    before, after = _parts(old), _parts(new)
    if type(old) is not type(new) or before is None or after is None:
        yield path
        return
    for key in sorted(before.keys() | after.keys(), key=str):
        if key not in before or key not in after:
            yield (*path, key)
        else:
            yield from _changes(before[key], after[key], (*path, key))


def _parts(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, Settings):
        return {key: getattr(value, key) for key in type(value).model_fields}
    return dict(value) if hasattr(value, "keys") else None


def _at(value: Any, path: KeyPath) -> Any:
    for key in path:
        value = getattr(value, str(key))
    return value


def _with(settings: Any, path: KeyPath, value: Any) -> Any:
    key, rest = str(path[0]), path[1:]
    return settings.model_copy(update={key: _with(getattr(settings, key), rest, value) if rest else value})
