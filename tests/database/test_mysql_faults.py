"""MariaDB that is killed, stopped, frozen, absent; and callers that leave at any moment."""

from __future__ import annotations

import asyncio
import random
import signal
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymysql.constants.ER import NO_SUCH_THREAD
from pymysql.err import OperationalError

from gateway.database.engine import Statement
from gateway.database.sources import Source, build_engine
from gateway.errors import Code, ToolError
from tests.database.support import ROUNDS, reached, run, started, statement, until
from tests.servers.mariadb import MariadbServer
from tests.tally import Tally

OURS = "from information_schema.processlist where user = 'gateway'"
ENDLESS = "select count(*) as n from seq_1_to_1000000000000 where seq % 7 < 9"


@pytest.fixture
async def server(mariadb: MariadbServer) -> MariadbServer:
    return await with_account(mariadb)


@pytest.fixture
async def own(own_mariadb: MariadbServer) -> MariadbServer:
    return await with_account(own_mariadb)


async def with_account(server: MariadbServer) -> MariadbServer:
    """An account of the gateway's own, so that its sessions can be told from the tests'."""
    await server.execute(
        "create or replace user gateway@'%' identified by 'geheim-ü€'", "grant all on *.* to gateway@'%'"
    )
    return server


def settings(server: MariadbServer, **overrides: Any) -> Any:
    return server.settings(user="gateway", password="geheim-ü€", **overrides)


async def sessions(server: MariadbServer, where: str = "true") -> int:
    return int((await server.execute(f"select count(*) {OURS} and {where}"))[0][0])


