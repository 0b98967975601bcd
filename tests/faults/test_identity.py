"""Identity providers that are down, slow, mad, have new keys or a wrong clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio

from tests.faults.backends import Backend, label
from tests.faults.calls import OK, Outcome
from tests.faults.trial import Trial, trial
from tests.faults.world import DEADLINE, SLACK, World, open_world, seconds

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNJUDGED = "503 -32007"
"""The token may be good: wait, call again."""
REFUSED = "401 -32003"
"""The token is not good: get another."""
EXPECTED = [{"id": 1, "label": label(1)}]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def inquiring(backends: dict[str, Backend]) -> AsyncIterator[World]:
    """A provider and a gateway of its own, since how often a provider is asked for keys depends on what was before."""
    async with open_world({"postgresql": backends["postgresql"]}) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(inquiring: World) -> World:
    """The gateway has not asked for keys yet, but once."""
    await inquiring.restart()
    return inquiring


@asynccontextmanager
async def unharmed(world: World, what: str) -> AsyncIterator[Trial]:
    """Known tokens keep working, and readiness does not flap."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(trial(world, what, is_felt=False))
        watch = asyncio.create_task(_watch_readiness(world))
        yield one
        watch.cancel()
        assert await watch == {"ready"}


async def _watch_readiness(world: World) -> set[str]:
    seen = set()
    try:
        while True:
            seen.add((await world.gateway.health())["status"])
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return seen


async def call_with(world: World, token: str) -> Outcome:
    """A read with a token that the gateway has not seen."""
    async with world.agent() as agent:
        agent.token = token
        outcome = await agent.call("postgresql_read", {"id": 1}, EXPECTED)
    assert outcome.took <= DEADLINE + SLACK
    return outcome


async def test_down(fresh: World) -> None:
    """New tokens of known keys are judged without it; those of unknown keys cannot be, and are not called bad."""
    long = seconds(60, 1)
    async with unharmed(fresh, f"identity provider down for {long:g} s"):
        fresh.provider.kill()
        assert (await call_with(fresh, fresh.provider.mint("agent-3"))).word == OK
        strange = fresh.provider.mint("agent-3", key=fresh.provider.new_key())
        told = await call_with(fresh, strange)
        assert told.word == UNJUDGED, told
        assert "try again" in told.message
        await asyncio.sleep(long)
        fresh.provider.start()
    assert (await call_with(fresh, fresh.provider.mint("agent-4"))).word == OK


@pytest.mark.parametrize("how", ["slow", "garbage"])
async def test_slow_or_mad(fresh: World, how: str) -> None:
    """Who needs it waits no longer than a call may take; who does not is not kept waiting."""
    what = "slow (10 s)" if how == "slow" else "answers with garbage"
    async with unharmed(fresh, f"identity provider {what}"):
        fresh.provider.behave(how)
        strange = asyncio.create_task(call_with(fresh, fresh.provider.mint("agent-3", key=fresh.provider.new_key())))
        known = await call_with(fresh, fresh.provider.mint("agent-3"))
        assert known.word == OK, known
        assert (await strange).word == UNJUDGED, await strange
        await asyncio.sleep(seconds(20, 0))
        fresh.provider.behave("honest")


async def test_rotating_keys(fresh: World) -> None:
    """The first token of a new key is let in, and those of the old one still are."""
    async with unharmed(fresh, "identity provider rotates its key"):
        fresh.provider.rotate(keep_old=True)
        assert (await call_with(fresh, fresh.provider.mint("agent-3"))).word == OK


async def test_withdrawn_key(fresh: World) -> None:
    """After a leak: as soon as the new key is seen, nobody comes in with the old one."""
    stolen = fresh.provider.mint("agent-3")
    what = "identity provider rotates and withdraws its key, after a leak"
    async with trial(fresh, what, hits=fresh.backends, may_fail=[REFUSED], is_felt=False):
        assert (await call_with(fresh, stolen)).word == OK
        fresh.provider.rotate(keep_old=False)
        # The load's tokens are those of the lost key: its agents get new ones, as clients do after 401.
        for agent, client in zip(fresh.agents, fresh.provider.clients, strict=False):
            agent.token = fresh.provider.mint(client)
    assert (await call_with(fresh, stolen)).word == REFUSED


@pytest.mark.parametrize("offset", [90, -90])
async def test_clock_is_off(world: World, faketime: None, offset: int) -> None:
    """A provider that is ahead issues tokens of the future, which are told so; behind, they are only shorter."""
    where = "ahead" if offset > 0 else "behind"
    async with unharmed(world, f"identity provider's clock {abs(offset)} s {where}"):
        world.provider.kill()
        world.provider.start(("faketime", "-f", f"{offset:+d}s"))
        told = await call_with(world, await world.provider.token("agent-3"))
        world.provider.kill()
        world.provider.start()
        if offset < 0:
            assert told.word == OK, told
        else:
            assert told.word == REFUSED, told
            assert "not valid yet" in told.message
