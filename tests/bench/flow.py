"""A flow of requests at a fixed rate to one server or several, and what it found."""

from __future__ import annotations

import json
import math
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import machine, wrk
from tests.bench.contenders import MARKER, Recipe, Server, python


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one flow saw.

    Attributes:
        latencies: milliseconds of every good answer, in order of size.
        errors: how often each failure happened.
        seconds: until the last answer.
        sent: requests.
        cpu_us: CPU of each server, microseconds for each of its calls.
        cores: CPU of all servers together, in cores.
        database_cores: CPU of PostgreSQL, in cores.
        generator: CPU of the generator, in cores.
        memory_mb: resident memory of the largest server afterwards.
    """

    latencies: Sequence[float]
    errors: Mapping[str, int]
    seconds: float
    sent: int
    cpu_us: Sequence[float]
    cores: float
    database_cores: float
    generator: float
    memory_mb: float

    def quantile(self, share: float) -> float:
        """The latency that this share of requests kept; infinite when nothing was answered."""
        if not self.latencies:
            return math.inf
        return self.latencies[min(len(self.latencies) - 1, math.ceil(share * len(self.latencies)) - 1)]

    @property
    def failed(self) -> int:
        """Requests that got no good answer."""
        return sum(self.errors.values())


@dataclass(frozen=True, slots=True)
class Flow:
    """What is sent.

    Attributes:
        recipes: the requests by kind.
        weights: how often each kind is sent, relative to the others.
        folder: for files.
    """

    recipes: Mapping[str, Recipe]
    weights: Mapping[str, float]
    folder: Path

    def send(self, servers: Sequence[Server], database: int, rate: float, seconds: float) -> Outcome:
        """Send at a rate, to all servers in turn.

        Args:
            servers: they share the load.
            database: the process of PostgreSQL, for accounting.
            rate: requests a second, all together.
            seconds: how long.
        """
        plan = self._plan(servers, rate, seconds)
        command = [str(word) for word in python("-m", "tests.bench.openloop", plan)]
        pids = [server.pid for server in servers]
        before = [machine.cpu_seconds(pid) for pid in (*pids, database)]
        result = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=False)
        used = [machine.cpu_seconds(pid) - first for pid, first in zip((*pids, database), before, strict=True)]
        if result.returncode:
            raise wrk.BadAnswers(f"the generator failed: {result.stderr[-1000:]}")
        for server in servers:
            server.forget_log()
        return _outcome(json.loads(result.stdout), used, max(machine.resident_mb(pid) for pid in pids))

    def _plan(self, servers: Sequence[Server], rate: float, seconds: float) -> Path:
        files = {}
        for kind, recipe in self.recipes.items():
            path = self.folder / f"{kind}.requests"
            path.write_bytes(wrk.prepared(servers[0].url, recipe.headers, recipe.bodies))
            files[kind] = str(path)
        plan = {
            "ports": [server.port for server in servers],
            "requests": files,
            "weights": dict(self.weights),
            "marker": MARKER,
            "rate": rate,
            "seconds": seconds,
        }
        path = self.folder / "plan.json"
        path.write_text(json.dumps(plan))
        return path


def _outcome(seen: Mapping[str, Any], used: Sequence[float], memory: float) -> Outcome:
    latencies = [[value for values in each.values() for value in values] for each in seen["latencies"]]
    errors = sum((Counter(each) for each in seen["errors"]), Counter[str]())
    seconds = seen["seconds"]
    return Outcome(
        sorted(value for each in latencies for value in each),
        errors,
        seconds,
        seen["sent"],
        [cpu / max(1, len(each)) * 1e6 for cpu, each in zip(used[:-1], latencies, strict=True)],
        sum(used[:-1]) / seconds,
        used[-1] / seconds,
        seen["generator"],
        memory,
    )
