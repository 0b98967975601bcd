"""The databases behind the gateway: each with the same data, the same tools, and a fault proxy in front."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import aiomysql

from tests.servers.local import run
from tests.servers.mariadb import MariadbServer
from tests.servers.oracle.server import OracleServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.proxy import FaultProxy, fault_proxy

FACTS: Final = 200
"""Rows of `fact`, numbered from 1; what they hold follows from the number."""
POOL: Final = 6
LINGER: Final = 0.15
"""Seconds that slow tools take in the database, so that faults meet calls in the middle."""
SOURCES: Final = ("postgresql", "mariadb", "oracle")
_KEY: Final = {"key": {"type": "string", "maxLength": 40}}
_SECONDS: Final = {"seconds": {"type": "number", "minimum": 0}}
_ID: Final = {"id": {"type": "integer", "minimum": 1}}
_PASSWORD: Final = "gateway-s3cret"

_BULK: Final = """
    select a.id as "id", b.label as "label" from fact a cross join fact b where a.id <= :id order by a.id, b.id
"""


def label(number: int) -> str:
    """What the fact of a number says."""
    return f"fact {number * 7919 % 1000}"


def facts() -> list[tuple[int, str]]:
    """Every row."""
    return [(number, label(number)) for number in range(1, FACTS + 1)]


def bulk(number: int) -> list[dict[str, Any]]:
    """The rows of the large result: so many times all labels."""
    return [{"id": each, "label": text} for each in range(1, number + 1) for _, text in facts()]


class Backend:
    """One database, its proxy, and the tools that ask it.

    Attributes:
        name: of the source.
        title: in the table.
        sleeps: the engine's expression that takes `LINGER` seconds and is true.
        busy: the same, for the seconds that the call says.
        server: what runs it.
        proxy: what the gateway connects to.
    """

    name = ""
    title = ""
    sleeps = ""
    busy = ""
    server: Any
    proxy: FaultProxy

    async def fill(self) -> None:
        """Make the tables and the gateway's account."""
        raise NotImplementedError

    async def written(self, table: str) -> Counter[str]:
        """How often each key is in a table, asked behind the gateway's back."""
        raise NotImplementedError

    def login(self) -> dict[str, Any]:
        """How the gateway reaches it, through the proxy."""
        raise NotImplementedError

    def keep(self) -> str:
        """A write that changes nothing when it is made again."""
        raise NotImplementedError

    def source(self) -> dict[str, Any]:
        """The section of `sources`."""
        # Shorter than the defaults, so that the short form sees every limit; connections are counted, so they stay.
        pool = {"min": POOL, "max": POOL, "acquire_timeout": "3s", "ping_after": "1s"}
        times = {"connect_timeout": "3s", "statement_timeout": "3s"}
        return {**self.login(), "access": "read-write", "pool": pool, **times}

    def tools(self) -> dict[str, dict[str, Any]]:
        """Reads with known answers, plain writes and an idempotent one; the slow ones are met by faults."""
        fact = 'select id as "id", label as "label" from fact where id = :id'
        note = "insert into note (id) select :key from fact where id = 1"
        tools: dict[str, dict[str, Any]] = {
            "read": {"parameters": _ID, "statement": fact},
            "bulk": {"parameters": _ID, "statement": _BULK, "max_rows": FACTS * FACTS},
            "linger": {"parameters": _ID, "statement": f"{fact} and {self.sleeps}"},
            "busy": {"parameters": _ID | _SECONDS, "statement": f"{fact} and {self.busy}"},
            "note": {"parameters": _KEY, "statement": f"{note} and {self.sleeps}", "writes": True},
            "keep": {"parameters": _KEY, "statement": self.keep(), "writes": True, "idempotent": True},
        }
        return {
            f"{self.name}_{name}": {
                "description": f"For tests: {name}.",
                "source": self.name,
                "scopes": ["data:write" if tool.get("writes") else "data:read"],
                **tool,
            }
            for name, tool in tools.items()
        }

    @property
    def connections(self) -> int:
        """Of the gateway to it."""
        return self.proxy.connections

    async def heal(self) -> None:
        """Let everything pass again."""
        await self.proxy.heal()

    async def stop(self, mode: str = "immediate") -> None:
        """Stop the server; `immediate` is a crash for its clients."""
        await asyncio.to_thread(self.server.stop, mode)

    async def start(self) -> None:
        """Start it again, with what it had."""
        await asyncio.to_thread(self.server.start)

    async def refuse_logins(self) -> None:
        """Break every connection of the gateway's, and have no room for new ones."""
        raise NotImplementedError

    async def admit_logins(self) -> None:
        """Have room again."""
        raise NotImplementedError


