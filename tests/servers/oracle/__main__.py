"""Runs the stand-in: `python -m tests.servers.oracle SETTINGS_AS_JSON`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
import threading
from typing import Any, Final

from tests.servers.oracle.dialogue import Dialogue
from tests.servers.oracle.faults import Faults

HOST: Final = "127.0.0.1"


def main(settings: dict[str, Any]) -> None:
    tls = settings.get("tls")
    context = _context(tls) if tls else None
    faults = Faults(context)
    with socket.create_server((HOST, 0 if context else settings["port"]), backlog=64) as listener:
        if context is not None:
            front = (settings["port"], context, listener.getsockname()[1])
            threading.Thread(target=lambda: asyncio.run(_encrypt(*front)), daemon=True).start()
        else:
            print("ready", flush=True)
        threading.Thread(target=_obey, args=(faults,), daemon=True).start()
        while True:
            raw, _ = listener.accept()
            threading.Thread(target=_serve, args=(raw, settings, faults), daemon=True).start()


def _obey(faults: Faults) -> None:
    """Take orders, a line of JSON each, and say when each is done."""
    for line in sys.stdin:
        faults.obey(json.loads(line))
        print("done", flush=True)


def _context(tls: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls["certificate"], tls["key"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if tls.get("max_version") == "1.2" else ssl.TLSVersion.TLSv1_3
    if tls.get("ca"):
        context.load_verify_locations(tls["ca"])
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _encrypt(port: int, context: ssl.SSLContext, target: int) -> None:
    """TLS in front: the threads behind must not share a TLS object."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(HOST, target)
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        except OSError:
            writer.close()

    server = await asyncio.start_server(forward, HOST, port, ssl=context)
    print("ready", flush=True)
    await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionResetError:
        writer.transport.abort()
    finally:
        writer.close()


def _serve(raw: socket.socket, settings: dict[str, Any], faults: Faults) -> None:
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    faults.opened(raw)
    with contextlib.suppress(OSError), raw:
        try:
            Dialogue(raw, settings, faults).run()
        finally:
            faults.closed(raw)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
