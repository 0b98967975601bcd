"""Tells Oracle who calls: attributes that ride on the next round trip, and contexts by the DBA's procedure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.config.oracle import ATTRIBUTES
from gateway.database.failures import failure
from gateway.errors import Code

_PROPERTIES: Final = dict(zip(ATTRIBUTES, ("client_identifier", "clientinfo"), strict=True))
_LONGEST: Final = 64
_MODULE, _ACTION = 48, 32


def announce(raw: Any, source: str, tool: str, values: Mapping[str, str]) -> None:
    """Set MODULE, ACTION and what `values` has of the session's attributes; sent with the next call, no I/O.

    Raises:
        ToolError: ACCESS_DENIED, a value is longer than Oracle keeps; cut off, it might be somebody else's.
    """
    for name, attribute in _PROPERTIES.items():
        if name in values:
            if len(values[name].encode()) > _LONGEST:
                told = f"session identity: {name} holds at most {_LONGEST} bytes"
                raise failure(Code.ACCESS_DENIED, told, hint="Its token's identity is too long for this data source.")
            setattr(raw, attribute, values[name])
    raw.module = _cut(f"mcp-database-gateway/{source}", _MODULE)
    raw.action = _cut(tool, _ACTION)


def forget(raw: Any) -> None:
    """Take the caller's name back; sent with the next call, no I/O."""
    for attribute in _PROPERTIES.values():
        setattr(raw, attribute, None)


def contexts(procedure: str | None, values: Mapping[str, str | None]) -> tuple[str, dict[str, str | None]]:
    """The calls that set application contexts, for a PL/SQL block, and their binds; "" where there is none.

    Raises:
        ToolError: INTERNAL, there is no procedure to set them.
    """
    pairs = [(name, value) for name, value in values.items() if name not in ATTRIBUTES]
    if pairs and procedure is None:
        raise failure(Code.INTERNAL, f"session: {pairs[0][0]} needs a context_procedure")
    calls = "".join(f"{procedure}(:n{index}, :v{index}); " for index in range(len(pairs)))
    bound: dict[str, str | None] = {}
    for index, (name, value) in enumerate(pairs):
        bound |= {f"n{index}": name, f"v{index}": value}
    return calls, bound


def _cut(text: str, size: int) -> str:
    """The text in at most so many bytes of UTF-8."""
    return text.encode()[:size].decode(errors="ignore")
