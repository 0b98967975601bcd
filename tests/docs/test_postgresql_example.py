"""The second example: tools over schemas that nobody here designed, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.config.loader import load
from gateway.server.app import Gateway, open_gateway
from tests.servers.postgresql import PostgresqlServer

EXAMPLE = Path(__file__).parents[2] / "docs/examples/postgresql.yaml"
DATABASE = "bench"


@pytest.fixture(scope="module")
def environment(postgresql: PostgresqlServer) -> Iterator[dict[str, str]]:
    """A database made by `pgbench -i`, and an account that may only look; both are gone at the end."""
    admin = {"PGHOST": postgresql.host, "PGPORT": str(postgresql.port), "PGPASSWORD": postgresql.password}
    statements = (
        f"create database {DATABASE}",
        "create role example_reader login password 'reader-password'",
        "grant pg_monitor to example_reader",
    )
    for statement in statements:
        _psql(admin, "postgres", statement)
    pgbench = [str(postgresql.programs["pgbench"]), "-i", "-s", "1", "-q", "-U", postgresql.user, DATABASE]
    subprocess.run(pgbench, env=os.environ | admin, check=True, capture_output=True)
    _psql(
        admin,
        DATABASE,
        "grant select on pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history to example_reader",
    )
    yield {
        "PGHOST": postgresql.host,
        "PGPORT": str(postgresql.port),
        "PGDATABASE": DATABASE,
        "PGUSER": "example_reader",
        "PGPASSWORD": "reader-password",
    }
    for statement in (f"drop database {DATABASE} with (force)", "drop role example_reader"):
        _psql(admin, "postgres", statement)


def _psql(environment: dict[str, str], database: str, statement: str) -> None:
    command = ["psql", "-qX", "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-c", statement]
    subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)


@pytest.fixture
async def gateway(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Gateway]:
    # The example's own text, beside a file that only moves the operators' port out of the way.
    (tmp_path / "example.yaml").write_text(EXAMPLE.read_text())
    (tmp_path / "ports.yaml").write_text("admin: {port: 0}\n")
    configuration = load(tmp_path, environment=environment, server={"port": 0})
    async with open_gateway(configuration) as gateway:
        await gateway.until_ready()
        yield gateway


async def _call(gateway: Gateway, tool: str, **arguments: Any) -> list[dict[str, Any]]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    async with aiohttp.ClientSession() as http, http.post(gateway.url, json=body) as response:
        result = json.loads(await response.read(), parse_float=Decimal)["result"]
    assert not result["isError"], result["content"][0]["text"]
    rows: list[dict[str, Any]] = result["structuredContent"]["rows"]
    return rows


def test_check_prepares_every_tool_of_the_example(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "gateway.cli.main", "check", "--config", str(EXAMPLE)]
    checked = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout == "OK: 7 tools, 1 source, every statement prepared.\n"


async def test_sizes_are_integers_of_the_catalogue(gateway: Gateway) -> None:
    rows = await _call(gateway, "largest_tables", limit=3)
    assert rows[0]["table_name"] == "pgbench_accounts"
    assert rows[0]["estimated_rows"] == 100_000
    assert [row["total_bytes"] for row in rows] == sorted((row["total_bytes"] for row in rows), reverse=True)


async def test_accounts_come_one_at_a_time_and_a_page_at_a_time(gateway: Gateway) -> None:
    assert await _call(gateway, "account_balance", aid=77) == [{"aid": 77, "abalance": 0, "bid": 1, "bbalance": 0}]
    page = await _call(gateway, "accounts_of_branch", bid=1, offset=40)
    assert [row["aid"] for row in page] == list(range(41, 61))


async def test_locks_and_waits_are_seen_while_they_last(gateway: Gateway, postgresql: PostgresqlServer) -> None:
    holder, waiter = await postgresql.admin(), await postgresql.admin()
    await holder.execute("select pg_advisory_lock(7)")
    waiting = asyncio.create_task(waiter.execute("select pg_advisory_lock(7)"))
    try:
        async with asyncio.timeout(10):
            while not (blocked := await _call(gateway, "blocked_sessions")):
                pass
        assert blocked[0]["blocked_by"] == [holder.get_server_pid()]
        modes = {row["mode"]: row for row in await _call(gateway, "locks_by_mode")}
        assert modes["ExclusiveLock"]["awaited"] >= 1
        slow = await _call(gateway, "slowest_sessions", at_least_seconds=0.001)
        assert any("pg_advisory_lock" in row["query"] and row["running_for"].startswith("PT") for row in slow)
    finally:
        await holder.close()
        await waiting
        await waiter.close()


async def test_an_optional_moment_may_be_left_out(gateway: Gateway) -> None:
    assert await _call(gateway, "history_summary") == []
    assert await _call(gateway, "history_summary", since="2024-01-01T00:00:00Z") == []
