"""What an author writes of a tool."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.config.base import Name, ResultSize, Settings, Text
from gateway.config.rules import RuleSettings


class OutputSettings(Settings):
    """What a procedure gives out."""

    type: Literal["string", "integer", "number", "boolean", "datetime", "bytes", "rows"]
    """The type of an OUT argument; `rows` is a REF CURSOR."""


class ToolSettings(Settings):
    """One named tool: fixed SQL, typed parameters."""

    title: str | None = None
    """Name for people."""
    description: Text
    """What it gives, written for the model that chooses it."""
    source: Name
    """The source it asks."""
    scopes: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """Scopes a caller needs, all of them; `auth.default_scopes` when neither this nor `any_scopes` is given."""
    any_scopes: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """Scopes of which a caller needs at least one, beside `scopes`; who has none is told the first."""
    allow: Annotated[tuple[RuleSettings, ...], Field(min_length=1)] | None = None
    """Rules over claims, all of which must hold; for others the tool does not exist."""
    parameters: dict[Name, dict[str, Any]] | None = None
    """JSON Schema for each parameter, with `optional` and `nullable` as short forms, and `from_claim`."""
    input_schema: dict[str, Any] | None = None
    """A whole JSON Schema (2020-12) instead of `parameters`, published as written."""
    statement: Text
    """One SQL statement; placeholders are `:name`. For a procedure its name, or a PL/SQL block."""
    kind: Literal["statement", "procedure"] = "statement"
    """`procedure` calls PL/SQL of Oracle; needs `writes`."""
    outputs: dict[Name, OutputSettings] | None = None
    """What a procedure gives out, by the names of its OUT arguments or of placeholders in its block."""
    writes: bool = False
    """Whether it changes data; needs a source with access read-write."""
    idempotent: bool = False
    """Whether doing the change twice is the same as doing it once; it is then sent again after a lost connection."""
    max_rows: Annotated[int, Field(ge=1, le=100000)] = 100
    """Most rows in a result."""
    max_result_bytes: ResultSize | None = None
    """Overrides `server.max_result_bytes`."""
    numbers: Literal["exact", "string"] | None = None
    """Overrides `server.numbers`."""
    enabled: bool = True
    """A tool that is not enabled does not exist for callers."""
