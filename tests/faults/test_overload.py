"""More callers than connections: the others do not feel it, and nobody waits for nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from tests.faults.backends import POOL, SOURCES, label
from tests.faults.calls import OK, Agent, Outcome
from tests.faults.load import counted
from tests.faults.trial import trial
from tests.faults.world import IS_LONG, World, seconds

pytestmark = pytest.mark.asyncio(loop_scope="session")

BUSY = 1.0
"""Seconds that a slow query keeps its connection."""
BUSY_TOO = ("pool_timeout", "pool_exhausted")


@pytest.mark.parametrize("source", SOURCES if IS_LONG else SOURCES[:1])
async def test_pool_exhausted_by_one_client(world: World, source: str) -> None:
    """Its calls wait for each other; everybody else's are answered, from what its share leaves."""
    title = world.backends[source].title
    async with (
        trial(world, f"{title}: one client's slow queries fill its share of the pool", is_felt=False) as one,
        world.agent("agent-3") as greedy,
    ):
        outcomes = await flood(greedy, source, 30, until=time.monotonic() + seconds(20, 1.5))
    found = counted(outcomes)
    assert found.keys() <= {OK, *BUSY_TOO}, found
    assert found["pool_timeout"], found
    assert found[OK] >= POOL - 1, found  # it has what is its own
    assert_told_when(outcomes)
    assert not one.failed


async def test_pool_exhausted_by_two_clients(world: World) -> None:
    """Nothing is left: those who come take turns with those who flood, and the two get the same."""
    source = "postgresql"
    async with (
        trial(
            world,
            "PostgreSQL: the whole pool exhausted by two clients' slow queries",
            hits=[source],
            may_fail=BUSY_TOO,
            is_felt=False,
        ) as one,
        world.agent("agent-3") as first,
        world.agent("agent-4") as second,
    ):
        until = time.monotonic() + seconds(20, 3)
        both = await asyncio.gather(*(flood(each, source, 30, until) for each in (first, second)))
        waiting = await world.gateway.total("db_client_connection_pending_requests", "db_client_connection_pool_name")
    served = [counted(each)[OK] for each in both]
    assert min(served) * 2 >= max(served), served
    for outcomes in (*both, one.outcomes):
        assert_told_when(outcomes)
    reads = [each for each in one.outcomes if each.tool == f"{source}_read"]
    assert counted(reads)[OK], Counter(each.word for each in reads)
    assert waiting.keys() >= set(SOURCES)


async def flood(agent: Agent, source: str, count: int, until: float) -> list[Outcome]:
    """So many calls at a time that keep a connection busy, until then; each failure is followed by its pause."""
    outcomes = []

    async def keep_calling(number: int) -> None:
        while time.monotonic() < until:
            expected = [{"id": number, "label": label(number)}]
            outcome = await agent.call(f"{source}_busy", {"id": number, "seconds": BUSY}, expected)
            outcomes.append(outcome)
            if outcome.word != OK:
                await asyncio.sleep((outcome.details.get("retry_after_ms") or 0) / 1000)
            else:
                assert outcome.took >= BUSY

    await asyncio.gather(*(keep_calling(number) for number in range(1, count + 1)))
    return outcomes


def assert_told_when(outcomes: list[Outcome]) -> None:
    """Who got no connection is told when to call again."""
    for each in outcomes:
        if each.word in BUSY_TOO:
            assert each.details["retryable"], each
            assert each.details["retry_after_ms"] > 0, each
