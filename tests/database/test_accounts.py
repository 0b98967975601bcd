"""Accounts by caller: what each may see, who gets none, and one limit for all, seen on the server."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.config.logins import ConditionSettings, CredentialSettings
from gateway.config.sources import AnySource, PostgresqlSettings
from gateway.context import Call, Principal
from gateway.database.accounts import account_settings, fits
from gateway.database.engine import Statement, Table
from gateway.database.sources import Source
from gateway.errors import Code, ToolError
from tests.database.support import ROUNDS, reached, statement, until
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import PostgresqlServer

PASSWORD = "account-password"
SCHEMA = """
    create table if not exists open_data (id int);
    create table if not exists secret_data (id int);
    grant select on open_data to acc_low, acc_high;
    grant select on secret_data to acc_high;
"""
WHO = "select current_user::text as who"
SESSIONS = """
    select usename, count(*) from pg_stat_activity
    where application_name = 'mcp-database-gateway/accounts' group by usename
"""


def entry(user: str, password: str = PASSWORD, **when: str) -> dict[str, Any]:
    return {"when": when, "user": user, "password": password}


LOW, HIGH = entry("acc_low", scope="low"), entry("acc_high", claim="realm.roles", equals="boss")


def caller(*scopes: str, claims: Mapping[str, Any] = MappingProxyType({}), seconds: float = 20.0) -> Call:
    principal = Principal("https://idp.test", "ada", "agent", frozenset(scopes), claims)
    return Call("request", principal, asyncio.get_running_loop().time() + seconds)


def boss() -> Call:
    return caller("low-not", claims={"realm": {"roles": ["boss", "other"]}})


async def ask(source: Source, call: Call, item: Statement) -> Table:
    async with source.lease(call) as session:
        return await session.run(item, [], 10, call)


async def who(source: Source, call: Call, pause: float = 0.0) -> str:
    text = f"{WHO}, pg_sleep({pause})::text as slept" if pause else WHO
    return str((await ask(source, call, statement(source.engine, text, name=f"who{pause}"))).rows[0][0])


@pytest.fixture
async def server(postgresql: PostgresqlServer) -> PostgresqlServer:
    admin = await postgresql.admin()
    for role in ("acc_low", "acc_high", "acc_own"):
        if not await admin.fetchval("select count(*) from pg_roles where rolname = $1", role):
            await admin.execute(f"create role {role} login password '{PASSWORD}'")
    await admin.execute(SCHEMA)
    await admin.close()
    return postgresql


def settings_of(server: PostgresqlServer, *entries: dict[str, Any], **more: Any) -> AnySource:
    own = {"user": "acc_own", "password": PASSWORD, "credentials": entries or (LOW, HIGH)}
    return server.settings(**(own | {"pool": {"min": 1, "max": 4}} | more))


@asynccontextmanager
async def opened(settings: AnySource) -> AsyncIterator[Source]:
    async with reached(settings, name="accounts") as source:
        yield source


@pytest.mark.parametrize(
    ("when", "claims", "is_fit"),
    [
        ({"scope": "orders:write"}, {}, True),
        ({"scope": "orders"}, {}, False),
        ({"claim": "tenant", "equals": "acme"}, {"tenant": "acme"}, True),
        ({"claim": "tenant", "equals": "acme"}, {"tenant": "acme2"}, False),
        ({"claim": "tenant", "equals": "acme"}, {"tenant": "ACME"}, False),
        ({"claim": "tenant", "equals": "acme"}, {}, False),
        ({"claim": "tenant", "equals": "None"}, {"tenant": None}, False),
        ({"claim": "tenant", "equals": "null"}, {"tenant": None}, False),
        ({"claim": "tenant", "equals": "7"}, {"tenant": 7}, True),
        ({"claim": "staff", "equals": "true"}, {"staff": True}, True),
        ({"claim": "staff", "equals": "1"}, {"staff": True}, False),
        ({"claim": "realm.roles", "equals": "a"}, {"realm": {"roles": ["b", "a"]}}, True),
        ({"claim": "realm.roles", "equals": "a"}, {"realm": {"roles": ["ab"]}}, False),
        ({"claim": "realm.roles", "equals": "a"}, {"realm": {"roles": [["a"]]}}, False),
        ({"claim": "realm", "equals": "a"}, {"realm": {"a": 1}}, False),
        ({"claim": "realm", "equals": '{"a":1}'}, {"realm": {"a": 1}}, False),
    ],
)
def test_who_fits(when: dict[str, str], claims: dict[str, Any], is_fit: bool) -> None:
    principal = Principal("https://idp.test", "ada", "agent", frozenset({"orders:write"}), claims)
    assert fits(ConditionSettings(**when), principal) is is_fit


def test_an_account_replaces_every_part_of_the_own_login() -> None:
    token = {"url": "https://idp.test/token", "client_id": "gateway", "client_secret": "x"}
    own = {"engine": "postgresql", "host": "db", "database": "d", "user": "own", "token": token, "credentials": [LOW]}
    source = PostgresqlSettings.model_validate(own, strict=False)
    account = CredentialSettings(when=ConditionSettings(scope="a"), user="b", password=SecretStr("c"))
    settings = account_settings(source, account)
    assert settings.model_dump(include={"user", "password", "token", "credentials"}) == {
        "user": "b",
        "password": SecretStr("c"),
        "token": None,
        "credentials": (),
    }
    assert settings.pool.min == 0


async def test_each_caller_sees_what_its_account_may(server: PostgresqlServer) -> None:
    async with opened(settings_of(server)) as source:
        secret = statement(source.engine, "select id from secret_data", name="secret")
        everyones = statement(source.engine, "select id from open_data", name="open")
        assert await who(source, caller("low")) == "acc_low"
        assert await who(source, boss()) == "acc_high"
        both = caller("low", claims={"realm": {"roles": ["boss"]}})
        assert await who(source, both) == "acc_low"  # the first that fits
        for call in (caller("low"), boss()):
            assert (await ask(source, call, everyones)).rows == []
        assert (await ask(source, boss(), secret)).rows == []
        with pytest.raises(ToolError) as caught:
            await ask(source, caller("low"), secret)
        assert caught.value.code is Code.ACCESS_DENIED


async def test_a_caller_without_an_account_is_refused_before_anything_is_asked(server: PostgresqlServer) -> None:
    async with opened(settings_of(server)) as source:
        before = source.stats
        with pytest.raises(ToolError, match="no database account for this caller") as caught:
            await who(source, caller("other", claims={"realm": {"roles": "nobody"}}))
        assert caught.value.code is Code.ACCESS_DENIED
        assert not caught.value.is_retryable
        assert source.stats == before


async def test_a_wrong_password_is_the_trouble_of_its_callers_only(server: PostgresqlServer) -> None:
    wrong = entry("acc_high", "wrong", claim="realm.roles", equals="boss")
    async with opened(settings_of(server, LOW, wrong, pool={"min": 1, "max": 2})) as source:
        for _ in range(5):
            with pytest.raises(ToolError) as caught:
                await who(source, boss())
            assert caught.value.code is Code.LOGIN_FAILED
            assert await who(source, caller("low")) == "acc_low"
        assert source.is_up
        assert (source.trouble, source.breaker) == ("", "closed")


async def test_the_session_is_told_who_calls_whatever_the_account(server: PostgresqlServer) -> None:
    async with opened(settings_of(server, session={"app.user": "subject"})) as source:
        item = statement(source.engine, "select current_user || current_setting('app.user') as who", name="told")
        assert (await ask(source, caller("low"), item)).rows[0][0] == "acc_lowada"
        assert (await ask(source, boss(), item)).rows[0][0] == "acc_highada"


async def test_idle_connections_are_given_up_for_another_account(server: PostgresqlServer) -> None:
    admin = await server.admin()
    async with opened(settings_of(server, pool={"min": 0, "max": 2})) as source:
        for _ in range(3):
            assert await asyncio.gather(*(who(source, caller("low"), 0.05) for _ in range(2))) == ["acc_low"] * 2
            assert await asyncio.gather(*(who(source, boss(), 0.05) for _ in range(2))) == ["acc_high"] * 2
        await until(lambda: source.stats.idle == source.pools._budget.taken == 2)
        assert {row[0] for row in await admin.fetch(SESSIONS)} <= {"acc_low", "acc_high"}
    await admin.close()


async def test_one_limit_for_all_accounts_under_load_and_cancellation(server: PostgresqlServer) -> None:
    randomness = random.Random(11)
    limit, most, accounts, outcomes = 4, 0, set[str](), Counter[str]()
    before = asyncio.all_tasks()
    admin = await server.admin()

    async def watch() -> None:
        nonlocal most
        while True:
            rows = await admin.fetch(SESSIONS)
            most = max(most, sum(row[1] for row in rows))
            accounts.update(row[0] for row in rows)
            await asyncio.sleep(0.002)

    async def client(source: Source, number: int) -> None:
        for _ in range(ROUNDS):
            is_low = (number % 4 != 0) if randomness.random() < 0.9 else randomness.random() < 0.5
            call = caller("low") if is_low else boss()
            task = asyncio.create_task(who(source, call, randomness.choice([0, 0, 0.003])))
            done, _ = await asyncio.wait({task}, timeout=randomness.choice([10, randomness.uniform(0, 0.02)]))
            task.cancel()
            await asyncio.wait({task})
            outcomes["cancelled" if not done else "served"] += 1
            if done:
                assert task.result() == ("acc_low" if is_low else "acc_high")

    settings = settings_of(server, pool={"min": 1, "max": limit, "max_waiting": 1000, "acquire_timeout": "20s"})
    async with opened(settings) as source:
        watcher = asyncio.create_task(watch())
        await asyncio.gather(*(client(source, number) for number in range(12)))
        await until(lambda: source.stats.active == 0)
        assert await who(source, caller("low")) == "acc_low"
        assert await who(source, boss()) == "acc_high"
        budget = source.pools._budget
        await until(lambda: source.stats.idle == budget.taken <= limit)
        watcher.cancel()
        await asyncio.wait({watcher})
        assert watcher.cancelled(), watcher.exception()
    assert budget.taken == 0
    assert 0 < most <= limit
    assert {"acc_low", "acc_high"} <= accounts
    assert outcomes["served"]
    assert outcomes["cancelled"]
    async with asyncio.timeout(10):
        while await admin.fetch(SESSIONS):  # noqa: ASYNC110 - a condition outside this process has no event
            await asyncio.sleep(0.01)
    await admin.close()
    await until(lambda: asyncio.all_tasks() <= before)
    print(f"{outcomes['served']} calls served, {outcomes['cancelled']} cancelled, at most {most} of {limit} sessions")


async def test_mariadb_too(mariadb: MariadbServer) -> None:
    for name in ("acc_low", "acc_high"):
        await mariadb.execute(f"create or replace user {name}@'%' identified by '{PASSWORD}'")
    await mariadb.execute(
        "create or replace table open_data (id int)",
        "create or replace table secret_data (id int)",
        *(f"grant select on {mariadb.database}.open_data to {name}@'%'" for name in ("acc_low", "acc_high")),
        f"grant select on {mariadb.database}.secret_data to acc_high@'%'",
    )
    async with opened(mariadb.settings(credentials=(LOW, HIGH), pool={"min": 1, "max": 2})) as source:
        item = statement(source.engine, "select convert(current_user() using utf8mb4) as who", name="who")
        secret = statement(source.engine, "select id from secret_data", name="secret")
        answers = await asyncio.gather(
            *(ask(source, call, item) for call in [caller("low"), boss()] * 10),
        )
        assert [table.rows[0][0] for table in answers] == ["acc_low@%", "acc_high@%"] * 10
        assert (await ask(source, boss(), secret)).rows == []
        with pytest.raises(ToolError) as caught:
            await ask(source, caller("low"), secret)
        assert caught.value.code is Code.ACCESS_DENIED
        with pytest.raises(ToolError, match="no database account"):
            await ask(source, caller(), item)
