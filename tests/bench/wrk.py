"""Load from wrk: as fast as a few keep-alive connections can, closed loop."""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.servers.programs import programs

_SCRIPT: Final = Path(__file__).with_name("load.lua")
_RESULT: Final = re.compile(r"RESULT ([\d ]+)\nSAMPLE (.*)")


class BadAnswers(Exception):
    """A server answered wrongly under load: there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run sent and saw.

    Attributes:
        calls: answered requests.
        seconds: how long it ran.
        p50, p95, p99, worst: latency in milliseconds, as wrk tells it.
        generator: how much of a core wrk itself used; near 1 it was the bottleneck.
    """

    calls: int
    seconds: float
    p50: float
    p95: float
    p99: float
    worst: float
    generator: float


def prepared(url: str, headers: Mapping[str, str], bodies: Sequence[bytes]) -> bytes:
    """The requests as the script reads them."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(lines)
    return b"".join(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body + b"\0" for body in bodies)


def drive(url: str, requests: Path, marker: str, seconds: float, connections: int = 16) -> Load:
    """Run wrk once.

    Args:
        requests: a file of `prepared` requests.
        marker: what every good answer contains.
        seconds: how long; wrk takes whole seconds.

    Raises:
        BadAnswers: an answer was not 200 with the marker, or a connection failed.
    """
    wrk = programs("wrk")["wrk"]
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", _SCRIPT]
    before = _used()
    result = subprocess.run(
        [*map(str, command), url, "--", str(requests), marker], capture_output=True, text=True, check=False
    )
    used = _used() - before
    found = _RESULT.search(result.stdout)
    if result.returncode or found is None:
        raise BadAnswers(f"wrk ended with {result.returncode}: {result.stdout[-1000:]}{result.stderr[-1000:]}")
    calls, duration, failures, broken, *latency = map(int, found[1].split())
    if failures or broken or not calls:
        raise BadAnswers(f"{url}: {failures} of {calls} answers were wrong, {broken} connections failed: {found[2]}")
    p50, p95, p99, worst = (value / 1000 for value in latency)
    return Load(calls, duration / 1e6, p50, p95, p99, worst, used / (duration / 1e6))


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
