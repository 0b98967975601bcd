"""Listeners that come and go at random: each hears of every change once, of nothing else, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from gateway.server import events, listen
from tests.server.raw import post
from tests.server.streams import settled, until
from tests.tally import Tally
from tests.world import CONFIGURATION, World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROUNDS = int(os.environ.get("GATEWAY_TEST_ROUNDS", "50"))
CLIENTS = 16
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
CHANGED = "notifications/tools/list_changed"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("listen_fuzz")
    many = CONFIGURATION.replace("limits: {", f"limits: {{listeners_per_caller: {4 * CLIENTS}, ")
    async with open_world(folder, many) as world:
        await settled(world)
        yield world


class Ear:
    """One client, on one connection after the other."""

    def __init__(self, world: World, number: int, dice: random.Random) -> None:
        self.world = world
        self.number = number
        self.dice = dice
        self.turns = 0
        self.writer: asyncio.StreamWriter | None = None

    @property
    def name(self) -> str:
        """Of this connection's subscription."""
        return f"{self.number}-{self.turns}"

    async def open(self) -> None:
        """Ask, and leave now and then before the answer was read."""
        self.turns += 1
        body = envelope(listen.METHOD, {"notifications": {"toolsListChanged": True}}, identifier=self.name)
        token = await self.world.credentials(("reader", "clerk")[self.number % 2]).token()
        sent = {"Accept": "text/event-stream", "Authorization": f"Bearer {token}", **routing(body)}
        host, port = self.world.base.removeprefix("http://").split(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        self.writer.write(post(json.dumps(body).encode(), *(f"{name}: {value}" for name, value in sent.items())))
        if self.dice.random() < 0.2:
            await asyncio.sleep(self.dice.random() * 0.01)
            self.writer.transport.abort()
            self.writer = None
        else:
            assert await self.hear() == ACKNOWLEDGED

    async def hear(self) -> str:
        """The method of the next frame, which is tagged as this connection's."""
        async with asyncio.timeout(20):
            await self.reader.readuntil(b"data: ")
            frame: dict[str, Any] = json.loads(await self.reader.readline())
        assert frame["params"]["_meta"][SUBSCRIPTION_ID_META_KEY] == self.name, "a foreign event"
        return str(frame["method"])

    def check(self) -> None:
        """Nothing came beside what was heard."""
        assert b"data: " not in bytes(self.reader._buffer), "a doubled event"  # type: ignore[attr-defined]

    async def last(self) -> dict[str, Any]:
        """The result, after which there is nothing."""
        rest = await self.reader.read()
        (line,) = [line for line in rest.splitlines() if line.startswith(b"data: ")]
        found: dict[str, Any] = json.loads(line[6:])
        return found

    def leave(self) -> None:
        """Break the connection, with a reset or in good order."""
        assert self.writer is not None
        (self.writer.transport.abort if self.dice.random() < 0.5 else self.writer.close)()
        self.writer = None


async def _turn(world: World, ears: list[Ear], dice: random.Random) -> int:
    """Some come and some go; then something changes, once or several times at once, while others come and go."""
    for ear in ears:
        if ear.writer is not None:
            ear.check()
    moving = [ear for ear in ears if dice.random() < 0.3]
    for ear in moving:
        if ear.writer is not None:
            ear.leave()
    await asyncio.gather(*(ear.open() for ear in moving))
    listening = [ear for ear in ears if ear.writer is not None]
    fickle = [ear for ear in listening if dice.random() < 0.2]
    for _ in range(dice.choice((1, 1, 2, 5))):
        world.gateway.announcements.announce_tools_changed()
    for ear in fickle:
        ear.leave()
    steady = [ear for ear in listening if ear.writer is not None]
    assert await asyncio.gather(*(ear.hear() for ear in steady)) == [CHANGED] * len(steady)
    return len(steady)


async def test_no_event_is_lost_doubled_or_foreign(world: World, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SETTLE", 0.01)
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    before, listening = len(asyncio.all_tasks()), world.gateway.snapshot.listening
    ears = [Ear(world, number, dice) for number in range(CLIENTS)]
    heard = 0
    try:
        for _ in range(ROUNDS):
            heard += await _turn(world, ears, dice)
            await until(lambda: len(listening) == sum(ear.writer is not None for ear in ears), 10.0)
        world.gateway.announcements.close()
        for ear in ears:
            if ear.writer is not None:
                last = await ear.last()
                assert (last["id"], last["result"]["_meta"][listen.ENDED]) == (ear.name, "shutdown")
                ear.writer.close()
    except BaseException:
        print(f"seed {seed}")
        raise
    await until(lambda: len(listening) == 0, 10.0)
    assert (len(world.gateway.announcements), listening._held) == (0, {})
    await until(lambda: len(asyncio.all_tasks()) <= before, 10.0)
    tally(f"{sum(ear.turns for ear in ears)} connections, {heard} changes heard")
    assert heard > ROUNDS
