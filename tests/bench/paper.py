"""`paper`: the workload of the paper that the architecture comes from, its figures beside ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from tests.bench import gateways, tokens
from tests.bench.contenders import Entry, Recipe, Server, enter
from tests.bench.distance import far_away
from tests.bench.figures import Figure, Table, number, ratio
from tests.bench.flow import Flow, Outcome
from tests.bench.rounds import Pace, cpu, rate_of, run, say, values
from tests.bench.world import World
from tests.world import MODERN, routing

RATE: Final = 150.0
MIX: Final = {"simple": 60.0, "medium": 30.0, "complex": 10.0}
PER_REPLICA: Final = 50.0
REPLICAS: Final = (1, 2, 3, 6)
FAR_MS: Final = 5
_QUARTERS: Final = (("01-01", "03-31"), ("04-01", "06-30"), ("07-01", "09-30"), ("10-01", "12-31"))


def mixed(token: str) -> dict[str, Recipe]:
    """Requests of each kind, in the current revision."""
    simple = gateways.recipe(token)
    quarters = [{"first": f"2024-{first}", "last": f"2024-{last}"} for first, last in _QUARTERS]
    return {
        "simple": simple,
        "medium": _recipe(token, "orders_of_customer", [{"id": number} for number in range(1, gateways.IDS + 1)]),
        "complex": _recipe(token, "revenue_by_country", quarters),
    }


def _recipe(token: str, tool: str, arguments: list[dict[str, Any]]) -> Recipe:
    bodies = [gateways.body(MODERN, tool, each) for each in arguments]
    headers = gateways.headers(token) | routing(bodies[0])
    return Recipe(headers, [json.dumps(each).encode() for each in bodies], b"Customer ")


def measure(world: World, pace: Pace) -> list[Table]:
    """The four tables."""
    found = []
    for name, part in (("table 1", baseline), ("table 2", scaling), ("table 3", pooling), ("table 4", tokens.measure)):
        say(f"  {name}")
        found.append(part(world, pace))
    return found


def _flow(world: World, name: str) -> Flow:
    return Flow(mixed(world.token()), MIX, gateways.folder_of(world, name))


def _ready(flow: Flow, servers: list[Server]) -> None:
    for server in servers:
        for recipe in flow.recipes.values():
            server.check(recipe)


def baseline(world: World, pace: Pace) -> Table:
    """150 requests a second of the mix."""
    flow, seconds = _flow(world, "baseline"), max(1.0, pace.seconds * 2)
    outcomes: list[Outcome] = []
    busy: list[float] = []
    with gateways.gateway(world, pool={"min": 2, "max": 10}) as server:
        _ready(flow, [server])
        flow.send([server], world.postgresql.pid, RATE, 1.0)
        for _ in range(pace.rounds):
            with _watching(world) as seen:
                outcomes.append(flow.send([server], world.postgresql.pid, RATE, seconds))
            busy.append(seen() / 10)
    sent, failed = sum(each.sent for each in outcomes), sum(each.failed for each in outcomes)
    rows = (
        *(
            (f"p{share} ms", paper, _latency(outcomes, share / 100))
            for share, paper in ((50, 45), (95, 180), (99, 420))
        ),
        ("errors", "0.02 %", f"{failed / sent:.2%} ({failed} of {sent:,})"),
        ("CPU of one core, %", 35, Figure.of(each.cores * 100 for each in outcomes)),
        ("memory MB", 450, Figure.of(each.memory_mb for each in outcomes)),
        ("pool in use, % of 10", 60, Figure.of(share * 100 for share in busy)),
        ("token-cache hits", "96 %", "see table 4"),
    )
    late = max(each.generator for each in outcomes)
    notes = (
        "The paper's CPU is that of three pods together, ours of one process.",
        f"Open loop: latency counts from when a request was due; the generator used {late:.0%} of a core.",
    )
    return Table("Table 1: 150 requests/s, 60 % simple, 30 % medium, 10 % complex", _HEAD, rows, notes)


_HEAD: Final = ("", "the paper", "here")


def _latency(outcomes: list[Outcome], share: float) -> Figure:
    return Figure.of(each.quantile(share) for each in outcomes)


@contextmanager
def _watching(world: World) -> Iterator[Callable[[], float]]:
    """Counts the server's busy sessions while the block runs; the function returned gives their mean."""
    before = _busy_seconds(world)
    yield lambda: _mean_busy(before, _busy_seconds(world))


def _mean_busy(before: tuple[float, float], after: tuple[float, float]) -> float:
    return (after[1] - before[1]) / max(1e-6, after[0] - before[0])


def _busy_seconds(world: World) -> tuple[float, float]:
    """The server's clock, and the seconds its sessions have spent in statements and transactions (pg_stat_database)."""

    async def ask(connection: Any) -> tuple[float, float]:
        await connection.execute("select pg_stat_clear_snapshot()")
        row = await connection.fetchrow(
            "select extract(epoch from clock_timestamp())::float8,"
            " ((active_time + idle_in_transaction_time) / 1000)::float8"
            " from pg_stat_database where datname = current_database()"
        )
        return row[0], row[1]

    now, spent = asyncio.run(asked(world, ask))
    return now, spent


