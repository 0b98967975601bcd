"""`processes`: two processes on one port, beside a peer that uses two cores by itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from tests.bench import gateways, installs, machine
from tests.bench.contenders import CannotStart, Server, enter, python, serving
from tests.bench.figures import Table
from tests.bench.peers import toolbox
from tests.bench.rounds import Pace, run, say, table
from tests.bench.world import World
from tests.servers.local import free_port


@contextmanager
def pair(world: World) -> Iterator[Server]:
    """Two gateways that share a port (`server.reuse_port`) and two cores; the system places them, as it does a peer."""
    port, cores = free_port(), _cores()
    pool = {"min": 8, "max": 8}
    settings = gateways.configuration(world, pool=pool, server={"reuse_port": True})
    path = gateways.write(settings, world.folder / f"gateway-{port}")
    command = python("-m", "gateway.cli.main", "serve", "--config", path, "--port", port)
    one = shlex.join(map(str, command))
    with serving("gateway pair", ["sh", "-c", f"{one} & {one} & wait"], port, world.folder, cores=cores) as server:
        yield server


def _cores() -> tuple[int, ...]:
    first, others = machine.cores()
    return tuple(sorted({first, others[0]}))


def measure(world: World, pace: Pace) -> list[Table]:
    """The same call by one process, by two, and by the peer."""
    token, folder, cores = world.token(), gateways.folder_of(world, "processes"), _cores()
    asked = gateways.recipe(token, gateways.LEGACY)  # which the peer speaks, too
    recipe = replace(asked, expected=b"Customer 1")
    missing: list[str] = []
    with ExitStack() as stack:
        two = enter("gateway, two processes", stack.enter_context(pair(world)), asked, folder)
        entries = [two, enter("gateway, one process", stack.enter_context(gateways.gateway(world)), asked, folder)]
        try:
            peer = stack.enter_context(toolbox(world, cores))
            entries.append(enter(f"Toolbox {installs.TOOLBOX}, MCP auth", peer, recipe, folder))
        except (installs.CannotInstall, CannotStart) as trouble:
            missing.append(f"NOT MEASURED: Toolbox: {str(trouble).splitlines()[0]}")
            say(f"  Toolbox: {trouble}")
        run(entries, pace)
    notes = (
        f"{len(cores)} cores, shared with PostgreSQL and the load generator; each contender has 16 connections in all.",
        f"Everyone is asked in revision {gateways.LEGACY}.",
        "One process has a core to itself, as far as the others leave it.",
        *missing,
    )
    return [table("Two cores", entries, two, notes)]
