"""Connections that break at random: every event arrives once, in order and where it belongs; nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.server.streams import Client, Event, Stream, settled, until
from tests.tally import Tally
from tests.world import CONFIGURATION as PLAIN
from tests.world import World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROUNDS = int(os.environ.get("GATEWAY_TEST_ROUNDS", "50"))
CLIENTS = 6
NOTE = '{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"n":%d}}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    async with open_world(folder, PLAIN + "features: {sessions: true, session_events: 4096}\n") as world:
        await settled(world)
        yield world


class Reading:
    """One stream across all the connections that it takes."""

    def __init__(self, client: Client, dice: random.Random) -> None:
        self.client = client
        self.dice = dice
        self.events: list[Event] = []
        self.last_id = ""
        self.breaks = 0

    @property
    def is_over(self) -> bool:
        return bool(self.events) and "id" in self.events[-1].message

    async def read(self, opened: AbstractAsyncContextManager[Stream], enough: int = -1, least: int = 0) -> None:
        """Read on one connection until it ends, breaks, or enough was read."""
        stays = max(least, self.dice.choice((0, 1, 1, 2, 3, 1000)))
        try:
            async with opened as stream:
                while stays and len(self.events) != enough:
                    event = await stream.event()
                    self.last_id = event.id
                    if event.data:
                        self.events.append(event)
                    stays -= 1
        except (EOFError, aiohttp.ClientError):
            return
        self.breaks += 1

    def check(self, stream: str = "") -> None:
        """Each event once, in order, and all of one stream."""
        names = [event.id.split("-") for event in self.events]
        assert [int(number) for _, _, number in names] == list(range(1, len(names) + 1))
        assert len({(tag, number) for tag, number, _ in names}) <= 1
        assert not stream or names[0][1] == stream


async def _call(client: Client, dice: random.Random, marker: int) -> int:
    """One call whose connection breaks now and then; it has its own result, once."""
    reading = Reading(client, dice)
    await reading.read(client.stream("count_slowly", n=marker))
    while not reading.is_over:
        if not reading.last_id:
            # It left before it was told a name to come back by: the call is lost, and is made anew.
            await reading.read(client.stream("count_slowly", n=marker))
        else:
            await reading.read(client.resume(reading.last_id))
    reading.check()
    result = reading.events[-1].message["result"]
    assert result["structuredContent"]["rows"] == [{"counted": marker}]
    assert all(event.message["method"] == "notifications/progress" for event in reading.events[:-1])
    return reading.breaks


async def _standalone(client: Client, dice: random.Random, count: int) -> int:
    """The standalone stream while it is spoken on."""
    reading = Reading(client, dice)
    here = client.here

    async def speak() -> None:
        for number in range(count):
            here.announce((NOTE % number).encode())
            await asyncio.sleep(dice.random() * 0.01)

    speaking = asyncio.create_task(speak())
    while not reading.last_id:
        await until(lambda: not here.log.streams.get(0) or here.log.streams[0].reader is None, 5.0)  # type: ignore[attr-defined]
        await reading.read(client.listen(), count, least=1)
    while len(reading.events) < count:
        await reading.read(client.resume(reading.last_id), count)
    await speaking
    reading.check("0")
    assert [event.message["params"]["n"] for event in reading.events] == list(range(count))
    return reading.breaks


async def test_no_event_is_lost_doubled_or_foreign(world: World, tally: Tally) -> None:
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    for subject in ("reader", "clerk"):
        await world.credentials(subject).token()
    before = len(asyncio.all_tasks())
    world.http, shared = aiohttp.ClientSession(), world.http
    breaks = 0
    clients = [Client(world, subject=("reader", "clerk")[index % 2]) for index in range(CLIENTS)]
    for client in clients:
        await client.initialize()
    try:
        for turn in range(max(1, ROUNDS // 12)):
            markers = [turn * 1000 + index * 10 + 20_000 for index in range(2 * CLIENTS)]
            work = [_call(clients[index % CLIENTS], dice, marker) for index, marker in enumerate(markers)]
            if turn == 0:
                work += [_standalone(client, dice, min(ROUNDS, 60)) for client in clients]
            breaks += sum(await asyncio.gather(*work))
    except BaseException:
        print(f"seed {seed}")
        raise
    for client in clients:
        await client.send(None, method="DELETE")
    sessions = world.gateway.sessions
    assert (len(sessions), sessions.budget.used) == (0, 0)
    await world.http.close()
    world.http = shared
    await until(lambda: len(asyncio.all_tasks()) <= before, 5.0)
    assert world.gateway.snapshot.sources["shop"].stats.active == 0
    tally(f"{breaks} broken connections")
    assert breaks >= min(ROUNDS, 20)
