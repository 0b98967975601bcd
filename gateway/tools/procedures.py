"""Tools of `kind: procedure`: what they call, by name or as a block, and what may be wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.config.tools import ToolSettings
from gateway.database.engine import CallsProcedures, Engine, Output
from gateway.tools.schema import Mistake

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_$#]*(?:\.[A-Za-z][A-Za-z0-9_$#]*){0,2}")
_OUTPUT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def text_of(settings: ToolSettings, parameters: Iterable[str]) -> str:
    """The statement to run: for a procedure's name the block that calls it, every argument by its name."""
    if settings.kind != "procedure" or not _NAME.fullmatch(settings.statement.strip()):
        return settings.statement
    names = [*parameters, *(settings.outputs or {})]
    return f"begin {settings.statement.strip()}({', '.join(f'{name} => :{name}' for name in names)}); end;"


def outputs_of(settings: ToolSettings) -> tuple[Output, ...]:
    """What it gives out, in the order of writing."""
    return tuple(Output(name, each.type) for name, each in (settings.outputs or {}).items())


def mistakes(
    settings: ToolSettings, engine: Engine, parameters: Mapping[str, str], used: frozenset[str]
) -> list[Mistake]:
    """What is wrong with a tool as a procedure.

    Args:
        settings: of the tool.
        engine: of its source.
        parameters: their types, by name.
        used: the names of all placeholders in its text.
    """
    if settings.kind != "procedure":
        return [(("outputs",), "outputs are for tools of kind: procedure")] if settings.outputs else []
    if not isinstance(engine, CallsProcedures):
        return [(("kind",), "procedures are called on Oracle only; write a statement")]
    found: list[Mistake] = []
    if not settings.writes:
        found.append(
            (("writes",), "a procedure may change data: say writes: true, on a source with access: read-write")
        )
    for name in settings.outputs or {}:
        if name in parameters:
            found.append((("outputs", name), "a parameter has this name; an output needs one of its own"))
        elif not _OUTPUT.fullmatch(name):
            found.append((("outputs", name), "expected a name of letters, digits and _"))
        elif name not in used:
            found.append((("outputs", name), f"the block has no placeholder :{name}; use it or remove it"))
    return found
