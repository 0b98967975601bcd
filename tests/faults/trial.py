"""One scenario: a fault under load, the rules that hold in every one of them, and its row in the table."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import Code, ToolError
from tests.database.support import until
from tests.faults import report
from tests.faults.calls import HUNG, LOST, OK, WRONG, Outcome
from tests.faults.load import check_writes, counted, longest
from tests.faults.process import Held
from tests.faults.world import DEADLINE, SLACK, World, seconds

_SETTLED_WITHIN: Final = 15.0
_AFTER: Final = (5.0, 0.2)
"""Seconds of load after a source has healed, in the long and the short form."""
_MORE_DESCRIPTORS: Final = 6
_MORE_TASKS: Final = 4
_MORE_MEMORY_MB: Final = 40.0
_TIMED: Final = frozenset({Code.POOL_EXHAUSTED, Code.POOL_TIMEOUT, Code.SOURCE_UNAVAILABLE})
"""Failures that say when to call again."""

BROKEN: Final = ("connection_lost", "outcome_unknown")
"""What calls may meet whose connection breaks in the middle."""
DOWN: Final = (*BROKEN, "source_unavailable", "connect_timeout", "pool_timeout")
"""What calls may meet while there is no database."""
STILL: Final = (*DOWN, "statement_timeout", "pool_exhausted")
"""What calls may meet while a database says nothing."""


@dataclass
class Trial:
    """What is known of a scenario while it runs, and after.

    Attributes:
        world: where it runs.
        what: was done; may be told better once it is known.
        hits: the sources that the fault hits.
        outcomes: of the load's calls since it began; of the whole scenario once it is over.
        ended: when the fault was over.
        heal: seconds from then until all callers were well.
        hidden: attempts that failed and were made again, by code.
    """

    world: World
    what: str
    hits: frozenset[str]
    first: int
    ended: float = 0.0
    heal: float = 0.0
    hidden: Counter[str] = field(default_factory=Counter)

    @property
    def outcomes(self) -> list[Outcome]:
        return self.world.load.outcomes[self.first :]

    @property
    def failed(self) -> Counter[str]:
        """Calls that failed, by code."""
        found = counted(self.outcomes)
        return Counter({word: count for word, count in found.items() if word not in (OK, WRONG)})

    def over(self) -> None:
        """The fault is over now; else it is when the block ends."""
        self.ended = time.monotonic()

    async def answers(self, count: int, *sources: str) -> None:
        """Wait until that many further calls of these sources (of those that are hit, where none is named) ended."""
        await until_answered(self.world, count, sources or self.hits)


async def until_answered(world: World, count: int, sources: Iterable[str]) -> None:
    """Wait until that many further calls of these sources ended."""
    wanted, outcomes, first = frozenset(sources), world.load.outcomes, len(world.load.outcomes)
    await until(lambda: sum(each.source in wanted for each in outcomes[first:]) >= count, 30)


@asynccontextmanager
async def trial(
    world: World,
    what: str,
    *,
    hits: Iterable[str] = (),
    may_fail: Iterable[str] = (),
    heals_within: float = 10.0,
    stall: float = DEADLINE + SLACK,
    bystanders_stall: float = SLACK,
    is_felt: bool = True,
    memory_mb: float = _MORE_MEMORY_MB,
) -> AsyncIterator[Trial]:
    """Run a fault in the block, then see that everything heals by itself and that every rule held.

    Args:
        what: is done, for the table.
        hits: sources whose calls may feel it; the calls of all others may not.
        may_fail: codes that calls of these sources may end with.
        heals_within: seconds from the end of the fault until every caller is well.
        stall: the longest that a call may take.
        bystanders_stall: the longest that a call of another source may take.
        is_felt: whether some call must have failed or been tried again: else nothing was shown.
        memory_mb: how much more may be resident afterwards.
    """
    async with world.load.running():  # everybody has a connection: those that were idle for long are gone
        await until_answered(world, len(world.load.workers), world.backends)
    before, retries = await world.held(), await world.gateway.total("gateway_retries_total", "code")
    log_size = world.gateway.log.stat().st_size
    one = Trial(world, what, frozenset(hits), len(world.load.outcomes))
    async with world.load.running():
        await one.answers(len(world.load.workers), *world.backends)
        try:
            yield one
        finally:
            for backend in world.backends.values():
                await backend.heal()
        one.ended = one.ended or time.monotonic()
        one.heal = await world.load.until_well(one.ended, world.backends, heals_within)
        await asyncio.sleep(seconds(*_AFTER))
    after = await _settled(world, before, memory_mb)
    one.hidden = await world.gateway.total("gateway_retries_total", "code") - retries
    writes = await check_writes(one.outcomes, world.backends.values())
    report.ROWS.append(_row(one, writes.bad, before, after))
    assert not writes.bad, writes
    _check_outcomes(one, frozenset(may_fail), stall, bystanders_stall)
    _check_messages(world, one.outcomes)
    _check_log(world, log_size)
    _check_held(before, after, memory_mb)
    assert not is_felt or one.failed or one.hidden, "nobody felt the fault"


def _row(one: Trial, bad_writes: int, before: Held, after: Held) -> report.Row:
    found = counted(one.outcomes)
    return report.Row(
        report.group(),
        one.what,
        sent=len(one.outcomes),
        answered=found[OK],
        failed=one.failed,
        hidden=one.hidden,
        wrong=found[WRONG],
        bad_writes=bad_writes,
        stall=longest(one.outcomes),
        heal=one.heal,
        connections=(sum(before.connections.values()), sum(after.connections.values())),
        memory=(before.memory_mb, after.memory_mb),
    )


async def _settled(world: World, before: Held, memory_mb: float) -> Held:
    """What is held once the connections are as many as before, and what was put aside is gone."""
    limit = time.monotonic() + _SETTLED_WITHIN
    while True:
        after = await world.held()
        is_settled = not _more(before, after, memory_mb) and after.connections == before.connections
        if is_settled or time.monotonic() > limit:
            return after
        await asyncio.sleep(0.05)


def _more(before: Held, after: Held, memory_mb: float) -> list[str]:
    """What there is more of than before."""
    more = []
    if after.descriptors > before.descriptors + _MORE_DESCRIPTORS:
        more.append(f"descriptors: {before.descriptors}, then {after.descriptors}")
    if sum(after.tasks.values()) > sum(before.tasks.values()) + _MORE_TASKS:
        more.append(f"tasks: {dict(Counter(after.tasks) - Counter(before.tasks))}")
    if after.memory_mb > before.memory_mb + memory_mb:
        more.append(f"memory: {before.memory_mb:.0f} MB, then {after.memory_mb:.0f}")
    return more


def _check_held(before: Held, after: Held, memory_mb: float) -> None:
    """Nothing leaks, and every pool is full again."""
    assert not _more(before, after, memory_mb)
    assert after.connections == before.connections


def _check_outcomes(one: Trial, may_fail: frozenset[str], stall: float, bystanders_stall: float) -> None:
    """Answers are right, calls end in time, failures are the expected ones, and other sources do not feel it."""
    for each in one.outcomes:
        assert each.word != WRONG, each
        assert each.word != HUNG, each
        assert each.took <= (stall if each.source in one.hits else bystanders_stall), each
        if each.word != OK:
            assert each.source in one.hits, f"another source's call failed: {each}"
            assert each.word in may_fail, each


def _check_messages(world: World, outcomes: Iterable[Outcome]) -> None:
    secrets, addresses = world.secrets, world.addresses
    for each in outcomes:
        if each.word not in (OK, WRONG, LOST, HUNG):
            check_message(each, secrets, addresses)


def check_message(failed: Outcome, secrets: set[str], addresses: set[str]) -> None:
    """A failure has a code, words to act on, `retryable`, a time where that helps, and gives nothing away."""
    assert len(failed.message) > 20, failed
    assert not any(word in failed.message for word in secrets | addresses), failed
    assert not any(word in json.dumps(failed.details) for word in secrets), failed
    if "retryable" in failed.details:
        code = Code(failed.word)
        assert failed.details["retryable"] is ToolError(code, "").is_retryable, failed
        assert failed.details["correlation_id"], failed
        assert code not in _TIMED or (failed.details["retry_after_ms"] or 0) > 0, failed


def _check_log(world: World, since: int) -> None:
    """Each line is one JSON object; no secret is in it, and no stack of a fault that has no name."""
    with world.gateway.log.open() as log:
        log.seek(since)
        lines = log.read()
    assert not [secret for secret in world.secrets if secret in lines]
    for line in lines.splitlines():
        told = json.loads(line)
        assert "exception" not in told, line[:3000]
        assert told.get("outcome") != Code.INTERNAL.value, line
