"""What a database sees of a call: the id that everything else carries, the gateway's name, and cheap comments."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.servers.mariadb import MariadbServer, running_mariadb
from tests.servers.oracle.server import OracleServer
from tests.servers.otlp import running_grpc_collector
from tests.servers.postgresql import PostgresqlServer
from tests.telemetry.audit.support import SECRET, records
from tests.world import CONFIGURATION, World, open_world

Server = PostgresqlServer | MariadbServer | OracleServer
IDENTIFIER: Final = "follow-me.1"
POSTGRESQL: Final = {"engine": "postgresql", "database": "postgres", "tls": {"mode": "disable"}}
MARIADB: Final = {"engine": "mysql", "database": MariadbServer.database, "tls": {"mode": "disable"}}


@asynccontextmanager
async def asking(
    server: Server, folder: Path, statement: str, source: dict[str, Any], comment: str = "off"
) -> AsyncIterator[World]:
    """A gateway with one tool, `look`, on one connection to this server, where everything is told and kept."""
    given = {"host": server.host, "port": server.port, "user": server.user, "password": "${env:DB_PASSWORD}"}
    settings = yaml.safe_load(CONFIGURATION)
    settings["sources"] = {"db": {**given, "pool": {"min": 1, "max": 1}, **source}}
    tool = {"description": "Looks.", "source": "db", "scopes": ["customers:read"], "statement": statement}
    settings["tools"] = {"look": tool}
    settings["telemetry"] = {"traces": {"sample": 1.0, "sql_comment": comment}}
    settings["audit"] = {"chain_key": "${env:CHAIN}", "sinks": [{"file": {"path": str(folder / "audit.jsonl")}}]}
    environment = {"DB_PASSWORD": server.password, "CHAIN": SECRET}
    async with open_world(folder, yaml.safe_dump(settings), environment) as world:
        yield world


async def look(world: World, identifier: str = IDENTIFIER) -> dict[str, Any]:
    """The tool's one row."""
    reply = await world.modern("tools/call", {"name": "look"}, headers={"X-Request-ID": identifier})
    assert reply.headers["X-Request-ID"] == identifier
    (row,) = reply.result["structuredContent"]["rows"]
    assert isinstance(row, dict)
    return row


async def looks(world: World, count: int = 8) -> list[dict[str, Any]]:
    """The rows of several calls, one after the other."""
    return [await look(world, f"call-{number}") for number in range(count)]


async def seen_from_elsewhere(server: PostgresqlServer) -> None:
    """Wait until another session sees the call under its id."""
    watcher = await server.admin()
    try:
        async with asyncio.timeout(20):
            query = "select query from pg_stat_activity where application_name = $1 and state = 'active'"
            while not (found := await watcher.fetchval(query, IDENTIFIER)):  # noqa: ASYNC110 - a server is asked
                await asyncio.sleep(0.02)
        assert "pg_sleep" in found
    finally:
        await watcher.close()


@pytest.mark.parametrize("engine", ["postgresql", "oracle"])
async def test_one_id_in_response_log_spans_audit_and_in_the_databases_own_view(
    engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: io.StringIO
) -> None:
    server = request.getfixturevalue(engine)
    async with running_grpc_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        if engine == "postgresql":
            source = POSTGRESQL | {"session": {"application_name": "correlation_id"}}
            statement = "select current_setting('application_name') as id, pg_sleep(1)::text as slept"
        else:
            source = {"engine": "oracle", "service": server.service, "tls": {"mode": "disable"}}
            source["session"] = {"userenv.client_info": "correlation_id"}
            asked = {"id": "client_info", "module": "module", "action": "action"}
            columns = (f"sys_context('userenv', '{name}') as \"{column}\"" for column, name in asked.items())
            statement = f"select {', '.join(columns)}"
        async with asking(server, tmp_path, statement, source) as world:
            if engine == "postgresql":
                row, _ = await asyncio.gather(look(world), seen_from_elsewhere(server))
            else:
                row = await look(world)
                assert (row["module"], row["action"]) == ("mcp-database-gateway/db", "look")
            assert row["id"] == IDENTIFIER
            spans = await collector.trace_with(IDENTIFIER, ["POST /mcp", "tools/call look", "look"])
            assert all(span.attributes["correlation.id"] == IDENTIFIER for span in spans.values())
            told = [json.loads(line) for line in log.getvalue().splitlines()]
            (line,) = [each for each in told if each["event"] == "request" and each.get("tool") == "look"]
            (record,) = [each for each in records(tmp_path / "audit.jsonl") if each["event"] == "tool.call"]
            assert line["correlation_id"] == record["correlation_id"] == IDENTIFIER
            assert line["trace_id"] == record["trace_id"] == spans["look"].trace_id
            assert line["span_id"] == spans["tools/call look"].span_id


PREPARED: Final = """
    select name, (generic_plans + custom_plans)::int as used, statement as text from pg_prepared_statements
    where statement like '%pg_prepared_statements%' order by prepare_time desc limit 1
"""


@pytest.mark.parametrize(("comment", "different"), [("off", 1), ("static", 1), ("always", 8)])
async def test_only_comments_that_change_are_prepared_anew_on_postgresql(
    postgresql: PostgresqlServer, tmp_path: Path, comment: str, different: int
) -> None:
    """Told by the server: how many statements were prepared for eight calls, and how often each was used."""
    async with asking(postgresql, tmp_path, PREPARED, POSTGRESQL, comment) as world:
        rows = await looks(world)
    assert len({row["name"] for row in rows}) == different
    if different == 1:
        used = [row["used"] for row in rows]
        assert used == list(range(used[0], used[0] + 8)), "one statement served them all"
        assert ("action='look'" in rows[-1]["text"]) is (comment == "static")
    else:
        assert all(f"correlation.id='call-{number}'" in row["text"] for number, row in enumerate(rows))


COUNTED: Final = """
    select cast(variable_value as signed) as prepared from information_schema.session_status
    where variable_name = 'COM_STMT_PREPARE'
"""


@pytest.mark.parametrize(("comment", "most"), [("static", 0), ("always", 7)])
async def test_only_comments_that_change_are_prepared_anew_on_mariadb(
    mariadb: MariadbServer, tmp_path: Path, comment: str, most: int
) -> None:
    async with asking(mariadb, tmp_path, COUNTED, MARIADB, comment) as world:
        rows = await looks(world)
    assert rows[-1]["prepared"] - rows[0]["prepared"] == most


ATTRIBUTES: Final = """
    select attr_value as value from performance_schema.session_connect_attrs
    where processlist_id = connection_id() and attr_name = 'program_name'
"""


async def test_mysqls_connection_attributes_name_gateway_and_source(tmp_path: Path) -> None:
    with running_mariadb("--performance-schema=ON") as server:
        async with asking(server, tmp_path, ATTRIBUTES, MARIADB) as world:
            assert (await look(world))["value"] == "mcp-database-gateway/db"


async def test_postgresqls_application_name_names_gateway_and_source(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    statement = "select application_name as name from pg_stat_activity where pid = pg_backend_pid()"
    async with asking(postgresql, tmp_path, statement, POSTGRESQL) as world:
        assert (await look(world))["name"] == "mcp-database-gateway/db"
