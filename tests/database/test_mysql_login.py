"""A server that asks for the password in the clear, on a link that anybody can read."""

from __future__ import annotations

import asyncio
import struct

import pytest
from pymysql.constants import CLIENT

from gateway.config.sources import MysqlSettings
from gateway.database.sources import build_engine
from gateway.errors import Code, ToolError

CAPABILITIES = CLIENT.PROTOCOL_41 | CLIENT.SECURE_CONNECTION | CLIENT.PLUGIN_AUTH | CLIENT.CONNECT_WITH_DB
GREETING = (
    b"\x0a8.4.0\0"
    + struct.pack("<I", 1)
    + b"saltsalt\0"
    + struct.pack("<HBHHB", CAPABILITIES & 0xFFFF, 45, 2, CAPABILITIES >> 16, 21)
    + bytes(10)
    + b"saltsaltsalt\0"
    + b"mysql_native_password\0"
)


def packet(payload: bytes, number: int) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"mysql_old_password"])
async def test_a_password_never_goes_in_the_clear(plugin: bytes) -> None:
    received = bytearray()
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(packet(GREETING, 0))
        received.extend(await reader.read(4096))
        writer.write(packet(b"\xfe" + plugin + b"\0saltsalt", 2))
        received.extend(await reader.read(4096))
        writer.close()
        is_over.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        settings = MysqlSettings.model_validate(
            {
                "engine": "mysql",
                "host": "127.0.0.1",
                "port": listener.sockets[0].getsockname()[1],
                "database": "shop",
                "user": "gateway",
                "password": "open-sesame",
            },
            strict=False,
        )
        with pytest.raises(ToolError) as caught:
            await build_engine(settings, "login").connect()
        await is_over.wait()
    assert caught.value.code is Code.LOGIN_FAILED
    assert "unencrypted" in caught.value.detail
    assert b"gateway" in received
    assert b"open-sesame" not in received
