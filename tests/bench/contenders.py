"""Servers that do the same work, each a process of its own on the core that is measured."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.bench import machine, wrk
from tests.servers import tree
from tests.servers.local import Guardian

MARKER: Final = "Customer "
"""What every good answer contains: the name in the row."""
_READY_WITHIN: Final = 60.0


class CannotStart(Exception):
    """A contender did not come up, or does not answer as it should."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The requests that a contender is sent.

    Attributes:
        headers: of each request.
        bodies: sent in turn.
        expected: what the answer to the first body contains.
    """

    headers: Mapping[str, str]
    bodies: Sequence[bytes]
    expected: bytes = b"Customer 1"


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's turn.

    Attributes:
        cpu_us: CPU time of the server, microseconds for each call.
        rate: calls a second.
        memory_mb: resident memory after the turn.
        load: what the generator saw.
    """

    cpu_us: float
    rate: float
    memory_mb: float
    load: wrk.Load


@dataclass
class Server:
    """A running contender."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def forget_log(self) -> None:
        """Empty the log: a line for each call would fill the disk."""
        with self.log.open("r+b") as log:
            log.truncate()

    def ask(self, recipe: Recipe) -> tuple[int, bytes]:
        """Send the recipe's first request; the status and the whole body."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        try:
            connection.request("POST", parts.path, recipe.bodies[0], dict(recipe.headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def check(self, recipe: Recipe, within: float = _READY_WITHIN) -> None:
        """Wait until the answer is right.

        Raises:
            CannotStart: it never was.
        """
        until = time.monotonic() + within
        last = "no answer"
        while time.monotonic() < until and self.process.poll() is None:
            try:
                status, body = self.ask(recipe)
            except (OSError, http.client.HTTPException) as error:
                last = repr(error)
            else:
                if status == 200 and recipe.expected in body:
                    return
                last = f"{status} {body[:500]!r}"
            time.sleep(0.05)
        raise CannotStart(f"{self.name}: {last}\n{self.log.read_text(errors='replace')[-800:]}")

    def refuses_strangers(self, recipe: Recipe) -> None:
        """See that a token is asked for: a stack that checks nothing would be compared with one that does.

        Raises:
            CannotStart: it answers without a token.
        """
        anonymous = {name: value for name, value in recipe.headers.items() if name != "Authorization"}
        status, _ = self.ask(replace(recipe, headers=anonymous))
        if status != 401:
            raise CannotStart(f"{self.name}: answers {status} without a token")


@contextmanager
def serving(
    name: str,
    command: Sequence[object],
    port: int,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    cores: Sequence[int] | None = None,
) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        name: what tables call it.
        command: listens on `port` of loopback and serves `/mcp`.
        port: where.
        folder: for its log.
        environment: added to ours.
        cores: those it may use; the measured one alone when absent.
    """
    log = folder / f"{name.replace(' ', '-').replace('/', '-')}-{port}.log"
    allowed = cores or (machine.cores()[0],)
    pinned = ["taskset", "-c", ",".join(map(str, allowed)), *map(str, command)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            pinned,
            env=os.environ | dict(environment or {}),
            cwd=machine.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    guardian = Guardian(process.pid)
    try:
        yield Server(name, f"http://127.0.0.1:{port}/mcp", process, log)
    finally:
        tree.end(process.pid)
        guardian.dismiss()
        process.wait(10)


@dataclass
class Entry:
    """A server and what it is sent, as one row of a table."""

    name: str
    server: Server
    recipe: Recipe
    requests: Path
    rounds: list[Round] = field(default_factory=list)

    def measure(self, seconds: float, connections: int = 16) -> Round:
        """One turn under load."""
        before, started = machine.cpu_seconds(self.server.pid), time.monotonic()
        load = wrk.drive(self.server.url, self.requests, MARKER, seconds, connections)
        used = machine.cpu_seconds(self.server.pid) - before
        if time.monotonic() - started < load.seconds / 2:
            raise wrk.BadAnswers(f"{self.name}: wrk's clock is not ours")
        self.server.forget_log()
        rate = load.calls / load.seconds
        return Round(used / load.calls * 1e6, rate, machine.resident_mb(self.server.pid), load)


def enter(name: str, server: Server, recipe: Recipe, folder: Path) -> Entry:
    """A row, once the server has answered its recipe rightly.

    Raises:
        CannotStart: it answers wrongly.
    """
    server.check(recipe)
    requests = folder / f"{len(list(folder.glob('*.requests')))}.requests"
    requests.write_bytes(wrk.prepared(server.url, recipe.headers, recipe.bodies))
    return Entry(name, server, recipe, requests)


def python(*arguments: object) -> list[object]:
    """A command of our own interpreter."""
    return [sys.executable, *arguments]
