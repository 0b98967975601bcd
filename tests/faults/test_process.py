"""The process itself: told to stop, killed, stopped, blocked, out of descriptors, short of memory."""

from __future__ import annotations

import asyncio
import re
import resource
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.telemetry.audit.verify import Verifier
from tests.faults.backends import FACTS, Backend, bulk, label
from tests.faults.calls import LOST, OK, Agent, Outcome
from tests.faults.trial import DOWN, STILL, trial
from tests.faults.watched import BLOCKED
from tests.faults.world import World, open_world, seconds
from tests.servers.local import HOST

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAIN_KEY = "an-audit-chain-key-for-fault-tests-0123456789"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def recorded(backends: dict[str, Backend], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway of its own, with an audit file."""
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    audit = {"sinks": [{"file": {"path": str(path)}}], "chain_key": CHAIN_KEY}
    async with open_world({"postgresql": backends["postgresql"]}, audit=audit) as opened:
        opened.files["audit"] = path
        yield opened


def slow_calls(agent: Agent, count: int, duration: float) -> list[asyncio.Task[Outcome]]:
    """Calls that take so long in the database."""
    return [
        asyncio.create_task(
            agent.call("postgresql_busy", {"id": number, "seconds": duration}, [{"id": number, "label": label(number)}])
        )
        for number in range(1, count + 1)
    ]


async def in_use(world: World) -> int:
    """Connections that are lent now."""
    found = await world.gateway.total("db_client_connection_count", "db_client_connection_state")
    return found["used"]


async def until_in_use(world: World, count: int) -> None:
    """Wait until so many connections are lent."""
    async with asyncio.timeout(20):
        while await in_use(world) < count:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.01)


async def test_sigterm_under_load(recorded: World) -> None:
    """What is in flight is answered; then it ends with status 0, and the next one serves the same."""
    async with (
        trial(recorded, "SIGTERM under load, and started again", hits=["postgresql"], may_fail=[LOST]) as one,
        recorded.agent("agent-3") as agent,
    ):
        running = slow_calls(agent, 5, 1.5)
        await until_in_use(recorded, 5)
        recorded.gateway.signal(signal.SIGTERM)
        assert [each.word for each in await asyncio.gather(*running)] == [OK] * 5
        assert await recorded.gateway.wait(15) == 0
        recorded.gateway.kill()
        recorded.gateway.start()
        await recorded.gateway.until_ready()
        one.over()
    check_chain(recorded, is_in_order=True)


async def test_sigkill(recorded: World) -> None:
    """The audit can be read to the last whole record, and the next process goes on where it ended."""
    async with trial(recorded, "SIGKILL, and started again", hits=["postgresql"], may_fail=[LOST]) as one:
        recorded.gateway.kill()
        check_chain(recorded, is_in_order=False)
        recorded.gateway.start()
        await recorded.gateway.until_ready()
        one.over()
    await recorded.gateway.until_ready()
    check_chain(recorded, is_in_order=False)


def check_chain(world: World, *, is_in_order: bool) -> None:
    """No record is missing, changed or doubled."""
    path = world.files["audit"]
    report = Verifier([CHAIN_KEY]).verify(sorted(path.parent.glob("audit*.jsonl")))
    assert report.is_whole, report
    assert report.records > 10
    assert is_in_order or report.notes


async def test_stopped_and_continued(recorded: World) -> None:
    """Longer than any limit: what the database answered meanwhile is no timeout, and nothing is afterwards.

    Who waits for a connection has waited, and one that was being opened is opened anew.
    """
    long = seconds(5, 3.5)
    what = f"SIGSTOP, and SIGCONT after {long:g} s"
    waiting = ["connect_timeout", "pool_timeout"]
    async with trial(recorded, what, hits=["postgresql"], may_fail=waiting, stall=long + 4, is_felt=False) as one:
        recorded.gateway.signal(signal.SIGSTOP)
        await asyncio.sleep(long)
        recorded.gateway.signal(signal.SIGCONT)
        one.over()
    assert not [each for each in one.outcomes if each.began > one.ended and each.word != OK]


async def test_event_loop_blocked(recorded: World) -> None:
    """Nothing is served meanwhile; metric and log say how long, and no call is failed for it."""
    before = (await recorded.gateway.total("gateway_event_loop_lag_seconds_sum")).total()
    what = f"the event loop blocked for {BLOCKED:g} s"
    async with trial(recorded, what, hits=["postgresql"], is_felt=False) as one:
        recorded.gateway.signal(signal.SIGUSR2)
        await one.answers(20)
    assert (await recorded.gateway.total("gateway_event_loop_lag_seconds_sum")).total() >= before + 1
    assert re.search(r'"event":"the event loop stood still","seconds":[12]\.', recorded.gateway.log.read_text())


async def test_descriptors_exhausted(recorded: World) -> None:
    """Nobody new comes in and no connection to a database opens; with descriptors all of it works again."""
    process = recorded.gateway.pid
    soft, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
    postgresql = recorded.backends["postgresql"]
    long = seconds(20, 1.5)
    async with trial(
        recorded, f"no file descriptor left for {long:g} s", hits=["postgresql"], may_fail=[*DOWN, LOST]
    ) as one:
        resource.prlimit(process, resource.RLIMIT_NOFILE, (max(recorded.gateway.descriptors()) + 1, hard))
        strangers = [await asyncio.open_connection(HOST, recorded.gateway.port) for _ in range(50)]
        postgresql.proxy.reset()
        await asyncio.sleep(long)
        assert recorded.gateway.is_running
        resource.prlimit(process, resource.RLIMIT_NOFILE, (soft, hard))
        for _, writer in strangers:
            writer.transport.abort()
        one.over()
    assert recorded.gateway.pid == process


async def test_memory_limit(recorded: World) -> None:
    """Many huge results at once fit into what one process may have: each is bounded, and they are not kept."""
    process = recorded.gateway.pid
    before = resource.prlimit(process, resource.RLIMIT_DATA)
    room = recorded.gateway.memory("VmData") + (512 << 20)
    resource.prlimit(process, resource.RLIMIT_DATA, (room, before[1]))
    cut = bulk(FACTS)

    def is_beginning(rows: list[object]) -> bool:
        return 1_000 < len(rows) < len(cut) and rows == cut[: len(rows)]

    async def ask(agent: Agent) -> None:
        outcome = await agent.call("postgresql_bulk", {"id": FACTS}, is_beginning)
        assert outcome.word in (OK, *STILL), outcome

    async with (
        trial(
            recorded,
            "40,000 rows for each of 20 callers, with 512 MB of memory left",
            hits=["postgresql"],
            may_fail=["pool_timeout", "statement_timeout"],
            is_felt=False,
            memory_mb=160,  # the system's allocator keeps what it may need again
        ),
        recorded.agent("agent-3") as agent,
    ):
        for _ in range(round(seconds(10, 1))):
            await asyncio.gather(*(ask(agent) for _ in range(20)))
    resource.prlimit(process, resource.RLIMIT_DATA, before)
    assert recorded.gateway.pid == process
    assert "MemoryError" not in recorded.gateway.log.read_text()
