"""The audit around a tool call: nothing is told, and nothing is changed, that cannot be recorded."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from gateway.context import Call
from gateway.database.accounts import account_name
from gateway.database.sources import Source
from gateway.errors import Code, ToolError
from gateway.telemetry.audit import events
from gateway.telemetry.audit.recorder import Audit, AuditUnavailable
from gateway.telemetry.tracing import trace_id
from gateway.tools.catalog import Tool
from gateway.tools.results import ToolResult, failure

_NOT_RUN: Final = "This call was not run, because it could not be recorded. Nothing is wrong with it; call again later."
_WITHHELD: Final = "The answer is withheld, because the call could not be recorded. Call again later."
_UNKNOWN: Final = (
    "The change was sent, but its outcome could not be recorded: it may or may not have happened."
    " Find out with a tool that reads before calling again."
)

_UNCHANGED: Final = frozenset(
    {Code.INVALID_ARGUMENTS, Code.POOL_EXHAUSTED, Code.POOL_TIMEOUT, Code.CONNECT_TIMEOUT, Code.SOURCE_UNAVAILABLE}
    | {Code.LOGIN_FAILED, Code.ACCESS_DENIED, Code.READ_ONLY, Code.CONFLICT, Code.CONSTRAINT_VIOLATION}
)
"""Failures after which a write has changed nothing; others may come after the commit."""


def caller(call: Call, address: str) -> dict[str, Any]:
    """Who asks, from where, in which request and trace: fields of every record of a caller."""
    principal = call.principal
    fields: dict[str, Any] = {
        "correlation_id": call.correlation_id,
        "address": address,
        "issuer": principal.issuer,
        "subject": principal.subject,
        "client": principal.client_id,
    }
    if current := trace_id():
        fields["trace_id"] = current
    return fields


async def audited(
    audit: Audit,
    call: Call,
    address: str,
    tool: Tool,
    source: Source,
    arguments: Mapping[str, Any],
    run: Callable[[], Awaitable[ToolResult]],
) -> ToolResult:
    """Run a tool and record it: a write's intent before it, the outcome after it.

    With `on_failure: refuse` an answer whose record cannot be written is withheld, and the
    outcome of such a write is unknown.
    """
    if not audit.is_on:
        return await run()
    fields = _fields(audit, call, address, tool, source, arguments)
    started = time.perf_counter()
    try:
        audit.require()
    except AuditUnavailable as error:
        return failure(ToolError(Code.AUDIT_UNAVAILABLE, _NOT_RUN, detail=error.message), call)
    result: ToolResult | None = None
    try:
        result = await _run(audit, call, tool, fields, run)
    finally:
        outcome = _outcome(result, fields, arguments, tool, started)
        if result is None:  # cancelled, or a fault of ours: nobody waits for an answer
            audit.note(events.TOOL_CALL, outcome)
    try:
        await audit.write(events.TOOL_CALL, outcome)
    except AuditUnavailable as error:
        if result.code == Code.AUDIT_UNAVAILABLE:
            return result
        audit.note(events.TOOL_WITHHELD, {"correlation_id": call.correlation_id, "tool": tool.name})
        return failure(_withheld(result, tool, error), call)
    return result


async def _run(
    audit: Audit, call: Call, tool: Tool, fields: dict[str, Any], run: Callable[[], Awaitable[ToolResult]]
) -> ToolResult:
    """Run, a write only once its intent is recorded."""
    if tool.statement.writes:
        try:
            await audit.write(events.TOOL_INTENT, fields)
        except AuditUnavailable as error:
            return failure(ToolError(Code.AUDIT_UNAVAILABLE, _NOT_RUN, detail=error.message), call)
    return await run()


def _fields(
    audit: Audit, call: Call, address: str, tool: Tool, source: Source, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    fields = caller(call, address)
    fields["tool"] = tool.name
    fields["source"] = tool.source
    fields["account"] = account_name(source.settings, call.principal)
    fields["statement"] = tool.audit.statement_hash
    fields["arguments"] = audit.redactor.arguments(arguments, tool.audit)
    return fields


def _outcome(
    result: ToolResult | None, fields: dict[str, Any], arguments: Mapping[str, Any], tool: Tool, started: float
) -> dict[str, Any]:
    """The fields of the record of an end; the intent's are kept as they are."""
    outcome = dict(fields)
    if not arguments.keys() <= tool.audit.treatments.keys():
        outcome["unknown_arguments"] = len(arguments.keys() - tool.audit.treatments.keys())
    if result is None:
        outcome["outcome"] = "cancelled"
    elif result.is_error:
        outcome["outcome"] = "error"
        outcome["code"] = result.code
    else:
        outcome["outcome"] = "ok"
        outcome["rows"] = result.row_count
        if result.affected is not None:
            outcome["affected"] = result.affected
    outcome["duration_ms"] = round((time.perf_counter() - started) * 1000, 3)
    return outcome


def _withheld(result: ToolResult, tool: Tool, error: AuditUnavailable) -> ToolError:
    """What is told instead of an answer: of a write that was sent, that its outcome is unknown."""
    may_have_changed = tool.statement.writes and result.code not in _UNCHANGED
    if may_have_changed:
        return ToolError(Code.OUTCOME_UNKNOWN, _UNKNOWN, detail=error.message, is_sent=True)
    return ToolError(Code.AUDIT_UNAVAILABLE, _WITHHELD, detail=error.message)
