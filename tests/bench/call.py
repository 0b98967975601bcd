"""`call`: what one authenticated `tools/call` that reads one row costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.bench import gateways
from tests.bench.contenders import Server, enter, python, serving
from tests.bench.figures import Table
from tests.bench.rounds import Pace, run, table
from tests.bench.world import World
from tests.servers.local import free_port
from tests.world import MODERN


@contextmanager
def bare(world: World, kind: str, name: str) -> Iterator[Server]:
    """The floor as a server: `echo` or `query`."""
    port = free_port()
    environment = {"BENCH_DATABASE": json.dumps(world.account), "BENCH_CA": str(world.ca)}
    with serving(name, python("-m", "tests.bench.bare", kind, port), port, world.folder, environment) as server:
        yield server


def measure(world: World, pace: Pace) -> list[Table]:
    """The gateway in both revisions, as JSON and as a stream, between its floors."""
    token = world.token()
    folder = gateways.folder_of(world, "call")
    modern, legacy = gateways.recipe(token), gateways.recipe(token, gateways.LEGACY)
    with ExitStack() as stack:
        echo = stack.enter_context(bare(world, "echo", "echo"))
        query = stack.enter_context(bare(world, "query", "bare"))
        server = stack.enter_context(gateways.gateway(world))
        tracing = stack.enter_context(gateways.gateway(world, "gateway traced", environment=gateways.traced(world)))
        entries = [
            enter("bare", query, legacy, folder),
            enter("aiohttp echo", echo, legacy, folder),
            enter(f"gateway {MODERN} JSON", server, modern, folder),
            enter(f"gateway {gateways.LEGACY} JSON", server, legacy, folder),
            enter(f"gateway {MODERN} SSE", server, gateways.recipe(token, progress=True), folder),
            enter(
                f"gateway {gateways.LEGACY} SSE", server, gateways.recipe(token, gateways.LEGACY, progress=True), folder
            ),
            enter(f"gateway {MODERN} JSON, 10 % traced", tracing, modern, folder),
        ]
        run(entries, pace)
    notes = (
        "bare: aiohttp and asyncpg with the same statement; no token, no limits, no log.",
        "CPU: user and system time of the server's process on one core; 16 keep-alive connections.",
        f"Rounds of {pace.seconds:g} s in turn: median (least-most) of {pace.rounds}.",
    )
    return [table("One authenticated call", entries, entries[0], notes)]
