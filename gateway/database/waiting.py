"""Bounded waiting, and the pause between attempts to connect."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any, Final

FIRST_DELAY: Final = 0.1
TRANSIENT_CAP: Final = 5.0
PERMANENT_CAP: Final = 30.0
CANCEL_GRACE: Final = 0.5


async def bounded(work: Awaitable[Any], limit: float) -> bool:
    """Wait at most `limit` seconds for work of our own; whether it finished.

    `asyncio.timeout` waits for as long as the cancelled code likes; this does not.
    Raises what the work raised.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit)
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_GRACE)
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(_swallow)
        raise
    if task.done() and not task.cancelled():
        task.result()
        return True
    task.add_done_callback(_swallow)
    return False


def _swallow(task: asyncio.Future[Any]) -> None:
    """Read the outcome that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


class Backoff:
    """The pause after failed attempts: 100 ms doubled, jittered.

    Capped at 5 s, and at 30 s where trying again does not help by itself
    (a refused login), since that can lock the account.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0
        self.is_pending = False

    def fail(self, is_transient: bool) -> None:
        """Count one failure; attempts that fail during one pause count once."""
        if self.is_pending:
            return
        cap = TRANSIENT_CAP if is_transient else PERMANENT_CAP
        delay = min(cap, FIRST_DELAY * 2 ** min(self.failures, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        self.failures += 1
        self.until = asyncio.get_running_loop().time() + delay
        self.is_pending = True

    def clear(self) -> None:
        """An attempt succeeded."""
        self.failures = 0
        self.is_pending = False
