"""The machine: its facts, its cores, and what a process has used of them. Linux only."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.servers import tree

ROOT: Final = Path(__file__).parents[2]
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_LIBRARIES: Final = ("aiohttp", "asyncpg", "mcp", "orjson", "pydantic", "uvloop")


@cache
def cores() -> tuple[int, tuple[int, ...]]:
    """The core of the server that is measured, and those of everything else; they share where there is only one."""
    first, *rest = sorted(os.sched_getaffinity(0))
    return first, tuple(rest) or (first,)


def step_aside() -> None:
    """Leave the server's core to the server; what this process starts inherits that."""
    os.sched_setaffinity(0, cores()[1])


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its descendants since they began, user and system."""
    return sum(_ticks(member) for member in tree.descendants(pid)) / _TICK


def _ticks(pid: int) -> int:
    try:
        fields = tree.stat(Path("/proc") / str(pid))
    except FileNotFoundError:
        return 0
    # utime, stime, and those of children that were waited for (proc(5), fields 14 to 17)
    return sum(map(int, fields[11:15]))


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, in MB; pages that they share count for each."""
    total = 0
    for member in tree.descendants(pid):
        try:
            total += int((Path("/proc") / str(member) / "statm").read_text().split()[1])
        except FileNotFoundError:
            continue
    return total * _PAGE / 1e6


def facts() -> dict[str, Any]:
    """What a reader needs to know to compare."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    server, others = cores()
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": {"all": len({server, *others}), "server": server, "others": others},
        "memory_gb": round(int(memory[1]) / 1e6, 1) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "load_before": os.getloadavg()[0],
        "revision": _revision(),
    }


def _revision() -> str:
    command = ["git", "-c", "safe.directory=*", "describe", "--always", "--dirty"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
