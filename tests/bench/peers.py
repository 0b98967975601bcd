"""`peers`: the same statement, data and tokens through other stacks."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final

import yaml

from tests.bench import gateways, installs, machine
from tests.bench.call import bare
from tests.bench.contenders import CannotStart, Entry, Server, enter, python, serving
from tests.bench.figures import Figure, Table, ratio
from tests.bench.floor import QUERY
from tests.bench.identity import AUDIENCE, SCOPE
from tests.bench.rounds import Pace, cpu, run, say, table, values
from tests.bench.world import World
from tests.servers.local import free_port
from tests.world import MODERN

Opening = Callable[[World], AbstractContextManager[Server]]


def environment(world: World) -> dict[str, str]:
    """Where contenders that are not the gateway find everything."""
    return {
        "BENCH_DATABASE": json.dumps(world.account),
        "BENCH_CA": str(world.ca),
        "BENCH_ISSUER": world.issuer,
        "BENCH_AUDIENCE": AUDIENCE,
        "BENCH_SCOPE": SCOPE,
    }


@contextmanager
def sdk(world: World) -> Iterator[Server]:
    """The SDK's own application."""
    port = free_port()
    command = python("-m", "tests.bench.peer_sdk", port)
    with serving("SDK", command, port, world.folder, environment(world)) as server:
        yield server


@contextmanager
def fastmcp(world: World) -> Iterator[Server]:
    """FastMCP in its own environment."""
    port = free_port()
    command = [installs.fastmcp(), "-m", "tests.bench.peer_fastmcp", port]
    with serving("FastMCP", command, port, world.folder, environment(world)) as server:
        yield server


def _toolbox_documents(world: World) -> list[dict[str, Any]]:
    account = {name: str(value) for name, value in world.account.items()}
    tls = {"sslmode": "verify-full", "sslrootcert": str(world.ca)}
    return [
        {
            "kind": "source",
            "name": "shop",
            "type": "postgres",
            **account,
            "queryParams": {**tls, "pool_max_conns": "16", "pool_min_conns": "16"},
        },
        {
            "kind": "authService",
            "name": "bench",
            "type": "generic",
            "mcpEnabled": True,
            "authorizationServer": world.issuer,
            "audience": AUDIENCE,
            "scopesRequired": [SCOPE],
        },
        {
            "kind": "tool",
            "name": "customer_by_id",
            "type": "postgres-sql",
            "source": "shop",
            "description": "One customer by its number.",
            "parameters": [{"name": "id", "type": "integer", "description": "Customer number"}],
            "statement": QUERY,
        },
    ]


@contextmanager
def toolbox(world: World, cores: Sequence[int] | None = None) -> Iterator[Server]:
    """Toolbox with its MCP authorization, logging at info as it does by default; on one core, or on those given."""
    program, port = installs.toolbox(), free_port()
    path = world.folder / f"toolbox-{port}.yaml"
    path.write_text(yaml.safe_dump_all(_toolbox_documents(world)))
    flags = ("--config", path, "--port", port, "--toolbox-url", f"http://127.0.0.1:{port}", "--disable-version-check")
    limits = {"GOMAXPROCS": str(len(cores or (1,)))}
    with serving("Toolbox", [program, *flags, "--disable-reload"], port, world.folder, limits, cores) as server:
        yield server


PEERS: Final[Mapping[str, Opening]] = {
    f"Toolbox {installs.TOOLBOX}, MCP auth": toolbox,
    f"FastMCP {installs.FASTMCP}, JWT verifier": fastmcp,
    "MCP SDK app on uvicorn": sdk,
}


class Driver:
    """asyncpg in a loop, in a process of its own."""

    def __init__(self, world: World) -> None:
        self._environment = os.environ | environment(world)
        self.rounds: list[dict[str, float]] = []

    def turn(self, seconds: float) -> None:
        command = [
            "taskset",
            "-c",
            str(machine.cores()[0]),
            *map(str, python("-m", "tests.bench.bare", "loop", seconds)),
        ]
        result = subprocess.run(
            command, env=self._environment, cwd=machine.ROOT, capture_output=True, text=True, check=True
        )
        self.rounds.append(json.loads(result.stdout))

    def row(self, base: Entry) -> tuple[Any, ...]:
        """Its line of the table; it has no latency of its own to tell."""
        used = [each["cpu"] / each["calls"] * 1e6 for each in self.rounds]
        rates = [each["calls"] / each["seconds"] for each in self.rounds]
        ratios = ratio(used, values(base, cpu)), ratio(rates, [turn.rate for turn in base.rounds])
        return ("asyncpg in a loop", *ratios, Figure.of(used), Figure.of(rates), "-", "-", "-", "-")


def measure(world: World, pace: Pace) -> list[Table]:
    """Every peer that can be had; the others are named with the reason."""
    token, folder = world.token(), gateways.folder_of(world, "peers")
    # Peers differ in how they write the row, not in what it says.
    recipe = replace(gateways.recipe(token, gateways.LEGACY), expected=b"Customer 1")
    driver = Driver(world)
    missing: list[str] = []
    with ExitStack() as stack:
        query = stack.enter_context(bare(world, "query", "bare"))
        own = stack.enter_context(gateways.gateway(world))
        gateway = enter(f"gateway, {gateways.LEGACY}", own, gateways.recipe(token, gateways.LEGACY), folder)
        entries = [
            gateway,
            enter(f"gateway, {MODERN}", own, gateways.recipe(token), folder),
            enter("aiohttp + asyncpg, nothing else", query, recipe, folder),
        ]
        for name, opening in PEERS.items():
            try:
                entry = enter(name, stack.enter_context(opening(world)), recipe, folder)
                entry.server.refuses_strangers(recipe)
            except (installs.CannotInstall, CannotStart) as trouble:
                missing.append(f"NOT MEASURED: {name}: {str(trouble).splitlines()[0]}")
                say(f"  {name}: {trouble}")
            else:
                entries.append(entry)
        run(entries, pace, [lambda: driver.turn(pace.seconds)])
    notes = (
        f"Ratios are to the gateway in revision {gateways.LEGACY}, which the others speak, too; nobody has sessions.",
        "Everyone has one core and a pool of 16; every peer verifies tokens with the same provider.",
        *missing,
    )
    found = table("The same call through other stacks", entries, gateway, notes)
    return [Table(found.title, found.columns, (*found.rows, driver.row(gateway)), found.notes)]
