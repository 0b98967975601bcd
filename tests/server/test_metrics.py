"""What `/metrics` shows of a gateway that was used: what the page lists, in a bounded number of series."""

from __future__ import annotations

import asyncio
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.resilience.histogram import SECONDS
from gateway.telemetry.instruments import INSTRUMENTS
from tests.servers.otlp import running_http_collector
from tests.telemetry.audit.support import SECRET
from tests.world import CONFIGURATION, World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def scrape(world: World) -> dict[str, Metric]:
    async with world.http.get(f"{world.gateway.admin_url}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text = await response.text()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    family = families.get(name.removesuffix("_total")) or families[re.sub("_(count|sum|bucket)$", "", name)]
    found = [each.value for each in family.samples if each.name == name and labels.items() <= each.labels.items()]
    assert found, (name, labels, family.samples)
    return sum(found)


async def test_calls_are_counted_by_method_tool_and_outcome(world: World) -> None:
    before = await scrape(world)
    for number in (1, 2, 3):
        await world.call("customer_by_id", {"id": number})
    await world.call("customer_by_id", {"id": "three"})
    await world.call("orders_total", client="stranger")
    await world.modern("tools/list")
    await world.modern("no/such/method")
    await world.send({}, client=None)
    after = await scrape(world)

    def grew(name: str, **labels: str) -> float:
        known = next((family for family in before.values() if name.startswith(family.name)), None)
        there = known and [s for s in known.samples if s.name == name and labels.items() <= s.labels.items()]
        return value(after, name, **labels) - sum(each.value for each in there or ())

    called = {"mcp_method_name": "tools/call", "gen_ai_tool_name": "customer_by_id"}
    assert grew("gateway_requests_total", **called, outcome="ok", fault="none") == 3
    assert grew("gateway_requests_total", **called, outcome="invalid_arguments", fault="caller") == 1
    assert grew("gateway_requests_total", mcp_method_name="tools/call", outcome="-32004", fault="caller") == 1
    assert grew("gateway_requests_total", mcp_method_name="_OTHER", outcome="-32601") == 1
    assert grew("gateway_requests_total", mcp_method_name="", outcome="unauthenticated") == 1
    assert grew("mcp_server_operation_duration_seconds_count", **called) == 4
    assert grew("mcp_server_operation_duration_seconds_bucket", **called, le="60.0") == 4
    assert grew("http_server_request_duration_seconds_count", http_response_status_code="401") == 1
    assert grew("db_client_operation_duration_seconds_count", db_query_summary="customer_by_id") == 3
    assert grew("db_client_connection_use_time_seconds_count", db_client_connection_pool_name="shop") >= 3
    assert grew("gateway_token_lookups_total", result="hit") >= 4
    assert value(after, "gateway_token_verifications_total", outcome="ok") >= 1
    assert value(after, "gateway_jwks_fetches_total", result="ok") >= 1
    assert value(after, "gateway_source_up", source="shop") == 1
    assert value(after, "gateway_ready") == 1
    assert value(after, "db_client_connection_max", db_client_connection_pool_name="shop") == 10


async def test_nothing_a_caller_chose_becomes_a_label(world: World) -> None:
    token = await world.credentials().token()
    await world.modern("planted/method", {"name": "planted-tool"}, headers={"X-Request-ID": "planted-id"})
    await world.call("planted-tool", {"id": "planted-value"})
    await world.send({}, method="PLANTED")
    async with world.http.get(f"{world.gateway.admin_url}/metrics") as response:
        text = await response.text()
    assert "planted" not in text.lower()
    assert token not in text
    assert "reader" not in text


async def storm(world: World, dice: random.Random, count: int) -> None:
    """Requests of every kind, with other texts each time, wherever a caller can put one."""

    def word() -> str:
        return f"{dice.choice(['a', 'tools/', 'é', '_OTHER'])}{dice.getrandbits(40):x}"

    for _ in range(count):
        headers = {"X-Request-ID": word()[-9:], "User-Agent": word(), "traceparent": word()}
        for tool in ("customer_by_id", "customers_in", "orders_total", "public_note"):
            await world.modern("tools/call", {"name": tool, "arguments": {"id": dice.randrange(1, 9)}})
            await world.modern("tools/call", {"name": tool, "arguments": {word(): word()}}, headers=headers)
            await world.call(tool, {"id": word()}, client="stranger")
        await world.modern("tools/call", {"name": word(), "arguments": {}}, headers=headers)
        await world.modern(word(), {"name": word()}, headers=headers)
        await world.modern("tools/list", {"cursor": word()}, meta={word(): word(), "traceparent": word()})
        await world.legacy("ping", version=dice.choice(["2025-06-18", "2025-11-25"]))
        await world.legacy("tools/list", version=f"20{dice.randrange(30, 99)}-01-01")
        await world.send({}, client=None, headers={"Authorization": f"Bearer {word()}"})
        await world.send(
            {}, client=None, headers={"Authorization": f"Bearer {'.'.join([dice.randbytes(9).hex()] * 3)}"}
        )
        await world.send({}, method="GET")
        await world.send({}, method=f"X{dice.getrandbits(20):x}")
        await world.send(None, raw=word().encode())
        await world.send({}, headers={"Origin": f"https://{dice.getrandbits(20):x}.example.com"})


def series(families: dict[str, Metric]) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {(each.name, frozenset(each.labels.items())) for family in families.values() for each in family.samples}


async def test_what_callers_send_makes_no_series(world: World) -> None:
    """After every kind of request was seen once, hundreds more with ever other texts add not one series."""
    await storm(world, random.Random(1), 3)
    before = series(await scrape(world))
    await storm(world, random.Random(2), 12)
    after = series(await scrape(world))
    assert after == before
    buckets, tools, methods, outcomes, sources = 18, 7, 20, 40, 2
    assert len(after) < (tools + methods) * (buckets + outcomes) + sources * (4 * buckets + 20) + 300


async def test_metrics_shows_what_the_page_lists_and_nothing_else(world: World) -> None:
    await world.call("customer_by_id", {"id": 1})
    shown = await scrape(world)
    listed = {each.prometheus.removesuffix("_total"): each for each in INSTRUMENTS}
    assert shown.keys() <= listed.keys()
    for name, family in shown.items():
        assert family.type == listed[name].kind
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(listed[name].prometheus_labels)
    rare = {
        "gateway_audit_records",
        "gateway_audit_sink_up",
        "gateway_audit_sink_pending",
        "gateway_telemetry_spans",
        "gateway_database_errors",
        "gateway_retries",
        "gateway_certificate_expiry_seconds",
        "gateway_redis_up",
    }
    assert listed.keys() - shown.keys() <= rare


async def test_a_restarting_prometheus_may_ask_for_openmetrics(world: World) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with world.http.get(f"{world.gateway.admin_url}/metrics", headers=accept) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await response.text()).endswith("# EOF\n")


