"""A real PostgreSQL that restarts, is killed and loses sessions under calls."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.config.loader import Configuration
from gateway.config.models import GatewaySettings
from gateway.context import Call, Principal
from gateway.database.sources import build_engine
from gateway.tools.catalog import build
from gateway.tools.execute import execute
from gateway.tools.results import ToolResult
from tests.database.support import ROUNDS, open_sources, until
from tests.servers.postgresql import PostgresqlServer
from tests.tally import Tally

PATIENT = {"min": 4, "max": 8, "acquire_timeout": "20s"}
TOOLS: dict[str, dict[str, Any]] = {
    "count": {"statement": "select count(*) as n from generate_series(1, 1000)"},
    "linger": {"statement": "select pg_sleep(0.05), 1 as n"},
    "note": {"writes": True, "statement": "insert into note (who) values (:who)"},
    "note_slowly": {"writes": True, "statement": "with s as (select pg_sleep(5)) insert into note select :who from s"},
    "keep_slowly": {
        "writes": True,
        "idempotent": True,
        "statement": "with s as (select pg_sleep(0.3)) insert into kept select :who from s on conflict do nothing",
    },
}


class House:
    """A gateway's inside over one PostgreSQL."""

    def __init__(self, catalog: Any, sources: Any) -> None:
        self.catalog, self.sources = catalog, sources
        self.source = sources["pg"]

    async def call(self, name: str, lines: list[str] | None = None, **arguments: Any) -> ToolResult:
        caller = Principal("issuer", "subject", "", frozenset({"mcp:tools"}))
        report = (lines if lines is not None else []).append
        call = Call("correlation", caller, asyncio.get_running_loop().time() + 60, report)
        tool = self.catalog.require(name, call.principal, arguments)
        return await execute(call, tool, self.sources[tool.source], arguments)


@asynccontextmanager
async def open_house(server: PostgresqlServer, **pool: Any) -> AsyncIterator[House]:
    admin = await server.admin()
    await admin.execute("create table if not exists note (who text); create table if not exists kept (who text unique)")
    await admin.close()
    source = server.settings().model_dump(exclude_unset=True, exclude={"password"}, mode="json")
    source |= {"password": server.password, "access": "read-write", "pool": PATIENT | pool}
    tools = {
        name: {"description": "A tool.", "source": "pg"}
        | ({"parameters": {"who": {"type": "string"}}} if tool.get("writes") else {})
        | tool
        for name, tool in TOOLS.items()
    }
    settings = GatewaySettings.model_validate_json(json.dumps({"sources": {"pg": source}, "tools": tools}))
    configuration = Configuration(settings, {})
    engines = {"pg": build_engine(settings.sources["pg"], "restarts")}
    catalog = build(configuration, engines)
    async with open_sources(settings, engines, catalog.statements()) as sources:
        house = House(catalog, sources)
        await until(lambda: house.source.shapes.keys() >= TOOLS.keys())
        yield house


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_no_read_fails_when_the_server_restarts(
    own_postgresql: PostgresqlServer, mode: str, tally: Tally
) -> None:
    outcomes: Counter[str] = Counter()
    lines: list[str] = []
    restarts = max(2, ROUNDS // 25)
    async with open_house(own_postgresql) as house:
        is_over = asyncio.Event()

        async def reader(name: str) -> None:
            while not is_over.is_set():
                result = await house.call(name, lines)
                outcomes[result.code or "ok"] += 1

        readers = [asyncio.create_task(reader(name)) for name in ("count", "linger") * 6]
        for _ in range(restarts):
            before = outcomes["ok"]
            await until(lambda start=before: outcomes["ok"] > start + 50)  # type: ignore[misc]
            await asyncio.to_thread(own_postgresql.stop, mode)
            await asyncio.to_thread(own_postgresql.start)
        before = outcomes["ok"]
        await until(lambda: outcomes["ok"] > before + 50)
        is_over.set()
        await asyncio.gather(*readers)
    retries = Counter(line.rsplit(" ", 1)[1] for line in lines if line.startswith("trying again"))
    tally(f"{restarts} restarts ({mode}): {dict(outcomes)}, hidden: {dict(retries)}")
    assert set(outcomes) == {"ok"}
    assert retries["connection_lost"] + retries["source_unavailable"] >= restarts


async def test_without_retries_a_restart_costs_one_call_for_each_connection_in_use(
    own_postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.tools.attempts.TRANSIENT", frozenset())
    async with open_house(own_postgresql, min=8) as house:
        for _ in range(max(2, ROUNDS // 25)):
            await until(lambda: house.source.stats.idle == 8)
            in_use = [asyncio.create_task(house.call("note_slowly", who="x")) for _ in range(3)]
            await until(lambda: house.source.stats.active == 3)
            # Through the postmaster all sessions end; what was idle must not fail anybody afterwards.
            await asyncio.to_thread(own_postgresql.stop)
            await asyncio.to_thread(own_postgresql.start)
            assert {(await task).code for task in in_use} == {"outcome_unknown"}
            codes = Counter([(await house.call("count")).code for _ in range(20)])
            assert codes["connection_lost"] == 0, codes


async def test_a_plain_write_is_never_sent_twice(own_postgresql: PostgresqlServer) -> None:
    async with open_house(own_postgresql) as house:
        lines: list[str] = []
        task = asyncio.create_task(house.call("note_slowly", lines, who="once"))
        await until(lambda: house.source.stats.active == 1)
        await until(lambda: "running" in lines)
        await end_sessions(own_postgresql, "pg_sleep")
        result = await task
        assert result.code == "outcome_unknown"
        assert [line for line in lines if line == "running"] == ["running"]


async def test_a_write_that_was_not_sent_is_made_once(own_postgresql: PostgresqlServer) -> None:
    async with open_house(own_postgresql) as house:
        own_postgresql.stop()
        await until(lambda: not house.source.is_up)
        lines: list[str] = []
        task = asyncio.create_task(house.call("note", lines, who="later"))
        await until(lambda: any(line.startswith("trying again") for line in lines))
        await asyncio.to_thread(own_postgresql.start)
        assert (await task).code == ""
        admin = await own_postgresql.admin()
        assert await admin.fetchval("select count(*) from note where who = 'later'") == 1
        await admin.close()


async def test_an_idempotent_write_is_made_again(own_postgresql: PostgresqlServer) -> None:
    async with open_house(own_postgresql) as house:
        for number in range(5):
            lines: list[str] = []
            task = asyncio.create_task(house.call("keep_slowly", lines, who=f"kept {number}"))
            await until(lambda seen=lines: "running" in seen)  # type: ignore[misc]
            await end_sessions(own_postgresql, "pg_sleep")
            assert (await task).code == ""
            assert any("outcome_unknown" in line for line in lines)
        admin = await own_postgresql.admin()
        assert await admin.fetchval("select count(*) from kept") == 5
        await admin.close()


async def end_sessions(server: PostgresqlServer, text: str) -> None:
    """End the sessions that run such a statement, once there are some."""
    admin = await server.admin()
    ended = 0
    async with asyncio.timeout(10):
        while not ended:
            ended = await admin.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where state = 'active' and query like '%' || $1 || '%' and pid <> pg_backend_pid()",
                text,
            )
    await admin.close()
