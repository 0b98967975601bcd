"""`start`: how long a gateway takes until it is ready, and what it needs then."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from gateway.demo.sample import make_shop
from tests.bench import gateways, machine
from tests.bench.contenders import CannotStart, Server, python, serving
from tests.bench.figures import Figure, Table
from tests.bench.identity import AUDIENCE
from tests.bench.rounds import Pace, say
from tests.bench.world import World
from tests.servers.local import free_port, is_ready

_WITHIN = 30.0
_FLOOR: Final = "aiohttp, pydantic and the MCP SDK, imported and nothing else"
_IMPORTS: Final = """\
import aiohttp.web, pydantic, mcp.server.lowlevel
import os, sys
from pathlib import Path
pages = int(Path("/proc/self/statm").read_text().split()[1])
sys.stdout.write(f"{sum(os.times()[:2])} {pages * os.sysconf('SC_PAGE_SIZE') / 1e6}")
"""


def measure(world: World, pace: Pace) -> list[Table]:
    """From the command to readiness: an embedded database, and PostgreSQL with TLS and login."""
    folder = gateways.folder_of(world, "start")
    kinds = {"SQLite": _embedded(world, folder), "PostgreSQL": gateways.configuration(world)}
    rows = []
    for name, settings in kinds.items():
        found = [_start(world, name, settings, folder / f"{name}-{number}") for number in range(pace.rounds + 1)][1:]
        rows.append((name, *(Figure.of(column) for column in zip(*found, strict=True))))
        say(f"  {name}: {rows[-1][1]} s")
    found = [_imports() for _ in range(pace.rounds + 1)][1:]
    rows.append((_FLOOR, *(Figure.of(column) for column in zip(*found, strict=True))))
    notes = ("Ready: `/healthz/ready` answers 200, keys of the issuer and statements of the tools included.",)
    return [Table("From the command to readiness", ("source", "s", "CPU s", "RSS MB"), tuple(rows), notes)]


def _imports() -> tuple[float, float, float]:
    """What the libraries cost by themselves, as `_start` tells it."""
    command = ["taskset", "-c", str(machine.cores()[0]), *map(str, python("-c", _IMPORTS))]
    began = time.perf_counter()
    told = subprocess.run(
        command, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""}, capture_output=True, text=True, check=True
    ).stdout
    seconds, resident = map(float, told.split())
    return time.perf_counter() - began, seconds, resident


def _embedded(world: World, folder: Path) -> dict[str, Any]:
    database = folder / "shop.sqlite"
    make_shop(database)
    return {
        "auth": {"issuers": [{"issuer": world.issuer, "audiences": [AUDIENCE]}]},
        "sources": {"shop": {"engine": "sqlite", "path": str(database), "required": True}},
        "tools": {
            "customer_by_id": {
                "description": "One customer.",
                "source": "shop",
                "scopes": ["customers:read"],
                "parameters": {"id": {"type": "integer"}},
                "statement": "select id, name from customers where id = :id",
            }
        },
    }


def _start(world: World, name: str, settings: dict[str, Any], folder: Path) -> tuple[float, float, float]:
    """Seconds, seconds of CPU, and resident memory in MB."""
    port, admin = free_port(), free_port()
    path = gateways.write({**settings, "admin": {"port": admin}}, folder)
    command = python("-m", "gateway.cli.main", "serve", "--config", path, "--port", port)
    began = time.perf_counter()
    # As installed: compiled once, by the first of all starts.
    with serving(f"start {name}", command, port, world.folder, {"PYTHONDONTWRITEBYTECODE": ""}) as server:
        _until_ready(server, admin)
        return time.perf_counter() - began, machine.cpu_seconds(server.pid), machine.resident_mb(server.pid)


def _until_ready(server: Server, admin: int) -> None:
    until = time.monotonic() + _WITHIN
    while time.monotonic() < until and server.process.poll() is None:
        if is_ready(f"http://127.0.0.1:{admin}/healthz/ready"):
            return
        time.sleep(0.005)
    raise CannotStart(f"{server.name} was not ready\n{server.log.read_text(errors='replace')[-800:]}")
