"""HTTP by hand, for what no client would send."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

LIMIT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Wire:
    """One connection to the gateway."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send until the other end's buffers are full."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers with lower-case names, body."""
        async with asyncio.timeout(LIMIT):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split(" ")[1]), headers, body

    async def until_closed(self) -> bytes:
        """What still came before the other end closed or reset."""
        try:
            async with asyncio.timeout(LIMIT):
                return await self.reader.read()
        except ConnectionError:
            return b""


@asynccontextmanager
async def connect(url: str, context: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A connection to the host and port of a URL."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def post(body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """A POST of `/mcp`."""
    size = len(body) if length is None else length
    lines = ["POST /mcp HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {size}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body
