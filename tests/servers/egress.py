"""An egress proxy of the tests' own: CONNECT for those who may, to hosts that only it can resolve."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from tests.servers.local import HOST

_ENOUGH: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class EgressProxy:
    """Carries bytes between clients and the few hosts that it knows.

    Args:
        hosts: "name:port" -> the port on this machine where that is served.
        user: with the password, who may use it; "" for everybody.
        password: of that user.

    Attributes:
        asked: each CONNECT, as "name:port status".
    """

    def __init__(self, hosts: Mapping[str, int], user: str = "", password: str = "") -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        self.port = 0
        self._wanted = base64.b64encode(f"{user}:{password}".encode()) if user else b""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *headers = head.rstrip().split("\r\n")
            method, place, _ = line.split()
            status = self._judge(method, place, headers)
            self.asked.append(f"{place} {status}")
            if status != 200:
                challenge = "Proxy-Authenticate: Basic\r\n" if status == 407 else ""
                writer.write(f"HTTP/1.1 {status} No\r\n{challenge}Content-Length: 0\r\n\r\n".encode())
                return
            there = await asyncio.open_connection(HOST, self.hosts[place])
            writer.write(_ENOUGH)
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    def _judge(self, method: str, place: str, headers: list[str]) -> int:
        if method != "CONNECT":
            return 405
        if self._wanted and f"Proxy-Authorization: Basic {self._wanted.decode()}" not in headers:
            return 407
        return 200 if place in self.hosts else 403


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
