"""`gateway serve` as a process of its own: SIGHUP, changed files, and two processes on one port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.sample import make_shop
from tests.servers.local import free_port
from tests.tally import Tally

TEXT = """
server: {{port: {port}, reuse_port: true}}
admin: {{port: 0}}
auth: {{mode: none}}
limits: {{requests_per_minute: 1000000, burst: 100000}}
sources:
  shop: {{engine: sqlite, path: ./shop.sqlite, pool: {{min: 1, max: 2}}}}
tools:
  note: {{description: A note., source: shop, statement: "select {number} as number"}}
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


class Served:
    """One process, and what it logged."""

    def __init__(self, folder: Path, name: str) -> None:
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(folder / "gateway.yaml")]
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=stream, stderr=stream)

    def records(self, message: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if line["event"].startswith(message)]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0


@contextmanager
def served(folder: Path, name: str = "one") -> Iterator[Served]:
    process = Served(folder, name)
    try:
        until(lambda: bool(process.records("source shop is up")) and bool(process.records("serving")))
        yield process
    finally:
        process.process.kill()
        process.process.wait()


@pytest.fixture
def port(tmp_path: Path) -> int:
    make_shop(tmp_path / "shop.sqlite")
    port = free_port()
    (tmp_path / "gateway.yaml").write_text(TEXT.format(port=port, number=0))
    return port


def call(port: int) -> int:
    """A call on a connection of its own."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "note", "arguments": {}}}
    headers = {"Content-Type": "application/json", "Accept": "application/json", "MCP-Protocol-Version": "2025-11-25"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/mcp", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        number = json.load(response)["result"]["structuredContent"]["rows"][0]["number"]
    assert isinstance(number, int)
    return number


def test_sighup_and_changed_files(tmp_path: Path, port: int) -> None:
    path = tmp_path / "gateway.yaml"
    with served(tmp_path) as one:
        assert call(port) == 0
        one.process.send_signal(signal.SIGHUP)
        until(lambda: bool(one.records("configuration read again: no change")))
        path.write_text(TEXT.format(port=port, number=1))
        until(lambda: bool(one.records("configuration reloaded")))
        assert call(port) == 1
        path.write_text(TEXT.format(port=port, number=2).replace("tools:", "tolls:"))
        one.process.send_signal(signal.SIGHUP)
        until(lambda: bool(one.records("the configuration stays as it was")))
        (told,) = one.records("the configuration stays as it was")
        assert told["level"] == "error"
        assert f"{path}:8: tolls: unknown key" in told["event"]
        assert call(port) == 1
        path.write_text(TEXT.format(port=port + 1, number=3))
        one.process.send_signal(signal.SIGHUP)
        until(lambda: bool(one.records("a restart is needed")))
        assert "server.port" in one.records("a restart is needed")[0]["event"]
        assert call(port) == 3
        one.stop()
    assert not one.records("an old configuration did not close cleanly")


def test_two_processes_on_one_port(tmp_path: Path, port: int) -> None:
    with ExitStack() as stack:
        both = [stack.enter_context(served(tmp_path, name)) for name in ("one", "two")]
        until(lambda: [call(port)] == [0] and all(each.records("request") for each in both))
        both[0].stop()
        assert [call(port) for _ in range(20)] == [0] * 20
        both[1].stop()


def test_many_reloads_leave_memory_and_descriptors_as_they_were(tmp_path: Path, port: int, tally: Tally) -> None:
    rounds = int(os.environ.get("GATEWAY_TEST_ROUNDS", "50"))
    with served(tmp_path) as one:
        for number in range(1, 21):
            _reload(one, tmp_path, port, number)
        before = _held(one.process.pid)
        for number in range(21, 21 + rounds):
            _reload(one, tmp_path, port, number)
        until(lambda: _held(one.process.pid)["descriptors"] <= before["descriptors"] + 2)
        until(lambda: _held(one.process.pid)["threads"] <= before["threads"] + 2)
        after = _held(one.process.pid)
        assert after["kilobytes"] < before["kilobytes"] + 6000
        one.stop()
    tally(f"{rounds} reloads; before {before}, after {after}")


def _reload(one: Served, folder: Path, port: int, number: int) -> None:
    """Another statement, and another pool."""
    text = TEXT.format(port=port, number=number).replace("max: 2", f"max: {2 + number % 2}")
    (folder / "gateway.yaml").write_text(text)
    one.process.send_signal(signal.SIGHUP)
    until(lambda: call(port) == number)


def _held(process: int) -> dict[str, int]:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    values = {line.partition(":")[0]: line.split()[1] for line in status if len(line.split()) > 1}
    descriptors = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return {"kilobytes": int(values["VmRSS"]), "threads": int(values["Threads"]), "descriptors": descriptors}
