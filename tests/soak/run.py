"""One soak from its first call to the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.soak.service import Service
from tests.soak.traffic import KINDS, Kind, Traffic
from tests.soak.watch import Log, Trend, Watch, read_log

_RUNNING: Final = (
    "select count(*) from pg_stat_activity where state = 'active' and application_name like 'mcp-database-gateway%'"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much.

    Attributes:
        seconds: most time it takes.
        rate: calls a second.
        calls: after how many it ends before its time.
        reloads: how many there are in all of the time.
        kinds: what is called, and how often relative to the others.
    """

    seconds: float = 1800.0
    rate: float = 40.0
    calls: int | None = None
    reloads: int = 60
    kinds: Mapping[str, tuple[Kind, float]] = field(default_factory=lambda: KINDS)


@dataclass(frozen=True)
class Found:
    """What a soak found.

    Attributes:
        seconds: that it took.
        counts: calls that ended as they should, by kind.
        wrong: calls that did not.
        lost: confirmed writes that are not in the table.
        doubled: keys that nobody was told were written, or that are there twice.
        running: statements that ran on after everybody had left.
        reloads: of the configuration.
        log: what the gateway wrote.
        watch: the samples.
    """

    seconds: float
    counts: Mapping[str, int]
    wrong: list[str]
    lost: int
    doubled: int
    running: int
    reloads: int
    log: Log
    watch: Watch

    @property
    def calls(self) -> int:
        """All that ended."""
        return sum(self.counts.values()) + len(self.wrong)

    @property
    def complaints(self) -> list[str]:
        """What is not as it should be; nothing in a good soak."""
        return list(self._complaints())

    def _complaints(self) -> Iterator[str]:
        if self.wrong:
            yield f"{len(self.wrong)} wrong answers, such as {self.wrong[0]}"
        for count, what in (
            (self.lost, "writes lost"),
            (self.doubled, "writes doubled"),
            (self.running, "statements that run on"),
            (len(self.log.faults), f"faults in the log, such as {next(iter(self.log.faults), '')}"),
        ):
            if count:
                yield f"{count} {what}"
        yield from (_growth(each) for each in self.watch.trends() if not each.is_flat)


def _growth(trend: Trend) -> str:
    bound = trend.quantity.bound
    return f"{trend.quantity.name}: grew by {trend.growth:.1f} in the second half, which is more than {bound:g}"


async def soak(service: Service, plan: Plan) -> Found:
    """Call, reload and watch until the plan is fulfilled, then count what was written.

    Args:
        service: whose calls these are; it has seen none.
        plan: how long and how much.
    """
    admin = await service.world.postgresql.admin()
    loop = asyncio.get_running_loop()
    try:
        async with aiohttp.ClientSession() as http:
            traffic = Traffic(service, http, await asyncio.to_thread(service.world.token))
            watch, started = Watch(service), loop.time()
            others = [asyncio.create_task(watch.run()), asyncio.create_task(_reload(service, plan))]
            try:
                await traffic.run(plan.kinds, plan.rate, plan.seconds, plan.calls)
            finally:
                for task in others:
                    task.cancel()
                ended = await asyncio.gather(*others, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        took = loop.time() - started
        rows = dict(await admin.fetch("select key, times from soak"))
        running = await _left_running(admin)
    finally:
        await admin.close()
    lost = len(traffic.written - rows.keys())
    doubled = len(rows.keys() - traffic.written) + sum(times != 1 for times in rows.values())
    log = read_log(service.server.log)
    return Found(took, traffic.counts, traffic.wrong, lost, doubled, running, service.reloads, log, watch)


async def _left_running(admin: Any) -> int:
    """Statements of callers that have left, once the database has had time to stop them."""
    count = 0
    for _ in range(100):
        if not (count := await admin.fetchval(_RUNNING)):
            break
        await asyncio.sleep(0.1)
    return count


async def _reload(service: Service, plan: Plan) -> None:
    while True:
        await asyncio.sleep(plan.seconds / plan.reloads)
        await asyncio.to_thread(service.reload)