class Postgresql(Backend):
    """PostgreSQL; the gateway's account is an ordinary one."""

    name, title = "postgresql", "PostgreSQL"
    account = {"engine": "postgresql", "user": "gateway", "password": _PASSWORD, "tls": {"mode": "disable"}}
    # In a query of its own: a plan may well ask a function of every row before it looks at the row's number.
    sleeps = f"(select pg_sleep({LINGER})) is not null"
    busy = "(select pg_sleep(:seconds)) is not null"

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="gateway-postgresql-"))
        self.server = PostgresqlServer(folder, ("-c max_connections=60", "-c wal_level=replica"))

    def login(self) -> dict[str, Any]:
        place = {"host": self.proxy.host, "port": self.proxy.port, "database": "postgres"}
        return {**self.account, **place}

    def keep(self) -> str:
        return "insert into kept (id) values (:key) on conflict do nothing"

    async def fill(self) -> None:
        await self.execute(
            "create table fact (id int primary key, label text); create table note (id text);"
            "create table kept (id text primary key);"
            f"create role gateway login password '{_PASSWORD}'; grant all on fact, note, kept to gateway;"
            "insert into fact values " + ",".join(f"({number}, '{text}')" for number, text in facts())
        )

    async def execute(self, script: str) -> None:
        """Run statements as the superuser."""
        admin = await self.server.admin()
        try:
            await admin.execute(script)
        finally:
            await admin.close()

    async def fetch(self, query: str) -> list[Any]:
        """The rows of a query, as the superuser."""
        admin = await self.server.admin()
        try:
            return list(await admin.fetch(query))
        finally:
            await admin.close()

    async def running(self, text: str) -> int:
        """The process of a back end that runs such a statement for the gateway, as soon as there is one."""
        busy = f"usename = 'gateway' and state = 'active' and query like '%{text}%'"
        while True:
            if found := await self.fetch(f"select pid from pg_stat_activity where {busy}"):
                return int(found[0][0])

    async def written(self, table: str) -> Counter[str]:
        return Counter([row[0] for row in await self.fetch(f"select id from {table}")])

    async def standby(self) -> PostgresqlServer:
        """Another server that follows this one; from now on a commit is told once both have it."""
        primary: PostgresqlServer = self.server
        other = PostgresqlServer(Path(tempfile.mkdtemp(prefix="gateway-postgresql-")), primary.options)
        place = f"host={primary.host} port={primary.port} user={primary.user} password={primary.password}"
        program = primary.programs["pg_ctl"].with_name("pg_basebackup")
        data = other.folder / "data"
        shutil.rmtree(data)
        command = [program, "--dbname", place, "--pgdata", data, "--write-recovery-conf", "--checkpoint=fast"]
        await asyncio.to_thread(run, command, other.folder)
        await asyncio.to_thread(other.start)
        await self.execute("alter system set synchronous_standby_names = '*'")
        await self.execute("select pg_reload_conf()")
        async with asyncio.timeout(20):
            synchronous = "select 1 from pg_stat_replication where sync_state = 'sync'"
            while not await self.fetch(synchronous):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.05)
        return other

    async def promote(self, other: PostgresqlServer) -> None:
        """Make the standby the server, for the gateway too: its address is the proxy's."""
        pg_ctl = other.programs["pg_ctl"]
        await asyncio.to_thread(run, [pg_ctl, "promote", "-w", "-D", other.folder / "data"], other.folder)
        self.proxy.retarget(other.host, other.port)
        await asyncio.to_thread(self.server.close)
        self.server = other

    async def refuse_logins(self) -> None:
        """SQLSTATE 53300, as at `max_connections`."""
        await self.execute("alter role gateway connection limit 0")
        await self.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'gateway'")

    async def admit_logins(self) -> None:
        await self.execute("alter role gateway connection limit -1")


