"""`scale`: what a call costs as things grow; each curve must be flat, or straight in what is carried."""

from __future__ import annotations

import http.client
import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.bench import gateways, machine, tokens
from tests.bench.contenders import CannotStart, Recipe, Server, enter
from tests.bench.figures import Figure, Table, ratio
from tests.bench.identity import SCOPE
from tests.bench.rounds import Pace, say
from tests.bench.world import World
from tests.world import MODERN, routing

KIB: Final = 1024
_WISHES: Final = {"notifications": {"toolsListChanged": True}}
TOOLS: Final = (10, 100, 1_000, 10_000)
CLIENTS: Final = (0, 100, 1_000, 5_000)
ROWS: Final = (1, 10, 100, 1_000, 10_000, 100_000)
POOLS: Final = (2, 5, 10, 20, 50)
SIZES: Final = (1, 16, 128, 1_000)
"""In KiB; the largest body that is taken is 1 MiB, and this leaves room for what is around."""
_GROWING: Final[Mapping[str, Mapping[str, Any]]] = {
    "numbers": {
        "description": "As many rows as asked for.",
        "parameters": {"n": {"type": "integer", "minimum": 1}},
        "statement": "select i, 'Customer ' || i as name from generate_series(1, cast(:n as integer)) i",
        "max_rows": 100_000,
    },
    "million": {
        "description": "The first hundred of a million rows.",
        "statement": "select i, 'Customer ' || i as name from generate_series(1, 1000000) i",
    },
    "length": {
        "description": "How long a text is.",
        "parameters": {"text": {"type": "string"}},
        "statement": "select 'Customer ' || length(:text) as name",
    },
    "text": {
        "description": "As long a text as asked for.",
        "parameters": {"n": {"type": "integer", "minimum": 1}},
        "statement": "select 'Customer ' || repeat('x', cast(:n as integer)) as name",
    },
}
_PLAIN: Final = {
    "source": "shop",
    "description": "One customer.",
    "statement": "select name from customers where id = 7",
}
"""Small, because a configuration may hold 100,000 values, and this is there 10,000 times."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve.

    Attributes:
        size: what grows.
        cpu_us: CPU of the server for each call, round by round.
        more: further columns.
    """

    size: int
    cpu_us: Sequence[float]
    more: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """Points, and how a table shows them.

    Attributes:
        title: what grows, and what is measured.
        size: the head of the first column.
        more: heads of the further columns.
        points: smallest first.
    """

    title: str
    size: str
    more: tuple[str, ...]
    points: Sequence[Point]
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        first = self.points[0].cpu_us
        rows = tuple(
            (f"{point.size:,}", ratio(point.cpu_us, first), Figure.of(point.cpu_us), *point.more)
            for point in self.points
        )
        return Table(self.title, (self.size, "CPU / first", "CPU us/call", *self.more), rows, self.notes)


def measure(world: World, pace: Pace) -> list[Table]:
    """Every curve."""
    brief = Pace(max(1, pace.rounds // 2), min(1.0, pace.seconds))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    found = []
    for grow in (tools, clients, streams, rows, arguments, responses, pools):
        say(f"  {grow.__name__}")
        found.append(grow(world, brief).table())
    say("  tokens")
    return [*found, tokens.growing()]


def turns(world: World, server: Server, asked: Recipe, pace: Pace, connections: int = 16) -> list[float]:
    """CPU for each call, round by round."""
    entry = enter("gateway", server, asked, gateways.folder_of(world, "scale"))
    entry.measure(pace.seconds, connections)
    return [entry.measure(pace.seconds, connections).cpu_us for _ in range(pace.rounds)]


def recipe(token: str, tool: str, arguments: Mapping[str, Any]) -> Recipe:
    body = gateways.body(MODERN, tool, arguments)
    return Recipe(gateways.headers(token) | routing(body), [json.dumps(body).encode()], b"Customer ")


def _named(tools: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: {"source": "shop", "scopes": [SCOPE], **tool} for name, tool in tools.items()}


@contextmanager
def growing(world: World) -> Iterator[Server]:
    """A gateway whose tools carry as much as they are told."""
    with gateways.gateway(world, tools=_named(_GROWING)) as server:
        yield server


def tools(world: World, pace: Pace) -> Curve:
    """More tools in the catalogue."""
    points = []
    token = world.token()
    for count in TOOLS:
        measured = gateways.TOOLS["customer_by_id"]
        many = {f"customer_{number}": _PLAIN for number in range(1, count)}
        started = time.monotonic()
        with gateways.gateway(world, tools={**_named({"customer_by_id": measured}), **many}) as server:
            server.check(gateways.recipe(token), within=120)
            start = time.monotonic() - started
            found = turns(world, server, gateways.recipe(token), pace)
            listed = _listing(world, server, token, count, pace)
            points.append(Point(count, found, (*listed, start, machine.resident_mb(server.pid))))
    heads = ("tools/list p50 ms", "tools/list CPU us", "start s", "RSS MB")
    notes = (
        "start: until a first call was answered.",
        "tools/list: one connection that stays open, once the results of all tools are described.",
    )
    return Curve("Tools in the catalogue", "tools", heads, points, notes)


def _listing(world: World, server: Server, token: str, count: int, pace: Pace) -> tuple[Figure, Figure]:
    """What the list of all tools takes its client, ms, and the server, us of CPU.

    A list is made anew as long as databases still tell what tools return, so this waits for the last of them.
    """
    body = gateways.request(MODERN, "tools/list")
    asked = Recipe(gateways.headers(token) | routing(body), [json.dumps(body).encode()], b"")
    until = time.monotonic() + 120
    while server.ask(asked)[1].count(b'"outputSchema"') < count:
        if time.monotonic() > until:
            raise CannotStart(f"the results of {count} tools were not described within two minutes")
        time.sleep(0.1)
    entry = enter("tools/list", server, asked, gateways.folder_of(world, "scale"))
    entry.measure(pace.seconds, 1)
    rounds = [entry.measure(pace.seconds, 1) for _ in range(pace.rounds)]
    return Figure.of([each.load.p50 for each in rounds]), Figure.of([each.cpu_us for each in rounds])


def clients(world: World, pace: Pace) -> Curve:
    """Agents that are connected and silent."""
    asked = gateways.recipe(world.token())
    with gateways.gateway(world) as server:
        points = _beside(world, server, asked, pace, partial(_connected, server, asked))
    notes = ("Each has made one call and keeps its connection.",)
    return Curve("Idle clients", "clients", ("RSS MB", "KB/client"), points, notes)


def streams(world: World, pace: Pace) -> Curve:
    """Agents that listen for changes (`subscriptions/listen`) and hear nothing."""
    token = world.token()
    asked, body = gateways.recipe(token), gateways.request(MODERN, "subscriptions/listen", _WISHES)
    listening = Recipe(gateways.headers(token) | routing(body), [json.dumps(body).encode()], b"acknowledged")
    limits = {
        **gateways.configuration(world)["limits"],
        "listeners_per_caller": CLIENTS[-1],
        "max_listeners": CLIENTS[-1],
    }
    with gateways.gateway(world, limits=limits) as server:
        points = _beside(world, server, asked, pace, partial(_listening, server, listening))
    return Curve("Idle streams", "streams", ("RSS MB", "KB/stream"), points)


def _beside(
    world: World,
    server: Server,
    asked: Recipe,
    pace: Pace,
    present: Callable[[int], AbstractContextManager[None]],
) -> list[Point]:
    """What a call costs beside so many who are silent, the memory then, and that of each of them."""
    points = []
    turns(world, server, asked, pace)
    alone = machine.resident_mb(server.pid)
    for count in CLIENTS:
        with present(count):
            memory = machine.resident_mb(server.pid)
            each = (memory - alone) * 1000 / count if count else 0.0
            points.append(Point(count, turns(world, server, asked, pace), (memory, each)))
    return points


@contextmanager
def _listening(server: Server, asked: Recipe, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)))
            connection.request("POST", "/mcp", asked.bodies[0], dict(asked.headers))
            stream = connection.getresponse()
            while asked.expected not in stream.readline():
                pass
        yield


