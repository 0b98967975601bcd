"""The databases that this room's tests run on."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from gateway.config.sources import AnySource, SqliteSettings
from tests.servers.containers import MysqlContainer, has_engine
from tests.servers.mariadb import MariadbServer
from tests.servers.oracle.container import OracleContainer
from tests.servers.oracle.server import OracleServer
from tests.servers.postgresql import PostgresqlServer


class SettingsMaker(Protocol):
    def __call__(self, **overrides: Any) -> AnySource: ...


@dataclass(frozen=True)
class Database:
    """One database of the contract suite: its settings, and its words for the same things."""

    name: str
    settings: SettingsMaker
    endless: str
    series: str
    typed: str
    breaks: str


def sqlite_settings(path: Path, **overrides: Any) -> SqliteSettings:
    return SqliteSettings.model_validate({"engine": "sqlite", "path": path} | overrides, strict=False)


def make_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.executescript(
            "create table item (id integer primary key, label text not null unique);"
            "insert into item values (1, 'one'), (2, 'two'), (3, 'three');"
        )
    db.close()


ENGINES = ["sqlite", "postgresql", "postgresql+pgbouncer", "mysql", "oracle"]
SLOW = pytest.mark.timeout(900)
"""For what pulls an image, and waits for its server to come up."""
CONTAINERS = [pytest.param(f"{name}_container", marks=SLOW) for name in ("mysql", "oracle")] if has_engine() else []
collect_ignore = [] if has_engine() else ["test_oracle_itself.py"]


@pytest.fixture(params=[*ENGINES, *CONTAINERS])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Every engine in turn, with the same table `item (id, label)` of three rows."""
    if request.param == "sqlite":
        path = tmp_path / "contract.db"
        make_sqlite(path)

        def settings(**overrides: Any) -> AnySource:
            return sqlite_settings(path, **overrides)

        numbers = "with recursive n(i) as (select 1 union all select i + 1 from n{}) select {} from n"
        return Database(
            "sqlite",
            settings,
            endless=numbers.format("", "count(*) as n"),
            series=numbers.format(" limit :n", "i"),
            typed="select id, label from item where id = :id",
            breaks="select abs(-9223372036854775808 + 0 * :n) as n",
        )
    if request.param == "mysql":
        return await mysql_database(request.getfixturevalue("mariadb"))
    if request.param == "oracle":
        return await oracle_database(request.getfixturevalue("oracle"))
    if request.param == "oracle_container":
        return await oracle_itself(request.getfixturevalue("oracle_container"))
    if request.param == "mysql_container":
        numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < :n) select i from n"
        whole = await mysql_database(request.getfixturevalue("mysql_container"))
        return replace(whole, endless="select benchmark(1000000000000, sha2('x', 512)) as n", series=numbers)
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    admin = await server.admin()
    await admin.execute(
        "drop table if exists item; create table item (id integer primary key, label text not null unique);"
        "insert into item values (1, 'one'), (2, 'two'), (3, 'three')"
    )
    await admin.close()
    return Database(
        request.param,
        server.settings if request.param == "postgresql" else request.getfixturevalue("pgbouncer").settings,
        endless="select count(*) as n from (select generate_series(1, 1000000000000)) a",
        series="select i from generate_series(1, :n) i",
        typed="select id, label from item where id = :id",
        breaks="select 1 / (0 * :n::int) as n",
    )


async def mysql_database(server: MariadbServer | MysqlContainer) -> Database:
    await server.execute(
        "drop table if exists item",
        "create table item (id integer primary key, label varchar(100) not null unique)",
        "insert into item values (1, 'one'), (2, 'two'), (3, 'three')",
    )
    return Database(
        "mysql",
        server.settings,
        endless="select count(*) as n from seq_1_to_1000000000000 where seq % 7 < 9",
        series="select seq as i from seq_1_to_1000000 limit :n",
        typed="select id, label from item where id = :id",
        breaks="select 9223372036854775807 + :n as n",
    )


async def oracle_database(server: OracleServer) -> Database:
    """The stand-in speaks Oracle's protocol and SQLite's SQL."""
    await server.execute(
        "drop table if exists item; create table item (id integer primary key, label varchar2(100) not null unique);"
        "insert into item values (1, 'one'), (2, 'two'), (3, 'three')"
    )
    numbers = "with recursive n(i) as (select 1 union all select i + 1 from n{}) select {} from n"
    return Database(
        "oracle",
        server.settings,
        endless=numbers.format("", 'count(*) as "n"'),
        series=numbers.format(" where i < :n", "i") + " where :n > 0",
        typed='select id as "id", label as "label" from item where id = :id',
        breaks='select abs(-9223372036854775808 + 0 * :n) as "n"',
    )


async def oracle_itself(server: OracleContainer) -> Database:
    """Oracle 23ai, whose SQL needs no FROM."""
    await server.execute(
        "drop table if exists item purge",
        "create table item (id integer primary key, label varchar2(100) not null unique)",
        "insert into item values (1, 'one'), (2, 'two'), (3, 'three')",
    )
    return Database(
        "oracle",
        server.settings,
        endless="select count(*) as n from all_objects a, all_objects b, all_objects c, all_objects d",
        series="select i from (select level as i from dual connect by level <= :n) where i <= :n",
        typed='select id as "id", label as "label" from item where id = :id',
        breaks='select 1 / (0 * :n) as "n"',
    )
