"""Networks that reset, swallow, delay and throttle, by a proxy in front of each database."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.backends import SOURCES, Backend, bulk
from tests.faults.calls import OK
from tests.faults.far import FarPostgresql
from tests.faults.trial import BROKEN, STILL, trial
from tests.faults.world import IS_LONG, World, seconds
from tests.servers.zones import OPEN

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE = 25
"""Rows of the large result, in times of all facts: some 150 KB on the wire."""


@pytest.fixture(params=SOURCES if IS_LONG else ["postgresql"])
def backend(request: pytest.FixtureRequest, world: World) -> Backend:
    """Each database in turn; in the short form one, since the network is the same for all."""
    return world.backends[request.param]


def name(backend: Backend) -> str:
    """The network's, in the table."""
    return f"network to {backend.title}"


async def test_reset(world: World, backend: Backend) -> None:
    """Every connection breaks with RST; new ones open at once."""
    async with trial(world, f"{name(backend)}: all connections reset", hits=[backend.name], may_fail=BROKEN) as one:
        for _ in range(round(seconds(10, 3))):
            backend.proxy.reset()
            await one.answers(20)


async def test_black_hole(world: World, backend: Backend) -> None:
    """Connections open and nothing comes back."""
    long = seconds(10, 3.5)
    async with trial(world, f"{name(backend)}: black hole for {long:g} s", hits=[backend.name], may_fail=STILL):
        backend.proxy.up.swallows = backend.proxy.down.swallows = True
        await asyncio.sleep(long)
        backend.proxy.reset()  # what was swallowed is gone for good


@pytest.mark.parametrize("lane", ["up", "down"])
async def test_one_way_loss(world: World, backend: Backend, lane: str) -> None:
    """Requests get lost, or answers do: a write whose answer is lost was made, and may not be called undone."""
    long, what = seconds(10, 3.5), "requests" if lane == "up" else "answers"
    async with trial(world, f"{name(backend)}: {what} lost for {long:g} s", hits=[backend.name], may_fail=STILL):
        getattr(backend.proxy, lane).swallows = True
        await asyncio.sleep(long)
        backend.proxy.reset()


async def test_latency(world: World, backend: Backend) -> None:
    """100 ms each way: everything is slower, and nothing fails."""
    long = seconds(10, 1.5)
    async with trial(
        world, f"{name(backend)}: 100 ms latency for {long:g} s", hits=[backend.name], is_felt=False
    ) as one:
        backend.proxy.up.delay = backend.proxy.down.delay = 0.05
        await asyncio.sleep(long)
    slowed = [each.took for each in one.outcomes if each.tool == f"{backend.name}_read"]
    assert max(slowed) > 0.1


async def test_more_latency_than_the_limits(world: World, backend: Backend) -> None:
    """2 s: more than opening a connection and running a statement may take."""
    long = seconds(10, 3.5)
    async with trial(world, f"{name(backend)}: 2 s latency for {long:g} s", hits=[backend.name], may_fail=STILL):
        backend.proxy.up.delay = backend.proxy.down.delay = 1.0
        await asyncio.sleep(long)


async def test_narrow(world: World, backend: Backend) -> None:
    """50 KB/s: small answers hardly feel it, and a large one comes whole."""
    async with (
        trial(world, f"{name(backend)}: 50 KB/s", hits=[backend.name], is_felt=False),
        world.agent() as agent,
    ):
        backend.proxy.down.rate = 50_000.0
        for _ in range(round(seconds(10, 1))):
            outcome = await agent.call(f"{backend.name}_bulk", {"id": 10}, bulk(10))
            assert outcome.word == OK, outcome
            assert outcome.took > 0.5


async def test_cut_in_mid_result(world: World, backend: Backend) -> None:
    """Half of a result is no result: the read is made again, and comes whole."""
    async with (
        trial(world, f"{name(backend)}: cut in mid-result", hits=[backend.name], may_fail=BROKEN) as one,
        world.agent() as agent,
    ):
        for _ in range(round(seconds(10, 2))):
            backend.proxy.down.cut(60_000)
            outcome = await agent.call(f"{backend.name}_bulk", {"id": LARGE}, bulk(LARGE))
            assert outcome.word == OK, outcome
            assert backend.proxy.down.cut_after is None
            await one.answers(10)


async def test_idle_connections_dropped(world: World, backend: Backend) -> None:
    """A firewall forgets connections that were idle: they are checked before they are lent, and nobody fails."""
    async with trial(world, f"{name(backend)}: idle connections silently dropped", hits=[backend.name], is_felt=False):
        for _ in range(round(seconds(5, 1))):
            async with world.load.quiet():
                await asyncio.sleep(1.2)  # longer than `ping_after`
                backend.proxy.forget()
            await asyncio.sleep(seconds(5, 0.5))


def far(world: World) -> FarPostgresql:
    """The database in the other zone."""
    backend = world.backends["postgresql"]
    assert isinstance(backend, FarPostgresql)
    return backend


FIREWALLS = {
    "packets to the database dropped": ("arriving", f"tcp dport {OPEN} drop"),
    "packets from the database dropped": ("leaving", f"tcp sport {OPEN} drop"),
    "everything rejected by TCP reset": ("arriving", f"tcp dport {OPEN} reject with tcp reset"),
    "everything rejected by ICMP": ("arriving", f"tcp dport {OPEN} reject with icmpx admin-prohibited"),
}


@pytest.mark.parametrize("what", FIREWALLS if IS_LONG else list(FIREWALLS)[:2])
async def test_firewall(far_world: World, what: str) -> None:
    """The same by a real firewall, which treats packets and knows no connections."""
    long = seconds(10, 3.5)
    async with trial(far_world, f"nft: {what} for {long:g} s", hits=["postgresql"], may_fail=STILL):
        far(far_world).fault(*FIREWALLS[what])
        await asyncio.sleep(long)


async def test_firewall_forgets_idle_connections(far_world: World) -> None:
    """Packets of connections that were idle are dropped; new connections pass."""
    backend = far(far_world)
    async with trial(far_world, "nft: idle connections silently dropped", hits=["postgresql"], is_felt=False):
        async with far_world.load.quiet():
            await asyncio.sleep(1.2)  # longer than `ping_after`
            ports = ", ".join(map(str, backend.ports))
            backend.fault("arriving", f"tcp sport {{ {ports} }} drop")
            backend.fault("leaving", f"tcp dport {{ {ports} }} drop")
        await asyncio.sleep(seconds(5, 0.5))