@contextmanager
def _connected(server: Server, asked: Recipe, count: int) -> Iterator[None]:
    opened = []
    try:
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            opened.append(connection)
            connection.request("POST", "/mcp", asked.bodies[0], dict(asked.headers))
            connection.getresponse().read()
        yield
    finally:
        for connection in opened:
            connection.close()


def carried(size: int) -> dict[str, dict[str, Any]]:
    """The tools that carry something, with arguments for a size: rows, or KiB."""
    return {"numbers": {"n": size}, "length": {"text": "x" * (size * KIB)}, "text": {"n": size * KIB}}


def _carrying(world: World, pace: Pace, sizes: Sequence[int], tool: str) -> tuple[list[Point], tuple[str, ...]]:
    """Points of calls that carry more and more; one connection, so that a large answer waits for no other."""
    points: list[Point] = []
    token = world.token()
    with growing(world) as server:
        turns(world, server, recipe(token, "text", {"n": 1}), pace, connections=1)
        for size in sizes:
            found = turns(world, server, recipe(token, tool, carried(size)[tool]), pace, connections=1)
            extra = Figure.of((value - points[0].cpu_us[0]) / (size - sizes[0]) for value in found) if points else "-"
            points.append(Point(size, found, (extra, machine.resident_mb(server.pid))))
    return points, ("us for each more", "RSS MB")


def rows(world: World, pace: Pace) -> Curve:
    """More rows in a result."""
    points, heads = _carrying(world, pace, ROWS, "numbers")
    return Curve("Rows in a result", "rows", heads, points, (_million(world, pace),))


def _million(world: World, pace: Pace) -> str:
    """A million rows behind `max_rows: 100`."""
    with growing(world) as server:
        turns(world, server, recipe(world.token(), "text", {"n": 1}), pace, connections=1)
        before = machine.resident_mb(server.pid)
        turns(world, server, recipe(world.token(), "million", {}), pace, connections=1)
        after = machine.resident_mb(server.pid)
    return f"A million rows behind max_rows 100: resident memory {before:.0f} MB before, {after:.0f} MB after."


def arguments(world: World, pace: Pace) -> Curve:
    """Longer arguments."""
    points, heads = _carrying(world, pace, SIZES, "length")
    return Curve("Arguments", "KiB", heads, points)


def responses(world: World, pace: Pace) -> Curve:
    """Longer answers."""
    points, heads = _carrying(world, pace, SIZES, "text")
    return Curve("Response", "KiB", heads, points)


def pools(world: World, pace: Pace) -> Curve:
    """More connections to the database, for fifty callers at once."""
    points = []
    asked = gateways.recipe(world.token())
    for size in POOLS:
        with gateways.gateway(world, pool={"min": size, "max": size}) as server:
            entry = enter("gateway", server, asked, gateways.folder_of(world, "scale"))
            entry.measure(pace.seconds, 50)
            found = [entry.measure(pace.seconds, 50) for _ in range(pace.rounds)]
            rates, p95s = Figure.of(turn.rate for turn in found), Figure.of(turn.load.p95 for turn in found)
            points.append(Point(size, [turn.cpu_us for turn in found], (rates, p95s)))
    return Curve("Connections in the pool, 50 callers", "connections", ("calls/s", "p95 ms"), points)