async def test_otlp_carries_what_the_page_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same numbers by both ways: every metric, its unit, its labels, its buckets."""
    async with running_http_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{collector.endpoint}/v1/metrics")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "the-shop")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests")
        async with open_world(tmp_path) as world:
            for number in (1, 2, "three"):
                await world.call("customer_by_id", {"id": number})
            shown = await scrape(world)
            count = value(shown, "mcp_server_operation_duration_seconds_count", gen_ai_tool_name="customer_by_id")
            assert count == 3
            await collector.until(lambda: _calls(collector.metrics) == 3)
        listed = {each.name: each for each in INSTRUMENTS}
        assert {listed[name].prometheus.removesuffix("_total") for name in collector.metrics} == shown.keys()
        assert all(metric.unit == listed[name].unit for name, metric in collector.metrics.items())
        (point,) = [each for each in _points(collector.metrics) if each.count == 3]
        assert tuple(point.explicit_bounds) == SECONDS
        assert sum(point.bucket_counts) == 3
        assert b"the-shop" in collector.raw[-1]
        assert b"deployment.environment.name" in collector.raw[-1]


def _points(metrics: dict[str, Any]) -> list[Any]:
    found = metrics.get("mcp.server.operation.duration")
    return list(found.histogram.data_points) if found else []


def _calls(metrics: dict[str, Any]) -> int:
    return max((each.count for each in _points(metrics)), default=0)


async def test_a_sink_that_takes_no_records_shows_though_nobody_calls(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    file = folder / "audit.jsonl"
    text = CONFIGURATION + f"audit: {{chain_key: '${{env:CHAIN}}', sinks: [{{file: {{path: {file}}}}}]}}\n"
    async with open_world(tmp_path, text, {"CHAIN": SECRET}) as world:
        await world.call("customer_by_id", {"id": 1})
        before, sink = await scrape(world), f"file {file}"
        assert value(before, "gateway_audit_sink_up", sink=sink) == 1
        written = value(before, "gateway_audit_records_total", sink=sink, result="written")
        assert written == sum(json.loads(line)["event"] != "chain.head" for line in file.read_text().splitlines())
        folder.rename(tmp_path / "moved")
        assert (await world.call("customer_by_id", {"id": 1})).result["isError"]
        during = await scrape(world)
        assert value(during, "gateway_audit_sink_up", sink=sink) == 0
        assert value(during, "gateway_audit_sink_pending", sink=sink) >= 1
        assert value(during, "gateway_audit_records_total", sink=sink, result="written") == written
        assert value(during, "gateway_audit_records_total", sink=sink, result="failed") >= 1
        assert value(during, "gateway_audit_refused_calls_total") == 1
        (tmp_path / "moved").rename(folder)
        async with asyncio.timeout(10):
            while not value(await scrape(world), "gateway_audit_sink_up", sink=sink):  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0.05)
        assert value(await scrape(world), "gateway_audit_records_total", sink=sink, result="written") > written
