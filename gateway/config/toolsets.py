"""What an operator writes of a toolset: a named group of tools with a door of its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.config.base import Name, Settings, Text


class ToolsetSettings(Settings):
    """Tools served together at `/mcp/NAME`."""

    title: Text | None = None
    """Name for people."""
    description: Text | None = None
    """What the tools are for, told to the model before the first call."""
    tools: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The tools that are there; no others are."""
    scopes: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """Scopes that each of them needs here, all of them, beside its own."""
