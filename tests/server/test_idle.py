"""Thousands of silent clients at once, against a gateway in a process of its own: what each costs, and hears."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from gateway.demo.identity import IdentityProvider
from gateway.demo.sample import make_shop
from gateway.server import listen
from gateway.server.events import SETTLE
from tests.server.streams import HELLO
from tests.tally import Tally
from tests.world import AUDIENCE, CLIENTS, CONFIGURATION, envelope, routing

ROUNDS = int(os.environ.get("GATEWAY_TEST_ROUNDS", "50"))
WANTED: Final = 100 * min(ROUNDS, 50)
MOST_BYTES: Final = 10_000
"""Of the gateway's memory for each silent stream; about half of it is used."""
PATIENCE: Final = 60.0
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_AT_ONCE: Final = 500
_RESERVED: Final = 1500
_WARM: Final = 50
MANY: Final = (
    CONFIGURATION.replace("port: 0}", "port: 0, max_connections: 20000}", 1).replace(
        "limits: {", "limits: {listeners_per_caller: 10000, max_listeners: 10000, "
    )
    + "  TOOL: {description: More or less., source: shop, statement: select 1 as one}\n"
    "features: {sessions: true, max_sessions: 10000, max_sessions_per_client: 10000}\n"
    "telemetry: {logs: {sample: 0}}\n"
)


