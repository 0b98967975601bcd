"""Several hosts, of which some are down, silent or of the wrong kind; and hosts that are folders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.sources import PostgresqlSettings
from gateway.database.postgresql_hosts import addresses, connect_to_first
from gateway.errors import Code, ToolError
from tests.database.support import reached, run, started, statement, until
from tests.servers.local import HOST, free_port
from tests.servers.postgresql import PostgresqlServer, running_postgresql


@pytest.fixture(scope="module")
def read_only() -> Iterator[PostgresqlServer]:
    """A server whose transactions are read-only unless they say otherwise."""
    with running_postgresql("-c default_transaction_read_only=on") as server:
        yield server


@pytest.fixture(scope="module")
def standby() -> Iterator[PostgresqlServer]:
    """A server in recovery, without a primary to follow."""
    with running_postgresql() as server:
        server.stop("fast")
        (server.folder / "data" / "standby.signal").touch()
        server.start()
        yield server


def several(*servers: PostgresqlServer | int, **overrides: Any) -> PostgresqlSettings:
    """Settings with these servers, or these ports of nobody, as hosts."""
    real = next(server for server in servers if isinstance(server, PostgresqlServer))
    ports = [server if isinstance(server, int) else server.port for server in servers]
    hosts = [{"host": HOST, "port": port} for port in ports]
    return real.settings(**({"host": None, "port": 5432, "hosts": hosts} | overrides))


async def port_of(settings: PostgresqlSettings) -> int:
    """Where a source ends up."""
    async with reached(settings) as source:
        table = await run(source, statement(source.engine, "select inet_server_port() as port"))
        port: int = table.rows[0][0]
        return port


async def test_a_host_that_is_down_is_passed_over(postgresql: PostgresqlServer) -> None:
    assert await port_of(several(free_port(), postgresql)) == postgresql.port
    assert await port_of(several(postgresql, free_port())) == postgresql.port


async def test_the_host_is_of_the_kind_that_is_wanted(
    postgresql: PostgresqlServer, read_only: PostgresqlServer, standby: PostgresqlServer
) -> None:
    def wanted(kind: str, *servers: PostgresqlServer) -> PostgresqlSettings:
        return several(*servers, target_session_attrs=kind)

    assert await port_of(wanted("read-write", read_only, standby, postgresql)) == postgresql.port
    assert await port_of(wanted("read-only", postgresql, read_only)) == read_only.port
    assert await port_of(wanted("primary", standby, read_only)) == read_only.port
    assert await port_of(wanted("standby", postgresql, standby)) == standby.port
    assert await port_of(wanted("prefer-standby", postgresql, standby)) == standby.port
    assert await port_of(wanted("prefer-standby", postgresql, read_only)) == postgresql.port
    assert await port_of(wanted("any", read_only, postgresql)) == read_only.port


async def test_when_no_host_will_do_each_is_named(read_only: PostgresqlServer) -> None:
    dead = free_port()
    async with started(several(dead, read_only, target_session_attrs="read-write")) as source:
        await until(lambda: "no host will do" in source.trouble)
        for part in (f"{HOST}:{dead}", "ConnectionRefusedError", f"{HOST}:{read_only.port}", "TargetServerAttribute"):
            assert part in source.trouble
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, "select 1 as one"))
        assert caught.value.code is Code.SOURCE_UNAVAILABLE
        assert HOST not in caught.value.message


async def test_a_refused_login_is_final(postgresql: PostgresqlServer) -> None:
    settings = several(postgresql, free_port(), user="nobody")
    async with started(settings) as source:
        await until(lambda: source.trouble.startswith("login_failed"))


async def test_a_silent_host_costs_its_share_of_the_time(postgresql: PostgresqlServer) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(swallow, HOST, 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        began = time.monotonic()
        settings = several(port, postgresql, connect_timeout="2s", pool={"acquire_timeout": "5s"})
        assert await port_of(settings) == postgresql.port
        assert 0.9 < time.monotonic() - began < 2.0


async def test_a_source_moves_to_the_host_that_is_left(own_postgresql: PostgresqlServer) -> None:
    with running_postgresql() as other:
        async with reached(several(own_postgresql, other, pool={"min": 2, "max": 2})) as source:
            item = statement(source.engine, "select inet_server_port() as port")
            assert (await run(source, item)).rows[0][0] == own_postgresql.port
            own_postgresql.stop()
            await until(lambda: source.stats.idle == 2 and source.is_up)
            async with asyncio.timeout(10):
                while True:
                    try:
                        port = (await run(source, item)).rows[0][0]
                    except ToolError:
                        continue
                    break
            assert port == other.port
        own_postgresql.start()


async def test_a_folder_is_a_unix_socket(own_postgresql: PostgresqlServer) -> None:
    async with reached(own_postgresql.settings(host=str(own_postgresql.folder))) as source:
        table = await run(source, statement(source.engine, "select inet_server_port() is null as is_local"))
        assert table.rows[0][0] is True


def test_addresses_of_either_form() -> None:
    values = {"engine": "postgresql", "database": "d", "user": "u"}
    one = PostgresqlSettings.model_validate(values | {"host": "a", "port": 1})
    many = PostgresqlSettings.model_validate(values | {"hosts": ({"host": "a"}, {"host": "b", "port": 2})})
    assert addresses(one) == (("a", 1),)
    assert addresses(many) == (("a", 5432), ("b", 2))


async def test_the_only_host_has_all_the_time_and_its_own_error(tmp_path: Path) -> None:
    settings = PostgresqlSettings.model_validate(
        {"engine": "postgresql", "database": "d", "user": "u", "host": "a", "connect_timeout": "4s"}
    )
    seen: list[tuple[tuple[str, int], str, float]] = []

    async def connect(address: tuple[str, int], kind: str, limit: float) -> None:
        seen.append((address, kind, limit))
        raise ConnectionRefusedError("no")

    with pytest.raises(ConnectionRefusedError):
        await connect_to_first(settings, connect)
    assert seen == [(("a", 5432), "any", 4.0)]
