"""The database is told who calls, and told nothing else: not to the next caller, not after a cancellation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.context import Call, Principal, claim_at
from gateway.database.engine import Identifiable, Statement, Table
from gateway.database.identity import identity_of
from gateway.database.session import Session
from gateway.database.sources import Source
from gateway.errors import Code, ToolError
from gateway.resilience.alarms import Alarms
from tests.database.conftest import Database, SettingsMaker
from tests.database.support import ROUNDS, reached, started, statement, until
from tests.servers.postgresql import PostgresqlServer
from tests.tally import Tally

SESSION = {"app.tenant": "claim:tenant_id", "app.user": "subject", "app.request": "correlation_id"}
READS = {
    "postgresql": """
        select coalesce(current_setting('app.tenant', true), '') as tenant,
               coalesce(current_setting('app.user', true), '') as who, pg_sleep(:pause)::text as slept
    """,
    "mysql": """
        select convert(coalesce(@`app.tenant`, '') using utf8mb4) as tenant,
               convert(coalesce(@`app.user`, '') using utf8mb4) as who, sleep(:pause) as slept
    """,
    "oracle": """
        select coalesce(sys_context('app', 'tenant'), '') as tenant,
               coalesce(sys_context('app', 'user'), '') as who, sleep(:pause) as slept
    """,
}
SERVERS = {"postgresql": "postgresql", "mysql": "mariadb", "oracle": "oracle"}


@dataclass(frozen=True)
class Target:
    """An engine that can be told who calls."""

    settings: SettingsMaker
    read: str


@pytest.fixture(params=list(READS))
def target(request: pytest.FixtureRequest) -> Target:
    server = request.getfixturevalue(SERVERS[request.param])
    return Target(server.settings, READS[request.param])


def caller(claims: Mapping[str, Any], *, subject: str = "ada", client_id: str = "agent", seconds: float = 20.0) -> Call:
    principal = Principal("https://idp.test", subject, client_id, frozenset(), MappingProxyType(dict(claims)))
    return Call("request-1", principal, asyncio.get_running_loop().time() + seconds)


async def asked(source: Source, read: str, call: Call, pause: float = 0.0) -> list[Any]:
    item = statement(source.engine, read, name="read", pause="number")
    async with source.lease(call) as session:
        return list((await session.run(item, [pause], 10, call)).rows[0][:2])


async def run(source: Source, item: Statement, call: Call) -> Table:
    async with source.lease(call) as session:
        return await session.run(item, [], 10, call)


async def left(source: Source, read: str) -> list[Any]:
    """What the next caller finds who is told nothing."""
    item = statement(source.engine, read, name="read", pause="number")
    call = caller({})
    async with source._lend(call, {}) as session:
        # To Oracle, an empty string is null.
        return [value or "" for value in (await session.run(item, [0], 10, call)).rows[0][:2]]


@pytest.mark.parametrize(
    ("claims", "path", "expected"),
    [
        ({"a": 1}, "a", 1),
        ({"a": {"b": {"c": "x"}}}, "a.b.c", "x"),
        ({"https://example.com/tenant": "x"}, "https://example.com/tenant", "x"),
        ({"https://example.com/app": {"tenant": "x"}}, "https://example.com/app.tenant", "x"),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
        ({"a.b": 1, "a": {"b": {"c": 2}}}, "a.b.c", 2),
    ],
)
def test_claims_are_found_by_their_path(claims: Mapping[str, Any], path: str, expected: Any) -> None:
    assert claim_at(claims, path) == expected


_KEYS = st.text("ab.", min_size=1, max_size=3).filter(lambda key: not key.startswith(".") and not key.endswith("."))
_CLAIMS = st.recursive(st.integers(), lambda inner: st.dictionaries(_KEYS, inner, max_size=3), max_leaves=6)


@given(st.dictionaries(_KEYS, _CLAIMS, min_size=1, max_size=3))
def test_every_leaf_is_found_unless_a_longer_name_hides_it(claims: dict[str, Any]) -> None:
    def leaves(node: Any, path: str) -> list[tuple[str, Any]]:
        if not isinstance(node, dict):
            return [(path, node)]
        return [leaf for key, inner in node.items() for leaf in leaves(inner, f"{path}.{key}" if path else key)]

    found = leaves(claims, "")
    for path, _ in found:
        assert claim_at(claims, path) in [value for other, value in found if other == path] + [
            node for node in _nodes(claims) if isinstance(node, dict)
        ]


def _nodes(node: Any) -> list[Any]:
    return [node, *(each for inner in node.values() for each in _nodes(inner))] if isinstance(node, dict) else [node]


async def test_values_are_text_and_what_is_no_text_is_json() -> None:
    origins = {
        "a.a": "claim:text",
        "a.b": "claim:number",
        "a.c": "claim:flag",
        "a.d": "claim:realm_access.roles",
        "a.e": "claim:realm_access",
        "a.f": "issuer",
        "a.g": "client_id",
        "a.h": "correlation_id",
        "a.i": "subject",
    }
    claims: dict[str, Any] = {
        "text": "Ünï ' \" \\ ;",
        "number": 12345678901234567890,
        "flag": False,
        "realm_access": {"roles": ["x", "y"]},
    }
    assert identity_of(origins, caller(claims)) == {
        "a.a": "Ünï ' \" \\ ;",
        "a.b": "12345678901234567890",
        "a.c": "false",
        "a.d": '["x","y"]',
        "a.e": '{"roles":["x","y"]}',
        "a.f": "https://idp.test",
        "a.g": "agent",
        "a.h": "request-1",
        "a.i": "ada",
    }


@pytest.mark.parametrize("value", [None, "", "a\0b", "a\ud800"])
async def test_what_cannot_be_told_is_refused(value: Any) -> None:
    with pytest.raises(ToolError) as caught:
        identity_of({"app.tenant": "claim:tenant_id"}, caller({"tenant_id": value}))
    assert caught.value.code is Code.ACCESS_DENIED
    assert "tenant_id" in caught.value.message
    with pytest.raises(ToolError, match="its client_id is missing"):
        identity_of({"app.client": "client_id"}, caller({}, client_id=""))


async def test_nothing_runs_for_a_token_that_says_too_little(target: Target) -> None:
    async with reached(target.settings(session=SESSION)) as source:
        before = source.stats
        with pytest.raises(ToolError) as caught:
            await asked(source, target.read, caller({"other": 1}))
        assert caught.value.code is Code.ACCESS_DENIED
        assert source.stats == before


async def test_an_engine_without_identity_serves_no_caller_who_needs_one(database: Database) -> None:
    async with reached(database.settings()) as source:
        item = statement(source.engine, database.typed, id="integer")
        call = caller({})
        async with source.lease(call) as session:
            member = session._member
            known = Session(member, source.engine, 5, lambda *_: None, Alarms(), {"app.user": "ada"})
            if isinstance(member.connection, Identifiable):
                assert (await known.run(item, [1], 1, call)).rows
            else:
                with pytest.raises(ToolError, match="correlation id") as caught:
                    await known.run(item, [1], 1, call)
                assert caught.value.code is Code.INTERNAL


async def test_each_call_is_its_callers_and_nobodys_afterwards(target: Target) -> None:
    settings = target.settings(access="read-write", session=SESSION, pool={"min": 1, "max": 1})
    async with reached(settings) as source:
        for name in ("acme", "x'; drop table item; --", '`\\"ü€😀', "globex" * 500):
            assert await asked(source, target.read, caller({"tenant_id": name}, subject=name)) == [name, name]
            assert await left(source, target.read) == ["", ""]


async def test_a_write_knows_its_caller_too(target: Target) -> None:
    settings = target.settings(access="read-write", session=SESSION, pool={"min": 1, "max": 1})
    names = {"current_setting": "current_setting('app.user')", "@`": "@`app.user`", "sys": "sys_context('app', 'user')"}
    who = next(name for word, name in names.items() if word in target.read)
    async with reached(settings) as source:
        for text in ("drop table if exists told", "create table told (who varchar(50))"):
            await run(source, statement(source.engine, text, name=text, writes=True), caller({"tenant_id": "t"}))
        write = statement(source.engine, f"insert into told values ({who})", name="write", writes=True)
        await run(source, write, caller({"tenant_id": "t"}, subject="ada"))
        read = statement(source.engine, "select who from told", name="read")
        assert [list(row) for row in (await run(source, read, caller({"tenant_id": "t"}))).rows] == [["ada"]]
        assert await left(source, target.read) == ["", ""]


async def test_cancelled_callers_leave_their_name_to_nobody(target: Target, tally: Tally) -> None:
    randomness = random.Random(7)
    settings = target.settings(session=SESSION, pool={"min": 2, "max": 3, "max_waiting": 1000})
    wrong: list[tuple[str, list[Any]]] = []
    finished = cancelled = 0

    async def client(source: Source, number: int) -> None:
        nonlocal finished, cancelled
        for round_ in range(ROUNDS):
            name = f"{number}-{round_}"
            call = caller({"tenant_id": name}, subject=name)
            task = asyncio.create_task(asked(source, target.read, call, randomness.choice([0, 0, 0.002])))
            done, _ = await asyncio.wait({task}, timeout=randomness.choice([5, randomness.uniform(0, 0.004)]))
            if not done:
                task.cancel()
                await asyncio.wait({task})
            if task.cancelled():
                cancelled += 1
                continue
            finished += 1
            if (told := task.result()) != [name, name]:
                wrong.append((name, told))

    async with reached(settings) as source:
        await asyncio.gather(*(client(source, number) for number in range(8)))
        await until(lambda: source.stats.active == 0)
        assert [await left(source, target.read) for _ in range(10)] == [["", ""]] * 10
    assert wrong == []
    assert finished
    assert cancelled
    tally(f"{finished} calls told who they were, {cancelled} cancelled")


async def test_postgresql_shows_the_correlation_id_while_a_call_runs(postgresql: PostgresqlServer) -> None:
    settings = postgresql.settings(session={"application_name": "correlation_id"})
    async with started(settings) as source, started(postgresql.settings()) as watcher:
        seen = "select count(*) as n from pg_stat_activity where application_name = 'request-1' and state = 'active'"
        slow = asyncio.create_task(run(source, statement(source.engine, "select pg_sleep(20)::text as s"), caller({})))
        async with asyncio.timeout(10):
            while (await run(watcher, statement(watcher.engine, seen), caller({}))).rows[0][0] != 1:  # noqa: ASYNC110 - a server is asked
                await asyncio.sleep(0.02)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        async with asyncio.timeout(10):
            while (await run(watcher, statement(watcher.engine, seen), caller({}))).rows[0][0] != 0:  # noqa: ASYNC110 - a server is asked
                await asyncio.sleep(0.02)
