"""When a failed call is made again, unseen by its caller: one rule for every tool.

A transient failure is tried again where that can do no harm: nothing was sent,
the tool only reads, or its author calls it idempotent. Any other write reaches
the database at most once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.context import Call
from gateway.errors import Code, ToolError
from gateway.resilience.retry import Patience, Retry
from gateway.tools.catalog import Tool

T = TypeVar("T")

log = logging.getLogger("gateway.tools")

RETRY: Final = Retry()
TRANSIENT: Final = frozenset(
    {Code.CONNECT_TIMEOUT, Code.SOURCE_UNAVAILABLE, Code.CONNECTION_LOST, Code.CONFLICT, Code.OUTCOME_UNKNOWN}
)
"""What may pass within a call. A full pool is not among them: more asking fills it more."""


def may_retry(tool: Tool, error: ToolError) -> bool:
    """Whether making the attempt again may help and can do no harm."""
    return error.code in TRANSIENT and (tool.is_idempotent or not error.is_sent)


async def persistently(call: Call, tool: Tool, patience: Patience, attempt: Callable[[], Awaitable[T]]) -> T:
    """Attempt until it succeeds, fails for good, or the call's time or patience is used up.

    Args:
        call: its deadline bounds everything; its report is told of each new attempt.
        tool: what is attempted.
        patience: the waiting for connections and between attempts, all together.
        attempt: one attempt; spends patience while it waits.

    Raises:
        ToolError: the last failure; but OUTCOME_UNKNOWN once any attempt ended so.
    """
    began = time.perf_counter()
    try:
        return await attempt()
    except ToolError as error:
        if not may_retry(tool, error):
            raise
        first = error
    return await _again(call, tool, patience, attempt, began, first)


async def _again(
    call: Call, tool: Tool, patience: Patience, attempt: Callable[[], Awaitable[T]], began: float, first: ToolError
) -> T:
    """Go on after a first attempt, which began and failed."""
    unknown: list[ToolError] = []
    number = 0

    async def replayed() -> T:
        raise first

    def timed() -> Awaitable[T]:
        nonlocal number, began
        number += 1
        if number == 1:
            return replayed()
        began = time.perf_counter()
        return attempt()

    def earliest(error: Exception) -> float | None:
        if not isinstance(error, ToolError):
            return None
        if error.code is Code.OUTCOME_UNKNOWN:
            unknown.append(error)
        return (error.retry_after or 0.0) if may_retry(tool, error) else None

    def announce(number: int, error: Exception, pause: float) -> None:
        code = error.code.value if isinstance(error, ToolError) else ""
        call.mark("attempt", began, code, number)
        patience.spend(pause)
        call.report(f"trying again after {pause * 1000:.0f} ms: {code}")
        log.info(
            "attempt %d of tool %s failed, trying again",
            number,
            tool.name,
            extra={"code": code, "attempt": number, "tool": tool.name, "pause_ms": round(pause * 1000)},
        )

    try:
        result = await RETRY.run(timed, earliest, lambda: min(call.remaining(), patience.left), announce)
    except ToolError as error:
        if number > 1:
            call.mark("attempt", began, error.code, number)
        if unknown and error is not unknown[-1]:
            raise unknown[-1] from error
        raise
    if number > 1:
        call.mark("attempt", began, "", number)
    return result