async def asked(world: World, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    """Ask the database as its administrator."""
    connection = await world.postgresql.admin()
    try:
        return await ask(connection)
    finally:
        await connection.close()


def scaling(world: World, pace: Pace) -> Table:
    """More replicas for more load; all share one core here, so CPU is what tells whether they would scale."""
    flow, seconds = _flow(world, "scaling"), max(1.0, pace.seconds)
    outcomes: dict[int, list[Outcome]] = {count: [] for count in REPLICAS}
    with ExitStack() as stack:
        opened = [
            stack.enter_context(gateways.gateway(world, pool={"min": 2, "max": 10})) for _ in range(max(REPLICAS))
        ]
        _ready(flow, opened)
        flow.send(opened, world.postgresql.pid, PER_REPLICA, 1.0)
        for turn in range(pace.rounds):
            for count, found in outcomes.items():
                found.append(flow.send(opened[:count], world.postgresql.pid, PER_REPLICA * count, seconds))
            say(f"    round {turn + 1} of {pace.rounds}")
    paper = {3: "180 at 150/s", 6: "185 at 300/s"}
    rows = tuple(
        (
            str(count),
            f"{PER_REPLICA * count:.0f}",
            ratio(_mean_cpu(found), _mean_cpu(outcomes[1])),
            Figure.of(_mean_cpu(found)),
            Figure.of(1e6 / used for used in _mean_cpu(found)),
            paper.get(count, "-"),
            _latency(found, 0.95),
            str(sum(each.failed for each in found)),
        )
        for count, found in outcomes.items()
    )
    columns = ("replicas", "requests/s", "CPU / one replica", "CPU us/call", "calls/s per core")
    notes = ("All replicas run on one core; one core each would give replicas x calls/s per core.",)
    return Table("Table 2: replicas", (*columns, "paper p95 ms", "p95 ms", "errors"), rows, notes)


def _mean_cpu(found: list[Outcome]) -> list[float]:
    return [sum(each.cpu_us) / len(each.cpu_us) for each in found]


def pooling(world: World, pace: Pace) -> Table:
    """A connection for each request against pooled ones, near and far."""
    each_time = {"min": 0, "max": 16, "max_lifetime": "1ms", "max_waiting": 1000}
    token, folder = world.token(), gateways.folder_of(world, "pooling")
    with ExitStack() as stack:
        port = stack.enter_context(far_away(world.postgresql.port, FAR_MS / 1000))
        entries: list[Entry] = []
        for distance, source in (("near", {}), (f"{FAR_MS} ms away", {"port": port})):
            for kind, pool in (("per request", each_time), ("pooled", {})):
                server = stack.enter_context(gateways.gateway(world, pool=pool, source=source))
                entries.append(enter(f"{kind}, {distance}", server, gateways.recipe(token), folder))
        logins = _count_logins(world, entries)
        run(entries, pace)
    rows = []
    for index in (0, 2):
        each, pooled = entries[index : index + 2]
        rows += [_pool_row(each, each, logins[each.name]), _pool_row(pooled, each, logins[pooled.name])]
    rows += [
        ("the paper: per request", "-", "-", "-", 45, 620, "-"),
        ("the paper: pooled", "0.29", "3.33", "-", 150, 180, "-"),
    ]
    columns = (
        "connections",
        "p95 / per request",
        "calls/s / per request",
        "CPU us/call",
        "calls/s",
        "p95 ms",
        "logins/call",
    )
    notes = (
        "16 connections as fast as they can; TLS 1.3 and SCRAM-SHA-256 for each login.",
        "Per request: the same gateway with max_lifetime 1ms.",
    )
    return Table("Table 3: pooled connections", columns, tuple(rows), notes)


def _pool_row(entry: Entry, base: Entry, logins: float) -> tuple[Any, ...]:
    p95s, base_p95s = ([turn.load.p95 for turn in each.rounds] for each in (entry, base))
    rates, base_rates = values(entry, rate_of), values(base, rate_of)
    figures = ratio(p95s, base_p95s), ratio(rates, base_rates), Figure.of(values(entry, cpu))
    return (entry.name, *figures, Figure.of(rates), Figure.of(p95s), number(logins))


def _count_logins(world: World, entries: list[Entry]) -> dict[str, float]:
    """How many logins a call costs, as the database counts them."""

    async def ask(connection: Any) -> int:
        return int(
            await connection.fetchval("select sessions from pg_stat_database where datname = current_database()")
        )

    counted = {}
    for entry in entries:
        before = asyncio.run(asked(world, ask))
        calls = entry.measure(1).load.calls
        # The administrator's own look is one.
        counted[entry.name] = max(0, asyncio.run(asked(world, ask)) - before - 1) / calls
    return counted
