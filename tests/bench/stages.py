"""`stages`: where the CPU time of a call goes, by samples of the running process, so that it adds up."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final

import yaml

from tests.bench import gateways
from tests.bench.contenders import CannotStart, Entry, enter, python, serving
from tests.bench.figures import Figure, Table
from tests.bench.rounds import Pace, say
from tests.bench.world import World
from tests.servers.local import free_port

STAGES: Final = (
    ("log and record", ("logging", "gateway/telemetry/logs", "gateway/server/record")),
    ("traces", ("gateway/telemetry/tracing", "opentelemetry/")),
    ("audit and metrics", ("gateway/telemetry/",)),
    ("token, limits, door", ("gateway/auth/", "gateway/resilience/", "gateway/server/door", "jwt/")),
    ("parse and write JSON-RPC", ("gateway/server/jsonrpc", "gateway/server/transport", "gateway/server/answer")),
    ("MCP SDK", ("mcp/", "mcp_types/", "pydantic", "anyio/", "gateway/server/mcp")),
    ("reception", ("gateway/server/",)),
    ("bind, rows to JSON", ("gateway/tools/", "jsonschema", "referencing")),
    ("pool and session", ("gateway/database/pool", "gateway/database/session", "gateway/database/sources")),
    ("driver and network to the database", ("gateway/database/", "asyncpg/")),
    ("HTTP", ("aiohttp/", "yarl/", "multidict/", "aiosignal/", "frozenlist/", "propcache/")),
)
"""Each stage and the files it lives in; the first that fits."""
REST: Final = "event loop and what has no frame"
_TOP: Final = 25


def stage_of(module: str) -> str:
    """The stage that a file belongs to."""
    return next((name for name, prefixes in STAGES if module.startswith(prefixes)), REST)


def measure(world: World, pace: Pace) -> list[Table]:
    """The gateway under load, sampled."""
    folder = gateways.folder_of(world, "stages")
    config, samples, port = folder / "gateway.yaml", folder / "samples.json", free_port()
    config.write_text(yaml.safe_dump(gateways.configuration(world)))
    command = python("-m", "tests.bench.sampler", samples, "serve", "--config", config, "--port", port)
    with serving("gateway", command, port, folder) as server:
        entry = enter("gateway", server, gateways.recipe(world.token()), folder)
        entry.measure(1)
        found = [_round(entry, samples, pace.seconds) for _ in range(pace.rounds)]
    places: Counter[tuple[str, str]] = Counter()
    for _, counted in found:
        places += counted
    total = sum(places.values())
    say(f"  {total} samples")
    cost = Figure.of(cpu for cpu, _ in found)
    return [_by_stage(found, cost), _by_function(places, total, cost.median)]


def _round(entry: Entry, samples: Path, seconds: float) -> tuple[float, Counter[tuple[str, str]]]:
    """One turn: CPU for each call in microseconds, and the samples."""
    samples.unlink(missing_ok=True)
    os.kill(entry.server.pid, signal.SIGUSR1)
    turn = entry.measure(seconds)
    os.kill(entry.server.pid, signal.SIGUSR2)
    until = time.monotonic() + 10
    while not samples.exists():
        if time.monotonic() > until:
            raise CannotStart("the sampler wrote nothing")
        time.sleep(0.02)
    counts = {(module, function): count for module, function, count in json.loads(samples.read_text())}
    return turn.cpu_us, Counter(counts)


def _by_stage(found: list[tuple[float, Counter[tuple[str, str]]]], cost: Figure) -> Table:
    names = [name for name, _ in STAGES] + [REST]
    rows = []
    for name in names:
        shares = [
            sum(count for (module, _), count in counted.items() if stage_of(module) == name) / max(1, counted.total())
            for _, counted in found
        ]
        each = Figure.of(share * cpu for share, (cpu, _) in zip(shares, found, strict=True))
        rows.append((name, each, f"{Figure.of(shares).median:.1%}"))
    rows.append(("all", cost, "100%"))
    notes = (
        "Samples of CPU time, user and system, each counted for the innermost frame outside the standard library.",
    )
    return Table("Where the time of a call goes", ("stage", "CPU us/call", "share"), tuple(rows), notes)


def _by_function(places: Counter[tuple[str, str]], total: int, cost: float) -> Table:
    rows = tuple(
        (f"{module} {function}", count / total * cost, f"{count / total:.1%}")
        for (module, function), count in places.most_common(_TOP)
    )
    return Table("The functions that take most", ("function", "CPU us/call", "share"), rows)
