"""One request of a session in the works: a task of its own, which may outlive the POST that brought it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway.errors import REQUEST_CANCELLED, Refused
from gateway.server.jsonrpc import RequestId, error_bytes
from gateway.server.outlet import Line
from gateway.server.record import Record
from gateway.server.stream import Owner
from gateway.server.transport import Outcome

_CANCELLED: Final = "The request was cancelled."


class Brief:
    """What outlets of these revisions share: no request is answered with a stream that stays open."""

    __slots__ = ()

    async def hold(self, owner: Owner, identifier: RequestId | None) -> Line:
        """Refuse: `subscriptions/listen` is for clients of 2026-07-28."""
        raise Refused(406, "This method is for clients of 2026-07-28.")


class Work:
    """Runs one request and hands its outcome over, once.

    Args:
        identifier: the request's id.
        run: begins what is to be done; every failure of it is an outcome already.
        record: the log line, which the work completes.
        deliver: takes the outcome; never blocks.

    Attributes:
        task: what runs it, once it was started.
    """

    __slots__ = ("_deliver", "_identifier", "_record", "_run", "task")

    def __init__(
        self,
        identifier: RequestId,
        run: Callable[[], Coroutine[Any, Any, Outcome]],
        record: Record,
        deliver: Callable[[Outcome], None],
    ) -> None:
        self.task: asyncio.Task[Outcome] | None = None
        self._identifier = identifier
        self._run = run
        self._record = record
        self._deliver = deliver

    def start(self, finished: Callable[[], None]) -> None:
        """Begin, and tell when it is over and delivered."""
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(lambda task: self._settle(task, finished))

    def cancel(self) -> None:
        """Stop it, down to the database; a write that has begun is seen through."""
        if self.task is not None:
            self.task.cancel()

    def _settle(self, task: asyncio.Task[Outcome], finished: Callable[[], None]) -> None:
        record = self._record
        if task.cancelled():
            record.outcome = "cancelled"
            outcome = Outcome(error_bytes(self._identifier, REQUEST_CANCELLED, _CANCELLED), 200, is_cancelled=True)
        else:
            outcome = task.result()
        self._deliver(outcome)
        finished()
        if record.goes_on:
            record.end()
