"""One call of a tool, from its arguments to its result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from gateway.context import Call
from gateway.database.sources import Source
from gateway.errors import ToolError
from gateway.resilience.retry import Patience
from gateway.tools.attempts import persistently
from gateway.tools.catalog import Tool
from gateway.tools.comments import told
from gateway.tools.results import ToolResult, failure, present


async def execute(call: Call, tool: Tool, source: Source, arguments: Mapping[str, Any]) -> ToolResult:
    """Run a tool that the caller may call; whatever fails on the way is a result that says so.

    Args:
        call: who asks, and until when.
        tool: as the catalogue gave it for these arguments.
        source: the tool's.
        arguments: as they came.
    """
    patience = source.patience()
    try:
        return await persistently(call, tool, patience, lambda: _run(call, tool, source, arguments, patience))
    except ToolError as error:
        return failure(error, call)


async def _run(call: Call, tool: Tool, source: Source, arguments: Mapping[str, Any], patience: Patience) -> ToolResult:
    values = tool.bind(arguments, call.principal.claims)
    if refused := source.broken.get(tool.name):
        return failure(refused, call)
    async with source.lease(call, patience) as session:
        statement = told(tool.statement, tool.comment, call)
        started, facts = time.perf_counter(), (tool.source, source.engine.dialect, tool.statement)
        try:
            table = await session.run(statement, values, tool.max_rows, call)
        except ToolError as error:
            call.mark("statement", started, error.code, facts)
            raise
        except asyncio.CancelledError:
            call.mark("statement", started, "cancelled", facts)
            raise
        call.mark("statement", started, "", facts)
    return present(table, tool)