async def until_true(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - a condition in another process has no event
            await asyncio.sleep(0.01)


async def one(source: Source) -> int:
    rows = (await run(source, statement(source.engine, "select 1 as n", name="one"))).rows
    return int(rows[0][0])


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_caller_who_leaves_stops_the_query(server: MariadbServer, how: str) -> None:
    async with reached(settings(server, pool={"min": 1, "max": 1})) as source:
        slow = statement(source.engine, ENDLESS)
        task = asyncio.create_task(run(source, slow, seconds=0.5 if how == "deadline" else 30))
        await until_true(lambda: is_at(server, "info like '%1000000000000%'", 1))
        if how == "cancel":
            task.cancel()
        with pytest.raises((asyncio.CancelledError, ToolError)):
            await task
        left = time.monotonic()
        await until_true(lambda: is_at(server, "info like '%1000000000000%'", 0))
        assert time.monotonic() - left < 1.0
        assert await one(source) == 1
        await until_true(lambda: is_at(server, "true", 1))


async def is_at(server: MariadbServer, where: str, count: int) -> bool:
    return await sessions(server, where) == count


class Fuzzer:
    """Callers who leave at any moment, on connections that are killed now and then."""

    def __init__(self, source: Source, server: MariadbServer) -> None:
        self._dice = random.Random(11)
        self._source, self._server = source, server
        self.counts = {"done": 0, "cancelled": 0, "failed": 0, "killed": 0}
        self.failures: list[ToolError] = []
        self._items = [
            statement(source.engine, "select seq from seq_1_to_1000", name="rows"),
            statement(source.engine, "select seq from seq_1_to_5000000", name="many"),
            statement(source.engine, "select sleep(0.01) as n", name="sleep"),
            statement(
                source.engine, "select get_lock(concat('l', :n), 5) as l, @leak := 'x' as v", name="lock", n="integer"
            ),
            statement(source.engine, "insert into written values (1), (1)", name="write", writes=True),
        ]

    async def work(self, rounds: int) -> None:
        for _ in range(rounds):
            item = self._dice.choice(self._items)
            values = [self._dice.randrange(10**9)] if item.name == "lock" else []
            task = asyncio.create_task(run(self._source, item, *values, max_rows=1000))
            if self._dice.random() < 0.6:
                await asyncio.sleep(self._dice.random() ** 3 * 0.015)
                task.cancel()
            if self._dice.random() < 0.01:
                self.counts["killed"] += await kill_one(self._dice, self._server)
            try:
                await task
                self.counts["done"] += 1
            except asyncio.CancelledError:
                self.counts["cancelled"] += 1
            except ToolError as error:
                self.failures.append(error)
                self.counts["failed"] += 1


async def test_random_cancellation_leaves_the_server_clean(server: MariadbServer, tally: Tally) -> None:
    """Thousands of rounds with GATEWAY_TEST_ROUNDS; some connections are killed on the way."""
    await server.execute("drop table if exists written", "create table written (n int)")
    await server.execute("install plugin if not exists metadata_lock_info soname 'metadata_lock_info'")
    rounds, before = ROUNDS * 10, asyncio.all_tasks()
    pool = {"min": 2, "max": 5, "acquire_timeout": "20s", "max_waiting": 1000}
    async with reached(settings(server, access="read-write", pool=pool)) as source:
        fuzzer = Fuzzer(source, server)
        await asyncio.gather(*(fuzzer.work(rounds // 10) for _ in range(10)))
        await until(lambda: source.stats.active == source.stats.opening == 0 and source.stats.idle >= 2)

        async def is_level() -> bool:
            quiet = await sessions(server, "command = 'Sleep'")
            return quiet == await sessions(server) == source.stats.idle

        await until_true(is_level)
        locks = "select count(*) from information_schema.metadata_lock_info where lock_type = 'User lock'"
        assert (await server.execute(locks))[0][0] == 0
        assert (await server.execute("select count(*) % 2 from written"))[0][0] == 0
        for _ in range(source.stats.idle):
            assert (await run(source, statement(source.engine, "select @leak as v", name="v"))).rows[0][0] is None
    assert fuzzer.counts["cancelled"] > rounds / 10
    lost = {Code.CONNECTION_LOST, Code.OUTCOME_UNKNOWN}
    assert [f"{error.code} {error.detail}" for error in fuzzer.failures if error.code not in lost] == []
    await until_true(lambda: is_at(server, "true", 0))
    await until(lambda: asyncio.all_tasks() <= before)
    tally(f"{rounds} rounds: {fuzzer.counts}")


async def kill_one(dice: random.Random, server: MariadbServer) -> int:
    """End one of the fuzzer's connections, unless it went by itself meanwhile."""
    ids = [row[0] for row in await server.execute(f"select id {OURS}")]
    try:
        await server.execute(*[f"kill {dice.choice(ids)}" for _ in ids[:1]])
    except OperationalError as error:
        if error.args[0] != NO_SUCH_THREAD:
            raise
        return 0
    return len(ids[:1])


async def test_killed_connections_heal(server: MariadbServer) -> None:
    async with reached(settings(server, pool={"min": 2, "max": 3})) as source:
        await until(lambda: source.stats.idle == 2)
        await server.execute("kill user gateway")
        await until_true(lambda: is_at(server, "true", 2))
        assert await one(source) == 1


async def test_a_connection_that_dies_in_mid_run_is_told_and_replaced(server: MariadbServer) -> None:
    async with reached(settings(server, access="read-write", pool={"min": 1, "max": 1})) as source:
        for writes, code in ((False, Code.CONNECTION_LOST), (True, Code.OUTCOME_UNKNOWN)):
            item = statement(source.engine, "select sleep(30) as n", name=f"sleep{writes}", writes=writes)
            task = asyncio.create_task(run(source, item))
            await until_true(lambda: is_at(server, "info like '%sleep(30)%'", 1))
            await server.execute("kill user gateway")
            with pytest.raises(ToolError) as caught:
                await task
            assert caught.value.code is code
            assert caught.value.is_sent
            assert await one(source) == 1


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_a_server_that_stops_and_comes_back(own: MariadbServer, mode: str) -> None:
    async with reached(settings(own, pool={"min": 2, "max": 3})) as source:
        own.stop(mode)
        await until(lambda: not source.is_up)
        assert "source_unavailable" in source.trouble
        await until(lambda: source.breaker == "open")
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(ToolError) as caught:
                await one(source)
            assert caught.value.code is Code.SOURCE_UNAVAILABLE
            assert not caught.value.is_sent
            assert own.host not in caught.value.message
        assert time.monotonic() - began < 1.0
        own.start()
        await until(lambda: source.is_up)
        assert await one(source) == 1
        await until(lambda: source.stats.idle == 2)


async def test_a_frozen_server_holds_nobody_past_a_limit(own: MariadbServer) -> None:
    pool = {"min": 1, "max": 2, "acquire_timeout": "600ms", "max_waiting": 50}
    async with reached(settings(own, statement_timeout="300ms", connect_timeout="400ms", pool=pool)) as source:
        assert await one(source) == 1
        await until(lambda: source.stats.idle == 1)
        own.signal_all(signal.SIGSTOP)
        try:
            longest = 0.0
            codes: set[Code] = set()

            async def try_it() -> None:
                nonlocal longest
                began = time.monotonic()
                try:
                    await one(source)
                except ToolError as error:
                    codes.add(error.code)
                longest = max(longest, time.monotonic() - began)

            for _ in range(4):
                await asyncio.gather(*(try_it() for _ in range(8)))
            assert longest < 0.3 + 0.6 + 0.4, longest
            assert codes <= {Code.STATEMENT_TIMEOUT, Code.CONNECT_TIMEOUT, Code.POOL_TIMEOUT}
            assert Code.STATEMENT_TIMEOUT in codes
        finally:
            own.signal_all(signal.SIGCONT)

        async def answers() -> bool:
            try:
                return await one(source) == 1
            except ToolError:
                return False

        await until_true(answers)
        await until(lambda: source.stats.active == 0)


async def test_closing_over_a_frozen_server_is_bounded(own: MariadbServer) -> None:
    async with reached(settings(own, pool={"min": 2, "max": 2})) as source:
        await until(lambda: source.stats.idle == 2)
        own.signal_all(signal.SIGSTOP)
        began = time.monotonic()
        await source.pools.close()
        took = time.monotonic() - began
        own.signal_all(signal.SIGCONT)
    assert took < 6.0


async def test_too_many_connections_is_unavailable_for_now(own: MariadbServer) -> None:
    await own.execute("set global max_connections = 10", "create or replace user gateway@'%' identified by 'geheim-ü€'")
    pool = {"min": 0, "max": 20, "acquire_timeout": "5s"}
    async with reached(settings(own, pool=pool, database="information_schema")) as source:
        nap = statement(source.engine, "select sleep(0.02) as n", name="nap")
        results = await asyncio.gather(*(run(source, nap) for _ in range(60)), return_exceptions=True)
        assert [result for result in results if isinstance(result, BaseException)] == []


LEAKS = [
    "set @leak = 'acme'",
    "set session time_zone = '+05:00'",
    "set session sql_mode = ''",
    "set session max_statement_time = 0.001",
    "set names latin1",
    "set autocommit = 0",
    "select get_lock('leak', 1)",
    "create temporary table leak (secret text)",
    "set session transaction read only",
    "select sql_calc_found_rows seq from seq_1_to_10 limit 1",
    "set session group_concat_max_len = 7",
    "use information_schema",
]
PROBE = (
    "select @leak as leak, @@session.time_zone as zone, @@session.sql_mode = @@global.sql_mode as mode,"
    " @@session.max_statement_time > 10 as seconds, @@character_set_client as charset, @@autocommit as auto,"
    " is_used_lock('leak') as locked, @@session.group_concat_max_len > 7 as length, database() as db,"
    " (select count(*) from information_schema.tables where table_name = 'leak') as temporary_tables"
)


async def test_session_state_never_reaches_the_next_caller(server: MariadbServer) -> None:
    async with reached(settings(server, access="read-write", pool={"min": 1, "max": 1})) as source:
        for index, text in enumerate(LEAKS):
            try:
                await run(source, statement(source.engine, text, name=f"leak{index}", writes=True))
            except ToolError as error:
                assert error.code is Code.STATEMENT_INVALID, (text, error.detail)  # noqa: PT017 - not all can be prepared
            rows = (await run(source, statement(source.engine, PROBE, name="probe"))).rows
            expected = [None, "+00:00", 1, 1, "utf8mb4", 1, None, 1, "tests", 0]
            assert list(rows[0]) == expected, text
            insert = statement(source.engine, "create or replace table free (a int)", name="insert", writes=True)
            await run(source, insert)


async def test_what_a_read_leaves_is_gone_too(server: MariadbServer) -> None:
    async with reached(settings(server, pool={"min": 1, "max": 1})) as source:
        await run(source, statement(source.engine, "select @leak := 1 as a, get_lock('leak', 1) as b", name="leak"))
        rows = (await run(source, statement(source.engine, PROBE, name="probe"))).rows
        assert (rows[0][0], rows[0][6]) == (None, None)


async def test_a_read_only_source_cannot_be_talked_into_writing(server: MariadbServer) -> None:
    await server.execute(
        "create or replace table fence (n int)",
        "create or replace procedure sneak() insert into fence values (1)",
        "create or replace function sly() returns int modifies sql data"
        " begin insert into fence values (1); return 1; end",
    )
    texts = [
        "insert into fence values (1)",
        "create table other (n int)",
        "drop table fence",
        "truncate fence",
        "call sneak()",
        "select sly() as n",
        "commit; insert into fence values (1)",
        "create or replace table fence as select 1 as n",
    ]
    async with reached(settings(server, pool={"min": 1, "max": 1})) as source:
        for text in texts:
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, text, name=text))
            assert caught.value.code in {Code.READ_ONLY, Code.STATEMENT_INVALID}, (text, caught.value.detail)
    assert (await server.execute("select count(*) from fence"))[0][0] == 0


async def test_a_cut_result_costs_constant_memory_and_time(server: MariadbServer, tally: Tally) -> None:
    async with reached(settings(server, pool={"min": 1, "max": 1})) as source:
        item = statement(source.engine, "select seq, repeat('x', 100) as pad from seq_1_to_1000000", name="million")
        await run(source, item, max_rows=10)
        tracemalloc.start()
        began = time.monotonic()
        table = await run(source, item, max_rows=10)
        took = time.monotonic() - began
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (len(table.rows), table.is_truncated) == (10, True)
        assert peak < 2_000_000
        assert await one(source) == 1
    tally(f"1,000,000 rows behind a limit of 10: {took * 1000:.0f} ms, {peak / 1000:.0f} kB")


async def test_a_returning_write_is_read_to_its_end(server: MariadbServer) -> None:
    await server.execute("create or replace table many (n int) select seq as n from seq_1_to_5000")
    async with reached(settings(server, access="read-write")) as source:
        item = statement(source.engine, "delete from many returning n", writes=True)
        table = await run(source, item, max_rows=10)
    assert (len(table.rows), table.is_truncated, table.affected) == (10, True, 5000)
    assert (await server.execute("select count(*) from many"))[0][0] == 0


async def test_the_server_itself_stops_what_outruns_its_limit(server: MariadbServer) -> None:
    engine = build_engine(settings(server, statement_timeout="100ms"), "fence")
    connection = await engine.connect()
    began = time.monotonic()
    with pytest.raises(Exception, match="max_statement_time") as caught:
        await connection.run(statement(engine, ENDLESS), [], 10, lambda _: None)
    assert engine.translate(caught.value).code is Code.STATEMENT_TIMEOUT
    assert 0.9 < time.monotonic() - began < 3.0
    await connection.reset()
    await connection.ping()
    await connection.close()


class Sniffer:
    """A proxy that keeps what the gateway sends."""

    def __init__(self) -> None:
        self.sent = bytearray()

    async def open(self, server: MariadbServer) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, here = await asyncio.open_connection(server.host, server.port)
            await asyncio.gather(self._pump(reader, here, self.sent), self._pump(there, writer, bytearray()))

        return await asyncio.start_server(serve, "127.0.0.1", 0)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
        try:
            while data := await reader.read(65536):
                kept += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def packets(self, command: int) -> list[bytes]:
        """The commands of one kind, without header and number; read from the front, as the server does."""
        data, found = bytes(self.sent), []
        while len(data) >= 5:
            size = int.from_bytes(data[:3], "little")
            if data[3] == 0 and data[4] == command:
                found.append(data[5 : 4 + size])
            data = data[4 + size :]
        return found


async def test_no_value_travels_as_text(server: MariadbServer) -> None:
    sniffer = Sniffer()
    proxy = await sniffer.open(server)
    value = "O'Reilly \\' or 1=1 -- 😀"
    async with proxy, reached(settings(server, port=proxy.sockets[0].getsockname()[1])) as source:
        item = statement(source.engine, "select :v as a, :n as b", v="string", n="integer")
        rows = (await run(source, item, value, 20240531)).rows
        assert list(rows[0]) == [value, 20240531]
    assert sniffer.packets(0x16).count(b"select ? as a, ? as b") == 1
    assert value.encode() not in b"".join(sniffer.packets(0x03))
    carrying = [packet for packet in sniffer.packets(0x17) if value.encode() in packet]
    assert len(carrying) == 1
    assert (20240531).to_bytes(8, "little") in carrying[0]
    assert sniffer.sent.count(value.encode()) == 1
    prepared = [line for line in server.log.read_text().splitlines() if "Prepare\tselect ? as a, ? as b" in line]
    assert prepared


async def test_several_statements_in_one_text_are_refused(server: MariadbServer) -> None:
    engine = build_engine(settings(server, access="read-write"), "several")
    connection: Any = await engine.connect()
    with pytest.raises(Exception, match="1064"):
        await connection._link.command("select 1; select 2")
    with pytest.raises(Exception, match="1064"):
        await connection.describe(Statement("two", "select 1; select 2", (), ()))
    await connection.close()


async def test_a_changed_table_changes_the_columns(server: MariadbServer) -> None:
    await server.execute("create or replace table shifting (v int)", "insert into shifting values (1)")
    async with reached(settings(server, pool={"min": 1, "max": 1})) as source:
        item = statement(source.engine, "select * from shifting", name="shifting")
        assert [list(row) for row in (await run(source, item)).rows] == [[1]]
        await server.execute("alter table shifting modify v varchar(10), add extra date default '2024-05-31'")
        assert [list(row) for row in (await run(source, item)).rows] == [["1", "2024-05-31"]]
        await server.execute("drop table shifting")
        with pytest.raises(ToolError) as caught:
            await run(source, item)
        assert caught.value.code is Code.STATEMENT_INVALID


async def test_a_procedures_further_results_are_read_away(server: MariadbServer) -> None:
    await server.execute(
        "create or replace procedure several() begin select 1 as a; select 2 as b union select 3; select 4 as c; end"
    )
    async with reached(settings(server, pool={"min": 1, "max": 1})) as source:
        for _ in range(3):
            table = await run(source, statement(source.engine, "call several()", name="several"))
            assert [list(row) for row in table.rows] == [[1]]
            assert await one(source) == 1


async def test_a_source_that_is_down_at_the_start(own: MariadbServer) -> None:
    own.stop()
    engine = build_engine(settings(own), "later")
    item = statement(engine, "select 1 as n", name="later")
    async with started(settings(own), [item]) as source:
        await until(lambda: source.trouble.startswith("source_unavailable"))
        own.start()
        await until(lambda: "later" in source.shapes)
        assert [list(row) for row in (await run(source, item)).rows] == [[1]]


async def test_a_deadline_during_the_commit_leaves_the_outcome_open(server: MariadbServer) -> None:
    await server.execute("create or replace table committed (n int) engine=innodb")
    admin = await server.admin()
    async with reached(settings(server, access="read-write", statement_timeout="300ms")) as source:
        item = statement(source.engine, "insert into committed values (1)", name="insert", writes=True)
        await run(source, item)
        for stage in ("start", "flush", "block_ddl", "block_commit"):
            await admin.query(f"backup stage {stage}")
        with pytest.raises(ToolError) as caught:
            await run(source, item)
        assert caught.value.code is Code.OUTCOME_UNKNOWN
        await admin.query("backup stage end")
        admin.close()
        assert (await run(source, item)).affected == 1
