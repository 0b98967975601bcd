"""The pool and the shares before it, as a machine that hypothesis drives in virtual time, beside a model of lists.

The other tests of the pool write faults down and see that promises hold. Here every answer is foretold: who is lent a
connection and in which order, who is refused at once, who gives up when.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.config.sources import PoolSettings
from gateway.context import Call
from gateway.database.care import Member
from gateway.database.pool import Pool
from gateway.database.shares import Shares
from gateway.errors import Code, ToolError
from gateway.resilience.retry import Patience
from tests.database.fakes import FakeConnection, FakeEngine, VirtualLoop
from tests.database.support import call_of

CLIENTS: Final = st.sampled_from("abc")
MOMENT: Final = 1 / 1024
"""Passes after each step: whatever needs no time of its own is over, and no two callers came at one time."""
PATIENCE: Final = 3.0
RECOVERY: Final = 10.0
"""Longer than any pause of the breaker."""
WENT_WELL: Final = "lent"


class Database(FakeEngine):
    """An engine whose server can go away."""

    is_down = False

    async def connect(self) -> FakeConnection:
        if self.is_down:
            raise ConnectionError("down")
        return await super().connect()

    def crash(self) -> None:
        self.is_down = True
        for connection in self.connections:
            connection.abort()


@dataclass(eq=False)
class Visit:
    """One caller: what it does, and what became of it."""

    client: str
    arrived: float
    go: asyncio.Event = field(default_factory=asyncio.Event)
    leaves: str = "clean"
    outcome: str = ""
    ended: float = 0.0
    lent: list[Member] = field(default_factory=list)

    @property
    def connection(self) -> FakeConnection:
        connection = self.lent[0].connection
        assert isinstance(connection, FakeConnection)
        return connection

    def is_lendable(self, now: float) -> bool:
        """Whether what it holds may be lent to the next as it is, if it is left clean."""
        return not self.connection.is_closed and now < self.lent[0].expires_at

    @property
    def deadline(self) -> float:
        return self.arrived + PATIENCE


@dataclass
class Model:
    """Who holds, who waits for a turn, who waits for its own client's share: nothing but lists.

    Attributes:
        size: most connections.
        share: most of one client.
        max_waiting: most that wait, at the pool, and of one client for its share.
        holding: who has a connection.
        rotation: who waits at the pool, by client; the first client is next, and goes to the end after its turn.
        lines: who waits for its own client to use less.
        ended: how each ended that was lent nothing, and when.
    """

    size: int
    share: int
    max_waiting: int
    holding: list[Visit] = field(default_factory=list)
    rotation: list[tuple[str, list[Visit]]] = field(default_factory=list)
    lines: dict[str, list[Visit]] = field(default_factory=dict)
    ended: dict[Visit, tuple[str, float]] = field(default_factory=dict)

    @property
    def queued(self) -> list[Visit]:
        return [visit for _, queue in self.rotation for visit in queue]

    @property
    def waiting(self) -> list[Visit]:
        return self.queued + [visit for line in self.lines.values() for visit in line]

    def come(self, visit: Visit) -> None:
        line = self.lines.setdefault(visit.client, [])
        used = sum(each.client == visit.client for each in self.holding + self.queued)
        if used < self.share:
            self.enter(visit, visit.arrived)
        elif len(line) < self.max_waiting:
            line.append(visit)
        else:
            self.ended[visit] = Code.POOL_EXHAUSTED, visit.arrived

    def enter(self, visit: Visit, now: float, coming: int = 0) -> None:
        """Go to the pool; connections that are coming make room among those who wait."""
        if len(self.holding) + coming < self.size:
            self.holding.append(visit)
        elif len(self.queued) - coming < self.max_waiting:
            for client, queue in self.rotation:
                if client == visit.client:
                    queue.append(visit)
                    return
            self.rotation.append((visit.client, [visit]))
        else:
            self.ended[visit] = Code.POOL_EXHAUSTED, now

    def serve(self) -> None:
        """Lend what is free to whose turn it is."""
        while self.rotation and len(self.holding) < self.size:
            client, queue = self.rotation.pop(0)
            self.holding.append(queue.pop(0))
            if queue:
                self.rotation.append((client, queue))

    def next_in_line(self, client: str, now: float, coming: int = 0) -> None:
        line = self.lines.get(client)
        if line:
            self.enter(line.pop(0), now, coming)

    def leave(self, visit: Visit, now: float) -> None:
        """A connection that must be cleaned or replaced first comes a moment after the next of the same client."""
        self.holding.remove(visit)
        if visit.leaves == "clean":
            self.serve()
            self.next_in_line(visit.client, now)
        else:
            self.next_in_line(visit.client, now, coming=1)
            self.serve()

    def leave_to_who_leaves(self, visit: Visit, other: Visit, now: float, *, was_lent: bool) -> None:
        """One leaves and the next is cancelled in one moment: what that one was lent, or would have been, goes on."""
        self.holding.remove(visit)
        if was_lent:
            self.serve()
            self.holding.remove(other)
        else:
            self.forget(other)
        self.serve()
        for each in (visit, other):
            self.next_in_line(each.client, now)

    def forget(self, visit: Visit) -> None:
        """Take one out that waited at the pool; it costs its client no turn."""
        queues = [(client, [each for each in queue if each is not visit]) for client, queue in self.rotation]
        self.rotation = [(client, queue) for client, queue in queues if queue]

    def give_up(self, visit: Visit, outcome: str, now: float) -> None:
        self.ended[visit] = outcome, now
        line = self.lines[visit.client]
        if visit in line:
            line.remove(visit)
            return
        self.forget(visit)
        self.next_in_line(visit.client, now)

    def time_passes(self, now: float) -> None:
        while late := [visit for visit in self.waiting if visit.deadline <= now]:
            first = min(late, key=lambda visit: visit.deadline)
            self.give_up(first, Code.POOL_TIMEOUT, first.deadline)


class PoolMachine(RuleBasedStateMachine):
    """Callers of three clients at one pool."""

    @initialize(size=st.integers(1, 4), share=st.integers(1, 4), max_waiting=st.integers(0, 6), least=st.integers(0, 2))
    def open(self, size: int, share: int, max_waiting: int, least: int) -> None:
        self.loop = VirtualLoop()
        self.database = Database()
        self.settings = PoolSettings.model_validate(
            {
                "min": min(least, size),
                "max": size,
                "max_per_client": min(share, size),
                "max_waiting": max_waiting,
                "acquire_timeout": f"{PATIENCE}s",
                "ping_after": "30s",
                "idle_timeout": "60s",
                "max_lifetime": "300s",
            }
        )
        self.visits: dict[Visit, asyncio.Task[None]] = {}
        # A share as large as the pool asks for no line: everybody waits at the pool.
        self.model = Model(size, self.settings.max_per_client or size, max_waiting)
        if self.model.share == size:
            self.model.share = 10**6
        self.run(0.0)

    def run(self, seconds: float) -> None:
        """Let time pass; the first time everything is made."""

        async def whole() -> None:
            if not hasattr(self, "pool"):
                self.pool, self.shares = Pool(self.database, self.settings, 1.0), Shares(self.settings)
                self.pool.start()
            await asyncio.sleep(seconds + MOMENT)

        self.loop.run_until_complete(whole())

    async def visit(self, visit: Visit) -> None:
        patience = Patience(PATIENCE)
        mine: Call = call_of(visit.client, 10**6)
        try:
            async with self.shares.lease(mine, patience, self.pool.lease(mine, patience)) as member:
                visit.outcome, visit.ended = WENT_WELL, self.loop.time()
                await self.use(visit, member)
        except ToolError as error:
            visit.outcome, visit.ended = error.code, self.loop.time()
        except asyncio.CancelledError:
            visit.outcome, visit.ended = "cancelled", self.loop.time()

    async def use(self, visit: Visit, member: Member) -> None:
        visit.lent.append(member)
        connection = visit.connection
        assert not any((connection.is_used, connection.is_closed, connection.is_broken, connection.is_soiled))
        assert not member.is_dirty
        connection.is_used = True
        try:
            await visit.go.wait()
        finally:
            connection.is_used = False
            if visit.leaves == "dead":
                connection.die()
            elif visit.leaves == "soiled":
                connection.is_soiled = connection.needs_reset = True
            elif visit.leaves == "failed":
                connection.is_soiled = member.is_dirty = True

    @rule(clients=st.lists(CLIENTS, min_size=1, max_size=4))
    def come(self, clients: list[str]) -> None:
        for client in clients:
            visit = Visit(client, self.loop.time())
            self.visits[visit] = self.loop.create_task(self.visit(visit))
            self.model.come(visit)
            self.run(0.0)

    @precondition(lambda self: self.model.holding)
    @rule(data=st.data(), leaves=st.sampled_from(["clean", "clean", "soiled", "failed", "dead"]), is_cut=st.booleans())
    def leave(self, data: st.DataObject, leaves: str, is_cut: bool) -> None:
        self.has_left(data.draw(st.sampled_from(self.model.holding)), leaves, is_cut=is_cut)

    def has_left(self, visit: Visit, leaves: str, *, is_cut: bool = False) -> None:
        # One that is too old is replaced like one that broke.
        visit.leaves = leaves if visit.is_lendable(self.loop.time()) else "dead"
        self.model.leave(visit, self.loop.time())
        if is_cut:
            self.visits[visit].cancel()
        visit.go.set()
        self.run(0.0)
        self.visits.pop(visit).result()

    @precondition(lambda self: self.model.rotation)
    @rule(data=st.data(), was_lent=st.booleans())
    def leave_while_the_next_loses_interest(self, data: st.DataObject, was_lent: bool) -> None:
        visit, other = data.draw(st.sampled_from(self.model.holding)), self.model.rotation[0][1][0]
        if not visit.is_lendable(self.loop.time()):
            return
        visit.go.set()
        if was_lent:
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()  # one round: the connection is the other's, who has not run yet
        self.visits[other].cancel()
        self.model.leave_to_who_leaves(visit, other, self.loop.time(), was_lent=was_lent)
        self.run(0.0)
        assert other.outcome == "cancelled"
        for each in (visit, other):
            self.visits.pop(each).result()

    @precondition(lambda self: self.model.holding)
    @rule(data=st.data())
    def leave_a_broken_connection_behind(self, data: st.DataObject) -> None:
        """Those that were idle broke with it, and nobody was told: none of them is lent."""
        for member in self.pool._idle:
            assert isinstance(member.connection, FakeConnection)
            member.connection.is_broken = True
        self.has_left(data.draw(st.sampled_from(self.model.holding)), "dead")

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def lose_interest(self, data: st.DataObject) -> None:
        visit = data.draw(st.sampled_from(self.model.waiting))
        self.visits[visit].cancel()
        self.model.give_up(visit, "cancelled", self.loop.time())
        self.run(0.0)

    @rule(seconds=st.sampled_from([0.2, 0.2, 0.5, 1.0, 31.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(seconds)
        self.model.time_passes(self.loop.time())

    @rule(seconds=st.sampled_from([0.5, 4.0, 60.0]))
    def the_database_is_away(self, seconds: float) -> None:
        """Who waits is served late or told why not, in time; afterwards all is as if nothing had been."""
        self.database.crash()
        self.run(seconds)
        self.database.is_down = False
        self.run(RECOVERY)
        waited = self.model.waiting
        for visit in waited:
            assert visit.outcome in {WENT_WELL, Code.POOL_TIMEOUT, Code.CONNECT_TIMEOUT, Code.SOURCE_UNAVAILABLE}
            assert visit.ended <= visit.deadline + MOMENT
            event(f"away: {visit.outcome}")
            if visit.outcome == WENT_WELL:
                self.model.holding.append(visit)
            else:
                del self.visits[visit]
        self.model.rotation, self.model.lines = [], {client: [] for client in self.model.lines}

    @invariant()
    def all_is_as_the_model_has_it(self) -> None:
        if hasattr(self, "pool"):
            self.see_where_everybody_is()
            self.see_what_is_open()

    def see_where_everybody_is(self) -> None:
        for task in self.visits.values():
            if task.done():
                task.result()
        assert {each for each in self.visits if each.outcome == WENT_WELL} == set(self.model.holding)
        assert not any(visit.outcome for visit in self.model.waiting)
        assert (len(self.pool._waiters), self.shares.waiting) == (
            len(self.model.queued),
            len(self.model.waiting) - len(self.model.queued),
        )
        for visit, (outcome, ended) in self.model.ended.items():
            assert visit.outcome == outcome
            assert abs(visit.ended - ended) < MOMENT
            event(outcome)
            del self.visits[visit]
        self.model.ended.clear()

    def see_what_is_open(self) -> None:
        stats = self.pool.stats
        assert (stats.active, stats.opening) == (len(self.model.holding), 0)
        assert self.database.most <= self.settings.max
        held = sum(not visit.connection.is_closed for visit in self.model.holding)
        assert self.database.open == held + stats.idle
        assert self.settings.min <= stats.active + stats.idle <= self.settings.max

    def teardown(self) -> None:
        for visit in self.visits:
            visit.go.set()
        self.loop.run_until_complete(asyncio.wait([*self.visits.values(), self.loop.create_task(asyncio.sleep(5))]))
        self.loop.run_until_complete(self.pool.close(1))
        assert (self.database.open, self.shares.waiting, len(self.shares._slots)) == (0, 0, 0)
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()


TestPoolMachine = PoolMachine.TestCase
