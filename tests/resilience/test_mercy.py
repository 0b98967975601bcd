"""Mercy for what a loop that stood still could not read in time."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from gateway.resilience.alarms import HELD_UP, MERCY, Alarms, Limit


async def test_what_came_while_the_loop_stood_still_is_no_timeout() -> None:
    """Several steps of a conversation, all of whose words wait in the socket when the loop goes on."""
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
    )
    alarms = Alarms()
    asyncio.get_running_loop().call_soon(time.sleep, HELD_UP * 4)
    os.write(writing, b"one\ntwo\n")
    async with Limit(alarms, HELD_UP):
        assert await reader.readline() == b"one\n"
        await asyncio.sleep(HELD_UP / 5)
        assert await reader.readline() == b"two\n"
    os.close(writing)
    assert await reader.read() == b""
    assert not len(alarms)


async def test_mercy_is_had_once() -> None:
    alarms = Alarms()

    async def wait_for_nothing() -> None:
        async with Limit(alarms, 0.01):
            asyncio.get_running_loop().call_soon(time.sleep, HELD_UP * 4)
            await asyncio.Event().wait()

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await wait_for_nothing()
    assert time.monotonic() - started >= MERCY
    assert not len(alarms)
