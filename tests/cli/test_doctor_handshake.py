"""The handshake against servers that say anything: it always ends in time, with words and a next step."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.doctor.handshake import Opening, Security, mysql_opening, postgresql_opening, shake
from gateway.cli.doctor.network import Address, Endpoint
from gateway.cli.doctor.path import trusting
from gateway.cli.doctor.report import Outcome, Step

LIMIT = 0.3
PATIENCE = 10.0
OPENINGS: dict[str, Opening | None] = {"web": None, "postgresql": postgresql_opening, "mysql": mysql_opening}
GREETING = b"\x0a" + b"8.0.36\0" + bytes(4) + bytes(8) + b"\0"


def packet(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


@asynccontextmanager
async def saying(words: bytes, *, hangs: bool) -> AsyncIterator[Address]:
    """A server that says something, and then hangs up or keeps the line."""
    over = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        if hangs:
            await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Address(socket.AF_INET, server.sockets[0].getsockname())
    finally:
        over.set()
        server.close()
        await server.wait_closed()


async def told(opening: str, words: bytes, *, hangs: bool) -> Step:
    limit = LIMIT if hangs else PATIENCE
    security = Security(trusting(None, "ca"), "db.test", "ca", "", OPENINGS[opening])
    async with saying(words, hangs=hangs) as address:
        return await shake(Endpoint("db.test", address.place[1], "database"), address, security, limit)


@given(
    opening=st.sampled_from(list(OPENINGS)),
    words=st.one_of(
        st.binary(max_size=64),
        st.binary(max_size=64).map(packet),
        st.binary(max_size=24).map(lambda rest: packet(GREETING + rest)),
        st.binary(max_size=64).map(lambda rest: b"S" + rest),
        st.binary(max_size=16).map(lambda rest: b"\x16\x03\x03" + rest),
    ),
)
def test_any_words_end_in_a_verdict(opening: str, words: bytes) -> None:
    started = time.monotonic()
    step = asyncio.run(told(opening, words, hangs=False))
    assert step.outcome is Outcome.FAILED
    assert step.text
    assert step.advice
    assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize(
    ("opening", "words", "text"),
    [
        ("postgresql", b"N", "the server offers no TLS"),
        ("postgresql", b"E", "the server does not speak PostgreSQL's protocol"),
        ("mysql", packet(GREETING + b"\xff\xf7"), "the server offers no TLS"),
        ("mysql", packet(b"\x09old\0"), "the server does not speak MySQL's protocol"),
        ("mysql", b"\xff\xff\xff\0", "the server does not speak MySQL's protocol"),
        ("mysql", packet(b"\xff\x10\x04Too many connections"), "[1040] Too many connections"),
        ("mysql", b"", "the database closed the connection during the handshake"),
        ("web", b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server does not answer in TLS"),
    ],
)
async def test_what_servers_say(opening: str, words: bytes, text: str) -> None:
    step = await told(opening, words, hangs=False)
    assert step.outcome is Outcome.FAILED
    assert text in step.text


@pytest.mark.parametrize(
    ("opening", "words"),
    [
        *((opening, b"") for opening in OPENINGS),
        ("web", b"\x16"),
        ("postgresql", b"S"),
        ("postgresql", b"S\x16\x03"),
        ("mysql", packet(GREETING)[:9]),
        ("mysql", packet(GREETING + b"\xff\xff")),
    ],
)
async def test_whoever_stops_in_the_middle_is_late(opening: str, words: bytes) -> None:
    step = await told(opening, words, hangs=True)
    assert (step.outcome, step.text) == (Outcome.TIMED_OUT, f"no handshake within {LIMIT:g} s")
    assert step.advice.startswith("The port takes connections, but nobody speaks there")
