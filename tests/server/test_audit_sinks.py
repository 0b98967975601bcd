"""The sinks beyond the machine: a table that can only grow, and OpenTelemetry logs."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import (
    LogsServiceServicer,
    add_LogsServiceServicer_to_server,
)

from gateway.telemetry.audit import events
from gateway.telemetry.audit.verify import Verifier
from tests.servers.postgresql import PostgresqlServer
from tests.telemetry.audit.support import SECRET, write
from tests.world import CONFIGURATION, open_world

PAGE: Final = Path(__file__).parents[2] / "docs/how-to/audit.md"
TABLE: Final = """
  log:
    engine: postgresql
    host: ${env:PGHOST}
    port: ${env:PGPORT}
    database: postgres
    user: gateway_audit
    password: ${env:PGPASSWORD}
    access: read-write
    tls: {mode: disable}
tools:
"""
AUDIT: Final = """
audit:
  chain_key: ${env:CHAIN_KEY}
  sinks: [SINK]
"""


def configuration(sink: str, sources: str = "") -> str:
    text = CONFIGURATION.replace("\ntools:\n", sources) if sources else CONFIGURATION
    return text + AUDIT.replace("SINK", sink)


def documented_sql() -> str:
    """The table and its grants, as the how-to says them."""
    return PAGE.read_text().partition("```sql\n")[2].partition("```")[0]


@pytest.fixture
async def table(own_postgresql: PostgresqlServer) -> dict[str, str]:
    """A server with the table of the how-to; how the gateway reaches it."""
    settings = own_postgresql.settings()
    password = settings.password.get_secret_value() if settings.password else "secret"
    connection = await own_postgresql.admin()
    try:
        await connection.execute(documented_sql().replace("'...'", f"'{password}'"))
    finally:
        await connection.close()
    return {"PGHOST": str(settings.host), "PGPORT": str(settings.port), "PGPASSWORD": password, "CHAIN_KEY": SECRET}


async def rows_of(server: PostgresqlServer) -> list[str]:
    connection = await server.admin()
    try:
        return [row["record"] for row in await connection.fetch("select record from audit.records order by time, seq")]
    finally:
        await connection.close()


async def test_a_table_holds_a_whole_chain_and_the_account_can_only_add(
    own_postgresql: PostgresqlServer, table: dict[str, str], tmp_path: Path
) -> None:
    text = configuration("{postgresql: {source: log, table: audit.records}}", TABLE)
    async with open_world(tmp_path, text, table) as world:
        for number in range(1, 6):
            reply = await world.call("customer_by_id", {"id": number})
            assert reply.result["isError"] is False
    lines = [line.encode() + b"\n" for line in await rows_of(own_postgresql)]
    assert Verifier([SECRET]).verify([write(tmp_path / "table.jsonl", lines)]).is_whole
    assert sum(b'"tool.call"' in line for line in lines) == 5
    connection = await own_postgresql.admin()
    try:
        await connection.execute("set role gateway_audit")
        for statement in ("delete from", "truncate", "select 1 from"):
            with pytest.raises(Exception, match="permission denied"):
                await connection.execute(f"{statement} audit.records")
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute("update audit.records set record = ''")
    finally:
        await connection.close()


async def test_a_database_that_dies_refuses_calls_and_loses_nothing(
    own_postgresql: PostgresqlServer, table: dict[str, str], tmp_path: Path
) -> None:
    text = configuration("{postgresql: {source: log, table: audit.records}}", TABLE)
    async with open_world(tmp_path, text, table) as world:
        assert not (await world.call("customer_by_id", {"id": 1})).result["isError"]
        own_postgresql.stop()
        assert (await world.call("customer_by_id", {"id": 2})).result["isError"]
        own_postgresql.start()
        async with asyncio.timeout(20):
            while world.gateway.snapshot.audit.troubles:  # noqa: ASYNC110 - the pool's own pace
                await asyncio.sleep(0.05)
        assert not (await world.call("customer_by_id", {"id": 3})).result["isError"]
    lines = [line.encode() + b"\n" for line in await rows_of(own_postgresql)]
    report = Verifier([SECRET]).verify([write(tmp_path / "table.jsonl", lines)])
    assert report.is_whole, report.problems
    assert sum(b'"tool.call"' in line for line in lines) == 3


@asynccontextmanager
async def collector(status: list[int], refused: Counter[int]) -> AsyncIterator[tuple[str, list[Any]]]:
    """An OTLP receiver over HTTP; it answers with the last status of the list, and counts those that are refusals."""
    taken: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        refused[status[-1]] += status[-1] != 200
        if status[-1] == 200:
            sent = ExportLogsServiceRequest.FromString(body)
            taken.extend(each for r in sent.resource_logs for s in r.scope_logs for each in s.log_records)
        return web.Response(status=status[-1])

    app = web.Application()
    app.router.add_post("/v1/logs", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1], taken
    finally:
        await runner.cleanup()


async def test_a_collector_gets_each_record_word_for_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    status, refused = [200], Counter[int]()
    async with collector(status, refused) as (port, taken):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"http://127.0.0.1:{port}/v1/logs")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        async with open_world(tmp_path, configuration("{otlp: {}}"), {"CHAIN_KEY": SECRET}) as world:
            assert not (await world.call("customer_by_id", {"id": 1})).result["isError"]
            status.append(400)
            assert (await world.call("customer_by_id", {"id": 2})).result["isError"]
            async with asyncio.timeout(20):
                while refused.total() < 3:  # noqa: ASYNC110 - attempts, none of which is a line
                    await asyncio.sleep(0.05)
            status.append(200)
            async with asyncio.timeout(20):
                while world.gateway.snapshot.audit.troubles:  # noqa: ASYNC110 - the sink's own pace
                    await asyncio.sleep(0.05)
    told = [each for each in caplog.records if each.levelname in {"WARNING", "ERROR"} and "sink" in each.getMessage()]
    assert [each.levelname for each in told] == ["ERROR", "WARNING"], "one line when it failed, one when it works again"
    assert not [each for each in caplog.records if each.name.startswith("opentelemetry")]
    lines = [record.body.string_value.encode() + b"\n" for record in taken]
    assert Verifier([SECRET]).verify([write(tmp_path / "otlp.jsonl", lines)]).is_whole
    call = next(record for record in taken if record.event_name == f"audit.{events.TOOL_CALL}")
    assert {"audit.tool", "audit.subject"} <= {attribute.key for attribute in call.attributes}


class _Logs(LogsServiceServicer):
    """An OTLP receiver over gRPC."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def Export(self, request: Any, context: Any) -> ExportLogsServiceResponse:  # noqa: N802 - the protocol's name
        self.taken += [each for r in request.resource_logs for s in r.scope_logs for each in s.log_records]
        return ExportLogsServiceResponse()


async def test_a_collector_is_reached_over_grpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, server = _Logs(), grpc.server(ThreadPoolExecutor(1))
    add_LogsServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    try:
        async with open_world(tmp_path, configuration("{otlp: {}}"), {"CHAIN_KEY": SECRET}) as world:
            assert not (await world.call("customer_by_id", {"id": 1})).result["isError"]
    finally:
        await asyncio.to_thread(server.stop(0).wait)
    lines = [record.body.string_value.encode() + b"\n" for record in service.taken]
    assert Verifier([SECRET]).verify([write(tmp_path / "otlp.jsonl", lines)]).is_whole