def _files() -> int:
    """How many clients of each kind fit into the files that a process may open, here and in the gateway."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return WANTED if most == resource.RLIM_INFINITY else min(WANTED, (most - _RESERVED) // 2)


@dataclass
class Served:
    """A running `gateway serve`, as its clients see it."""

    process: subprocess.Popen[bytes]
    configuration: Path
    log: Path
    address: tuple[str, int]
    token: str

    @property
    def resident(self) -> int:
        """Bytes in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE

    def until_logged(self, words: str, times: int = 1) -> None:
        end = time.monotonic() + PATIENCE
        while self.log.read_text().count(words) < times:
            assert time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def request(self, method: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> bytes:
        raw = json.dumps(body).encode() if body is not None else b""
        sent = {
            "Host": "127.0.0.1",
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Content-Length": str(len(raw)),
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        return f"{method} /mcp HTTP/1.1\r\n{head}\r\n".encode() + raw

    def connect(self, stack: ExitStack) -> Client:
        return Client(stack.enter_context(socket.create_connection(self.address, PATIENCE)))


class Client:
    """One connection, read by hand."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard = b""

    def until(self, words: bytes) -> bytes:
        """Read on until this has come; everything that was not looked at before."""
        while words not in self.heard:
            data = self.connection.recv(65536)
            assert data, self.heard
            self.heard += data
        heard, self.heard = self.heard, b""
        return heard

    def rest(self) -> bytes:
        """Everything up to the end."""
        while data := self.connection.recv(65536):
            self.heard += data
        return self.heard


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    database, path, log = folder / "shop.sqlite", folder / "gateway.yaml", folder / "log"
    make_shop(database)
    path.write_text(MANY.replace("TOOL", "more"))
    async with IdentityProvider(clients=CLIENTS, audience=AUDIENCE) as provider:
        process = _start(path, log, ISSUER=provider.issuer, DATABASE=str(database))
        try:
            gateway = Served(process, path, log, ("127.0.0.1", 0), provider.issue("reader", lifetime=3600))
            for words in ('"serving"', "source shop is up", "source shop_rw is up", "issuer"):
                await asyncio.to_thread(gateway.until_logged, words)
            if found := re.search(r'"url": ?"http://127\.0\.0\.1:([0-9]+)/mcp"', log.read_text()):
                gateway.address = ("127.0.0.1", int(found[1]))
            yield gateway
        finally:
            process.kill()
            process.wait()


def _start(path: Path, log: Path, **variables: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(path)]
    with log.open("wb") as stream:
        return subprocess.Popen(command, env=os.environ | variables, stderr=stream)


def _open(gateway: Served, requests: list[bytes], words: bytes, stack: ExitStack) -> list[Client]:
    """A connection for each request, which is answered with these words and stays open."""
    clients: list[Client] = []
    for start in range(0, len(requests), _AT_ONCE):
        some = [gateway.connect(stack) for _ in requests[start : start + _AT_ONCE]]
        for client, request in zip(some, requests[start:], strict=False):
            client.connection.sendall(request)
        for client in some:
            client.until(words)
        clients += some
    return clients


def _listeners(gateway: Served, count: int, stack: ExitStack) -> list[Client]:
    body = envelope(listen.METHOD, {"notifications": {"toolsListChanged": True}})
    return _open(gateway, [gateway.request("POST", body, routing(body))] * count, b"acknowledged", stack)


def _sessions(gateway: Served, count: int) -> list[str]:
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
    with ExitStack() as stack:
        client, found = gateway.connect(stack), []
        for _ in range(count):
            client.connection.sendall(gateway.request("POST", hello, {}))
            found.append(re.search(rb"Mcp-Session-Id: (\S+)", client.until(b"serverInfo")))
    return [match[1].decode() for match in found if match]


def _streams(gateway: Served, sessions: list[str], stack: ExitStack) -> list[Client]:
    version = {"MCP-Protocol-Version": str(HELLO["protocolVersion"])}
    requests = [gateway.request("GET", None, {"Mcp-Session-Id": each, **version}) for each in sessions]
    return _open(gateway, requests, b"retry:", stack)


def _settle(gateway: Served) -> None:
    """Wait until everything was told that a start has to tell: what the tools' results look like."""
    body = envelope("tools/list")
    with ExitStack() as stack:
        client = gateway.connect(stack)
        while True:
            client.connection.sendall(gateway.request("POST", body, routing(body)))
            tools = client.until(b"ttlMs")
            if tools.count(b"outputSchema") == tools.count(b"inputSchema"):
                break
    time.sleep(5 * SETTLE)


def _play(gateway: Served, count: int, tally: Tally) -> None:
    _settle(gateway)
    with ExitStack() as stack:
        # What the first of all costs is no client's.
        warm = [*_listeners(gateway, _WARM, stack), *_streams(gateway, _sessions(gateway, _WARM), stack)]
        sizes = [gateway.resident]
        listeners = _listeners(gateway, count, stack)
        sizes.append(gateway.resident)
        sessions = _sessions(gateway, count)
        streams = _streams(gateway, sessions, stack)
        sizes.append(gateway.resident)
        listener, session = ((after - before) / count for before, after in pairwise(sizes))
        tally(
            f"{count} listeners and {count} sessions with an open stream, all at once: {listener:.0f} bytes for each "
            f"listener, {session:.0f} for each session; {sizes[-1] / 1e6:.0f} MB in all"
        )
        assert len(sessions) == count
        assert max(listener, session) < MOST_BYTES
        _reload_twice(gateway)
        listeners += warm[:_WARM]
        streams += warm[_WARM:]
        for client in [*listeners, *streams]:
            assert client.until(b"list_changed").count(b"list_changed") == 1
        gateway.process.send_signal(signal.SIGTERM)
        for client in [*listeners, *streams]:
            assert b"list_changed" not in client.rest()
        assert all(b'"mcp-database-gateway/ended":"shutdown"' in client.heard for client in listeners)
        assert gateway.process.wait(PATIENCE) == 0


def _reload_twice(gateway: Served) -> None:
    """One reload that changes no tool and is told to nobody, and one that does."""
    for number, text in enumerate((MANY.replace("TOOL", "more").replace("burst: 10000", "burst: 9999", 1), MANY), 1):
        gateway.configuration.write_text(text.replace("TOOL", "less"))
        gateway.process.send_signal(signal.SIGHUP)
        gateway.until_logged("configuration reloaded", number)


async def test_thousands_of_silent_clients_are_cheap_and_hear_of_each_change_once(tmp_path: Path, tally: Tally) -> None:
    async with served(tmp_path) as gateway:
        await asyncio.to_thread(_play, gateway, _files(), tally)
