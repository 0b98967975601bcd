"""Load at a fixed rate: requests leave when they are due, whether or not earlier ones were answered.

`python -m tests.bench.openloop PLAN` reads a plan (JSON) and prints what it saw (JSON). Latency counts from the
moment a request was due, so a server that stalls is not spared the requests that it kept from being sent.
Arrivals are those of many independent agents: exponential gaps, from a fixed seed.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any, Final

import uvloop

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MAX_CONNECTIONS: Final = 512
_PATIENCE: Final = 10.0
_SEED: Final = 20250728

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Agents:
    """Keep-alive connections to one server, and what came back on them.

    Args:
        port: of the server on loopback.
        marker: what every good answer contains.
    """

    def __init__(self, port: int, marker: bytes) -> None:
        self._port = port
        self._marker = marker
        self._idle: list[Streams] = []
        self._slots = asyncio.Semaphore(_MAX_CONNECTIONS)
        self.latencies: dict[str, list[float]] = {}
        self.errors: dict[str, int] = {}

    async def ask(self, kind: str, request: bytes, due: float) -> None:
        """One request: its latency, or what went wrong."""
        try:
            async with asyncio.timeout(_PATIENCE), self._slots:
                status, body = await self._exchange(request)
        except (OSError, EOFError, TimeoutError) as error:
            self._fail(type(error).__name__)
            return
        if status != b"200" or self._marker not in body:
            self._fail(f"{status.decode()} {body[:200].decode(errors='replace')}")
            return
        self.latencies.setdefault(kind, []).append((time.perf_counter() - due) * 1000)

    async def _exchange(self, request: bytes) -> tuple[bytes, bytes]:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        is_whole = False
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            is_whole = True
        finally:
            if is_whole:
                self._idle.append((reader, writer))
            else:
                writer.close()
        return head[9:12], body

    def _fail(self, reason: str) -> None:
        self.errors[reason] = self.errors.get(reason, 0) + 1

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


def _requests(name: str) -> list[bytes]:
    return Path(name).read_bytes().split(b"\0")[:-1]


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Send what the plan says; its keys are those of `tests.bench.flow.Flow`."""
    chance = random.Random(_SEED)
    files = {kind: _requests(name) for kind, name in plan["requests"].items()}
    kinds, weights = list(files), [plan["weights"][kind] for kind in files]
    servers = [Agents(port, plan["marker"].encode()) for port in plan["ports"]]
    started = due = time.perf_counter()
    until = started + plan["seconds"]
    late, cpu, tasks, count = 0.0, time.process_time(), set[asyncio.Task[None]](), 0
    while (due := due + chance.expovariate(plan["rate"])) < until:
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        late = max(late, time.perf_counter() - due)
        kind = chance.choices(kinds, weights)[0]
        agents = servers[count % len(servers)]
        task = asyncio.create_task(agents.ask(kind, files[kind][count % len(files[kind])], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        count += 1
    await asyncio.gather(*tasks)
    took = time.perf_counter() - started
    for agents in servers:
        agents.close()
    return {
        "latencies": [agents.latencies for agents in servers],
        "errors": [agents.errors for agents in servers],
        "seconds": took,
        "sent": count,
        "late_ms": late * 1000,
        "generator": (time.process_time() - cpu) / took,
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        print(json.dumps(loop.run(run(json.loads(Path(sys.argv[1]).read_text())))))
