"""Databases that crash, restart, freeze, vanish and refuse."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.faults.backends import SOURCES, Backend, Mariadb, Postgresql
from tests.faults.trial import BROKEN, DOWN, STILL, trial
from tests.faults.world import World, seconds

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(params=SOURCES)
def backend(request: pytest.FixtureRequest, world: World) -> Backend:
    """Each database in turn."""
    return world.backends[request.param]


async def test_back_end_killed_in_mid_query(world: World) -> None:
    """PostgreSQL then ends all sessions and recovers, as after any crash: reads do not feel it."""
    postgresql = world.backends["postgresql"]
    assert isinstance(postgresql, Postgresql)
    async with trial(
        world, "PostgreSQL: a back end killed (-9) in mid-query", hits=["postgresql"], may_fail=DOWN
    ) as one:
        for _ in range(round(seconds(10, 1))):
            os.kill(await postgresql.running("pg_sleep"), signal.SIGKILL)
            await one.answers(20)
    assert one.failed.keys() <= set(BROKEN), one.failed


async def test_connection_killed_in_mid_query(world: World) -> None:
    """MariaDB has a thread for each connection: `kill` ends one of them."""
    mariadb = world.backends["mariadb"]
    assert isinstance(mariadb, Mariadb)
    async with trial(world, "MariaDB: a connection killed in mid-query", hits=["mariadb"], may_fail=BROKEN) as one:
        for _ in range(round(seconds(10, 2))):
            await mariadb.kill_one("sleep")
            await one.answers(20)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_restart(world: World, backend: Backend, mode: str) -> None:
    """It is away for as long as it takes: calls that wait that long are not failed."""
    if backend.name == "oracle" and mode == "fast":
        pytest.skip("the stand-in ends in one way only")
    async with trial(world, f"{backend.title}: server restarted ({mode})", hits=[backend.name], may_fail=DOWN) as one:
        for _ in range(round(seconds(5, 1))):
            await backend.stop(mode)
            await backend.start()
            await one.answers(20)


async def test_frozen(world: World, backend: Backend) -> None:
    """Nobody hears of a frozen server: every call ends by its own limits, and what waits is told to come back."""
    # In the short form one of them outlasts every limit; for the others' calls it is a pause.
    long = seconds(20, 3.5 if backend.name == "postgresql" else 1.0)
    async with trial(
        world,
        f"{backend.title}: server frozen (SIGSTOP) for {long:g} s",
        hits=[backend.name],
        may_fail=STILL,
        is_felt=long > 3,
    ):
        backend.server.signal_all(signal.SIGSTOP)
        try:
            await asyncio.sleep(long)
        finally:
            backend.server.signal_all(signal.SIGCONT)


async def test_down(world: World, backend: Backend) -> None:
    """After a moment callers are refused at once, with a time, and not kept waiting."""
    long = seconds(60, 0.8)
    async with trial(world, f"{backend.title}: server down for {long:g} s", hits=[backend.name], may_fail=DOWN) as one:
        await backend.stop()
        await asyncio.sleep(long)
        await backend.start()
    assert one.failed["source_unavailable"] + one.hidden["source_unavailable"]


async def test_refusing(world: World, backend: Backend) -> None:
    """The server lives and has no room: SQLSTATE 53300, MariaDB's 1226, ORA-00018."""
    long = seconds(10, 0.8)
    async with trial(
        world, f"{backend.title}: refuses connections for {long:g} s", hits=[backend.name], may_fail=DOWN
    ) as one:
        await backend.refuse_logins()
        await asyncio.sleep(long)
        await backend.admit_logins()
    assert one.failed["source_unavailable"] + one.hidden["source_unavailable"]


async def test_promoted_standby(world: World) -> None:
    """The primary dies, its synchronous standby is promoted, and the same address leads there: no write is lost."""
    postgresql = world.backends["postgresql"]
    assert isinstance(postgresql, Postgresql)
    standby = await postgresql.standby()
    async with trial(
        world, "PostgreSQL: primary killed, its standby promoted", hits=["postgresql"], may_fail=DOWN
    ) as one:
        await asyncio.to_thread(postgresql.server.crash)
        await postgresql.promote(standby)
        one.over()
        await one.answers(20)
    assert not (await postgresql.fetch("select pg_is_in_recovery()"))[0][0]
