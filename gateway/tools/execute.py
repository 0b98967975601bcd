"""One call of a tool, from its arguments to its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from gateway.context import Call
from gateway.database.engine import Statement, Table
from gateway.errors import ToolError
from gateway.tools.catalog import Catalog, Tool
from gateway.tools.results import ToolResult, failure, present


class Session(Protocol):
    """A leased connection, as far as a call needs it."""

    async def run(self, statement: Statement, values: Sequence[Any], max_rows: int, call: Call) -> Table:
        """Run a statement within its limits; raises ToolError."""


class Source(Protocol):
    """A database, as far as a call needs it."""

    @property
    def broken(self) -> Mapping[str, ToolError]:
        """Tools whose statement the database refused when it was prepared."""

    def lease(self, call: Call) -> AbstractAsyncContextManager[Session]:
        """A connection for the length of a block; raises ToolError."""


async def execute(
    call: Call, catalog: Catalog, sources: Mapping[str, Source], name: str, arguments: Mapping[str, Any]
) -> ToolResult:
    """Run a tool for a caller; whatever fails on the way is a result that says so.

    Raises:
        ProtocolError: there is no such tool.
        InsufficientScope: the caller may not call it.
    """
    tool = catalog.require(name, call.principal)
    try:
        return await _run(call, tool, sources[tool.source], arguments)
    except ToolError as error:
        return failure(error, call)


async def _run(call: Call, tool: Tool, source: Source, arguments: Mapping[str, Any]) -> ToolResult:
    values = tool.bind(arguments)
    if refused := source.broken.get(tool.name):
        return failure(refused, call)
    async with source.lease(call) as session:
        table = await session.run(tool.statement, values, tool.max_rows, call)
    return present(table, tool)
