"""The gateway as it is shipped, in a process of its own: started, signalled, and asked what it holds."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.database.support import until
from tests.servers import tree
from tests.servers.local import HOST, Guardian, free_port

_ROOT: Final = Path(__file__).parents[2]
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_SERIES: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Held:
    """What the process holds at one moment.

    Attributes:
        descriptors: open file descriptors.
        tasks: of the event loop, by what runs in them.
        memory_mb: resident.
        connections: to each source.
    """

    descriptors: int
    tasks: Mapping[str, int]
    memory_mb: float
    connections: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where processes run, and how we reach them there.

    Attributes:
        prefix: words before each command.
        connector: arguments of aiohttp's.
        scheme: of the gateway's URL.
    """

    prefix: Sequence[str] = ()
    connector: Mapping[str, Any] = field(default_factory=dict)
    scheme: str = "http"


HERE: Final = Place()


class GatewayProcess:
    """One `gateway serve`.

    Args:
        folder: for its log.
        configuration: the file or folder that it serves.
        place: where it runs.
    """

    def __init__(self, folder: Path, configuration: Path, place: Place = HERE) -> None:
        self.folder = folder
        self.configuration = configuration
        self.place = place
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"{place.scheme}://{HOST}:{self.port}/mcp"
        self.admin_url = f"http://{HOST}:{self.admin_port}"
        self.log = folder / "gateway.log"
        self._tasks = folder / "tasks.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._guardian: Guardian | None = None

    def start(self, prefix: Sequence[str] = (), stderr: int | None = None) -> None:
        """Start it, without waiting.

        Args:
            prefix: words before the command, such as faketime's or prlimit's.
            stderr: a descriptor that takes the log instead of the file.
        """
        command = [*self.place.prefix, *prefix, sys.executable, "-m", "tests.faults.watched", self._tasks, "serve"]
        command += ["--config", self.configuration, "--port", self.port]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(map(str, command)),
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if stderr is None else stderr,
            )
        self._guardian = Guardian(self._process.pid)

    @property
    def pid(self) -> int:
        """The process; it has no children."""
        assert self._process is not None
        # Behind a prefix that starts instead of becoming it, ours is the last.
        return tree.descendants(self._process.pid)[-1]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def wait(self, seconds: float) -> int:
        """Wait until it ends; its exit status."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, seconds)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            tree.end(self._process.pid)
            self._process.wait(10)
            self._process = None
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None

    async def until_ready(self, seconds: float = 30.0, sources: bool = True) -> None:
        """Wait until it serves and, unless told otherwise, every source is up."""

        def is_ready(body: Mapping[str, Any]) -> bool:
            up = all(each["status"] == "up" for each in body["sources"].values())
            return body["status"] == "ready" and (up or not sources)

        await self.until_health(is_ready, seconds)

    async def until_health(self, condition: Callable[[Mapping[str, Any]], bool], seconds: float = 15.0) -> None:
        """Wait until `/healthz/ready` says so."""
        limit, last = time.monotonic() + seconds, "no answer"
        while time.monotonic() < limit:
            assert self.is_running, self.log.read_text()[-2000:]
            try:
                body = await self.health()
            except (aiohttp.ClientError, TimeoutError) as error:
                last = repr(error)
            else:
                if condition(body):
                    return
                last = json.dumps(body)
            await asyncio.sleep(0.02)
        raise AssertionError(f"it took too long: {last}")

    async def health(self) -> dict[str, Any]:
        """What `/healthz/ready` of the operators' listener says."""
        body: dict[str, Any] = json.loads(await self._get("/healthz/ready"))
        return body

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every series of `/metrics`, by name and labels."""
        found = {}
        for line in (await self._get("/metrics")).decode().splitlines():
            if match := _SERIES.match(line):
                found[match[1], frozenset(_LABEL.findall(match[2] or ""))] = float(match[3])
        return found

    async def total(self, name: str, by: str = "", **labels: str) -> Counter[str]:
        """The sum of a metric's series that have these labels, for each value of one label."""
        sums: Counter[str] = Counter()
        for (series, has), value in (await self.metrics()).items():
            if series == name and set(labels.items()) <= has:
                sums[dict(has).get(by, "")] += int(value)
        return sums

    async def _get(self, path: str) -> bytes:
        timeout = aiohttp.ClientTimeout(total=20)
        http = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(**self.place.connector))
        async with http, http.get(self.admin_url + path) as response:
            return await response.read()

    async def tasks(self) -> Mapping[str, int]:
        """How many tasks there are, by what runs in them."""
        self._tasks.unlink(missing_ok=True)
        self.signal(signal.SIGUSR1)
        await until(self._tasks.exists)
        found: dict[str, int] = json.loads(self._tasks.read_text())
        return found

    def descriptors(self) -> list[int]:
        """Its open file descriptors."""
        return [int(each.name) for each in (Path("/proc") / str(self.pid) / "fd").iterdir()]

    def memory(self, what: str) -> int:
        """Bytes by a field of proc(5), /proc/pid/status: VmData is what RLIMIT_DATA bounds, VmHWM the most resident."""
        status = (Path("/proc") / str(self.pid) / "status").read_text()
        [kilobytes] = re.findall(rf"^{what}:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kilobytes) * 1024

    async def held(self, connections: Mapping[str, int]) -> Held:
        """What it holds now, beside connections that others have counted."""
        root = Path("/proc") / str(self.pid)
        memory = int((root / "statm").read_text().split()[1]) * _PAGE / 1e6
        return Held(len(self.descriptors()), await self.tasks(), memory, dict(connections))
