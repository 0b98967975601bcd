"""The event loop's lag, in the metric and, where it was long, in the log."""

from __future__ import annotations

import asyncio
import io
import json
import time

from gateway.telemetry.runtime import REMARKABLE, LoopLag


async def test_a_loop_that_stood_still_is_told(log: io.StringIO) -> None:
    lag = LoopLag()
    with lag.measured():
        await asyncio.sleep(0)
        time.sleep(REMARKABLE + 0.5)  # noqa: ASYNC251 - this is the fault
        async with asyncio.timeout(10):
            while not log.getvalue():  # noqa: ASYNC110 - written by a timer
                await asyncio.sleep(0.01)
    [line] = map(json.loads, log.getvalue().splitlines())
    assert (line["level"], line["event"]) == ("warning", "the event loop stood still")
    assert line["seconds"] >= REMARKABLE
    assert lag.histogram.total >= REMARKABLE
