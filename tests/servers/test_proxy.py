"""The fault proxy makes exactly the fault that a test asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.servers.proxy import FaultProxy, fault_proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server that sends everything back."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, fault_proxy(*server.sockets[0].getsockname()) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Streams]:
    """A connection through the proxy."""
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    yield reader, writer
    writer.close()


async def ask(client: Streams, data: bytes = b"hello") -> bytes:
    client[1].write(data)
    return await asyncio.wait_for(client[0].readexactly(len(data)), 5)


async def ask_anew(proxy: FaultProxy) -> bytes:
    client = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        return await ask(client)
    finally:
        client[1].close()


async def is_silent(client: Streams) -> bool:
    try:
        await asyncio.wait_for(client[0].read(1), 0.15)
    except TimeoutError:
        return True
    return False


async def test_it_forwards_and_counts(proxy: FaultProxy, client: Streams) -> None:
    assert await ask(client, b"x" * 300_000) == b"x" * 300_000
    assert (proxy.accepted, proxy.connections) == (1, 1)
    assert proxy.up.passed == proxy.down.passed == 300_000


async def test_a_stall_keeps_what_was_sent_until_it_ends(proxy: FaultProxy, client: Streams) -> None:
    await ask(client)
    proxy.stall()
    client[1].write(b"later")
    assert await is_silent(client)
    await proxy.heal()
    assert await asyncio.wait_for(client[0].readexactly(5), 5) == b"later"


async def test_swallowed_bytes_never_arrive(proxy: FaultProxy, client: Streams) -> None:
    await ask(client)
    proxy.down.swallows = True
    client[1].write(b"lost")
    assert await is_silent(client)
    assert proxy.up.passed == 9
    await proxy.heal()
    assert await ask(client, b"again") == b"again"


async def test_a_reset_is_seen_as_one(proxy: FaultProxy, client: Streams) -> None:
    await ask(client)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(client[0].read(1), 5)
    assert await ask_anew(proxy) == b"hello"


async def test_refusal_ends_with_the_same_port_and_spares_open_connections(proxy: FaultProxy, client: Streams) -> None:
    await ask(client)
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.host, proxy.port)
    assert await ask(client) == b"hello"
    await proxy.heal()
    assert await ask_anew(proxy) == b"hello"


async def test_a_delay_holds_each_chunk_back(proxy: FaultProxy, client: Streams) -> None:
    await ask(client)
    proxy.up.delay = 0.1
    started = time.monotonic()
    assert await ask(client) == b"hello"
    assert time.monotonic() - started >= 0.1


async def test_a_rate_holds_back_by_length(proxy: FaultProxy, client: Streams) -> None:
    await ask(client)
    proxy.up.rate = 50.0
    started = time.monotonic()
    assert await ask(client) == b"hello"
    assert time.monotonic() - started >= 0.1


async def test_forgotten_connections_are_silent_and_new_ones_pass(proxy: FaultProxy, client: Streams) -> None:
    await ask(client)
    proxy.forget()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(client), 0.1)
    assert await ask_anew(proxy) == b"hello"


async def test_new_connections_go_to_another_target(proxy: FaultProxy, client: Streams) -> None:
    async with fault_proxy(proxy.host, proxy.port) as front:
        assert await ask_anew(front) == b"hello"
        front.retarget(proxy.host, 1)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await ask_anew(front)


@pytest.mark.parametrize("after", [0, 1, 7])
async def test_a_cut_passes_exactly_so_many_bytes(proxy: FaultProxy, client: Streams, after: int) -> None:
    await ask(client)
    proxy.up.cut(after)
    client[1].write(b"0123456789")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(client[0].readexactly(10), 5)
    assert proxy.up.passed == 5 + after
    assert await ask_anew(proxy) == b"hello"


async def test_a_server_that_is_gone_is_a_reset(proxy: FaultProxy) -> None:
    async with fault_proxy("127.0.0.1", 1) as nowhere:
        reader, writer = await asyncio.open_connection(nowhere.host, nowhere.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)
        writer.close()
    assert nowhere.connections == 0
