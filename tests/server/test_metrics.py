"""What `/metrics` shows of a gateway that was used: what the page lists, in a bounded number of series."""

from __future__ import annotations

import re

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.instruments import INSTRUMENTS
from tests.world import World

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


async def test_series_are_bounded(world: World) -> None:
    tools, sources = 6, 2
    for tool in ("customer_by_id", "orders_total", "public_note", "customers_in"):
        await world.call(tool, {"id": 1})
    families = await scrape(world)
    buckets = 18
    methods = 16
    for family in families.values():
        most = (tools + methods) * buckets if family.type == "histogram" else (tools + methods) * 12
        assert len(family.samples) <= most, family.name
    assert sum(len(family.samples) for family in families.values()) < 600 + (tools + sources) * buckets * 4


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
