"""Running a coroutine from the command line."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop


def run_loop(main: Coroutine[Any, Any, int | None]) -> int:
    """Run a coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main) or 0


@contextmanager
def told_to_stop() -> Iterator[asyncio.Event]:
    """Set by the first SIGTERM or SIGINT while the block runs; a second one has its usual effect."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def usual() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    def told() -> None:
        stop.set()
        usual()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    try:
        yield stop
    finally:
        usual()


async def wait_for_signal() -> None:
    """Return at the first SIGTERM or SIGINT from now on."""
    with told_to_stop() as stop:
        await stop.wait()
