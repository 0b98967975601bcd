"""Configurations that come one after the other, some of them broken, while calls are served."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest

from tests.faults.trial import trial
from tests.faults.world import World, configuration, seconds, write

pytestmark = pytest.mark.asyncio(loop_scope="session")

BREAK = (
    lambda settings: settings["tools"]["oracle_read"].update(source="nowhere"),
    lambda settings: settings["sources"]["mariadb"].update(prot=3306),
    lambda settings: settings["tools"]["postgresql_note"].update(statement="insert into note (id) values (:kye)"),
    lambda settings: settings["auth"].update(issuers=[{"issuer": "not a URL", "audiences": ["x"]}]),
)
"""Mistakes, each of another kind."""


def changed(world: World, number: int) -> dict[str, Any]:
    """The configuration with something new in it: a tool, its text, and now and then a source's limit."""
    settings: dict[str, Any] = json.loads(
        json.dumps(configuration(world.backends, world.provider, world.gateway.admin_port))
    )
    tool = settings["tools"]["postgresql_read"]
    settings["tools"][f"also_{number}"] = {**tool, "description": f"The same, as of change {number}."}
    if number % 10 == 5:  # another pool, beside the old one until its last call has left
        settings["sources"]["postgresql"]["pool"]["acquire_timeout"] = f"{3000 + number}ms"
    return settings


async def test_reloads(world: World) -> None:
    """Every call is answered by one configuration or the other; a broken one changes nothing, and says why."""
    count = round(seconds(50, 12))
    before = await world.gateway.total("gateway_configuration_reloads_total", "result")
    what = f"{count} reloads, every third of a broken configuration"
    async with trial(world, what, is_felt=False):
        for number in range(1, count + 1):
            settings = changed(world, number)
            if number % 3 == 0:
                BREAK[number // 3 % len(BREAK)](settings)
            write(settings, world.gateway.configuration)
            world.gateway.signal(signal.SIGHUP)
            async with asyncio.timeout(30):
                while await reloads(world, before) < number:  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(0.02)
        write(configuration(world.backends, world.provider, world.gateway.admin_port), world.gateway.configuration)
        world.gateway.signal(signal.SIGHUP)
    after = await world.gateway.total("gateway_configuration_reloads_total", "result")
    assert after["failed"] - before["failed"] == count // 3
    assert after["ok"] - before["ok"] >= count - count // 3


async def reloads(world: World, before: Any) -> int:
    """How many were tried since."""
    now = await world.gateway.total("gateway_configuration_reloads_total", "result")
    return int((now - before).total())