class Mariadb(Backend):
    """MariaDB; commits reach the system's memory, so that a killed server keeps them."""

    name, title = "mariadb", "MariaDB"
    sleeps = f"sleep({LINGER}) = 0"
    busy = "sleep(:seconds) = 0"

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="gateway-mariadb-"))
        self._hog: Any = None
        self.server = MariadbServer(folder, ("--innodb-flush-log-at-trx-commit=2", "--general-log=0"))

    def login(self) -> dict[str, Any]:
        place = {"host": self.proxy.host, "port": self.proxy.port, "database": MariadbServer.database}
        return {"engine": "mysql", **place, "user": "gateway", "password": _PASSWORD, "tls": {"mode": "disable"}}

    def keep(self) -> str:
        return "insert ignore into kept (id) values (:key)"

    async def fill(self) -> None:
        await self.server.execute(
            "create table fact (id int primary key, label text)",
            "create table note (id varchar(40))",
            "create table kept (id varchar(40) primary key)",
            f"create user gateway@'%' identified by '{_PASSWORD}'",
            "grant select, insert on tests.* to gateway@'%'",
            "insert into fact values " + ",".join(f"({number}, '{text}')" for number, text in facts()),
        )

    async def written(self, table: str) -> Counter[str]:
        return Counter([row[0] for row in await self.server.execute(f"select id from {table}")])

    async def kill_one(self, text: str) -> None:
        """End a connection that runs such a statement for the gateway, as soon as there is one."""
        while not await self._kill(f"info like '%{text}%' limit 1"):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.01)

    async def _kill(self, which: str) -> int:
        query = f"select id from information_schema.processlist where user = 'gateway' and {which}"
        found = await self.server.execute(query)
        for row in found:
            await self.server.execute(f"kill {row[0]}")
        return len(found)

    async def refuse_logins(self) -> None:
        """Error 1226: the account has all the connections that it may have, and they are not the gateway's."""
        await self.server.execute("alter user gateway@'%' with max_user_connections 1")
        self._hog = await aiomysql.connect(unix_socket=self.server.socket, user="gateway", password=_PASSWORD)
        await self._kill(f"id <> {self._hog.thread_id()}")

    async def admit_logins(self) -> None:
        await self.server.execute("alter user gateway@'%' with max_user_connections 0")
        self._hog.close()


class Oracle(Backend):
    """The stand-in for Oracle: the driver and the wire are real, the SQL is SQLite's."""

    name, title = "oracle", "Oracle (stand-in)"
    sleeps = f"sleep({LINGER / 5}) = 0"  # it has one writer at a time
    busy = "sleep(:seconds) = 0"

    def __init__(self) -> None:
        self.server = OracleServer(Path(tempfile.mkdtemp(prefix="gateway-oracle-")))

    def login(self) -> dict[str, Any]:
        place = {"host": self.proxy.host, "port": self.proxy.port, "service": OracleServer.service}
        login = {"user": OracleServer.user, "password": OracleServer.password}
        return {"engine": "oracle", **place, **login, "tls": {"mode": "disable"}}

    def keep(self) -> str:
        missing = "not exists (select 1 from kept where id = :key)"
        return f"insert into kept (id) select :key from fact where id = 1 and {missing}"

    async def fill(self) -> None:
        rows = ",".join(f"({number}, '{text}')" for number, text in facts())
        await self.server.execute(
            "create table fact (id integer primary key, label varchar2(40)); create table note (id varchar2(40));"
            f"create table kept (id varchar2(40) primary key); insert into fact values {rows};"
        )

    async def written(self, table: str) -> Counter[str]:
        def read() -> Counter[str]:
            with closing(sqlite3.connect(self.server.path, timeout=10)) as db:
                return Counter([row[0] for row in db.execute(f"select id from {table}")])

        return await asyncio.to_thread(read)

    async def stop(self, mode: str = "immediate") -> None:
        await asyncio.to_thread(self.server.stop)

    async def refuse_logins(self) -> None:
        """ORA-00018, as at the server's `sessions`."""
        await self._restart({"refused": 18})

    async def admit_logins(self) -> None:
        await self._restart({})

    async def _restart(self, more: Mapping[str, Any]) -> None:
        await self.stop()
        account = {"password": OracleServer.password, "proxies": []}
        self.server.users = self.server.users | {"GATEWAY": account | dict(more)}
        await self.start()


@asynccontextmanager
async def running_backends() -> AsyncIterator[dict[str, Backend]]:
    """All three, started together and filled, each behind its proxy."""
    backends: list[Backend] = [Postgresql(), Mariadb(), Oracle()]
    async with AsyncExitStack() as stack:
        for backend in backends:
            stack.push_async_callback(_end, backend)
        await asyncio.gather(*(backend.start() for backend in backends))
        for backend in backends:
            server = backend.server
            backend.proxy = await stack.enter_async_context(fault_proxy(server.host, server.port))
        await asyncio.gather(*(backend.fill() for backend in backends))
        yield {backend.name: backend for backend in backends}


async def _end(backend: Backend) -> None:
    if isinstance(backend, Postgresql):
        await asyncio.to_thread(backend.server.close)
        return
    if backend.server._process is not None:
        backend.server.signal_all(signal.SIGCONT)
    await backend.stop()
    await asyncio.to_thread(shutil.rmtree, backend.server.folder, ignore_errors=True)
