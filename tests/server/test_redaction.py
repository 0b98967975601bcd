"""No secret, argument, row or personal identifier in any log line, span, metric or audit record, whoever tries."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.servers.otlp import running_http_collector
from tests.telemetry.audit.support import SECRET
from tests.world import CONFIGURATION, World, envelope, open_world, routing

EVERYTHING = pytest.mark.parametrize("log", ["DEBUG"], indirect=True)
"""All that the gateway writes, at the most talkative level."""
MARK: Final = "pl4nted"
IDENTIFIERS: Final = (
    f"{MARK}@example.com",
    "jane.roe@example.org",
    "4111 1111 1111 1111",
    "+49 30 901820",
    "078-05-1120",
    "GB82WEST12345698765432",
)
TOOLS: Final = ("customer_by_id", "customers_in", "remember", "remember_wrongly", f"{MARK}-tool", "orders_total")
TELLING: Final = """
  remember:
    description: Takes whatever it is given.
    source: shop_rw
    scopes: ["customers:read"]
    writes: true
    parameters:
      id: {type: string, optional: true}
      country: {type: string, optional: true, sensitive: true}
      city: {type: string, optional: true, audit: clear}
    statement: update customers set name = coalesce(:id, :country, :city) where id = 0
  remember_wrongly:
    description: Breaks a constraint with whatever it is given.
    source: shop_rw
    scopes: ["customers:read"]
    writes: true
    parameters: {id: {type: string, optional: true}, country: {type: string, optional: true}}
    statement: insert into customers (id, name, email) values (1, :id, :country)
telemetry: {traces: {sample: 1.0, sql_comment: always}}
audit: {chain_key: "${env:CHAIN}", sinks: [{file: {path: "${env:AUDIT}"}}]}
"""
PLANTED: Final = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).map(
    lambda text: f"{MARK}{text}"
) | st.sampled_from(IDENTIFIERS)


async def _plant(world: World, value: str, tool: str) -> None:
    """Put a value wherever a caller can put one: arguments, names, ids, headers, tokens, bodies that are none."""
    where = f"{MARK}{value.encode().hex()}"
    arguments = {"id": value, "country": value, value: 1} | ({"city": value} if value in IDENTIFIERS else {})
    body = envelope("tools/call", {"name": tool, "arguments": arguments}, identifier=value)
    body["params"]["_meta"] |= {"traceparent": value, f"{MARK}/key": value, "progressToken": value}
    headers = routing(body) | dict.fromkeys(("traceparent", "tracestate", "baggage", "User-Agent", "Cookie"), where)
    await world.send(body, headers=headers | {"X-Request-ID": f"{where[:40]} é", "X-Forwarded-For": where})
    await world.send({**body, "params": body["params"] | {"arguments": {"id": value}}}, headers=routing(body))
    other: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": value, "params": {"name": value}}
    await world.send(other, headers={"MCP-Protocol-Version": "2025-11-25"})
    await world.send(body, client=None, headers=routing(body) | {"Authorization": f"Bearer {where}.a.b"})
    await world.send(body, client=None, headers={"Authorization": f"Basic {where}"})
    await world.send(body, headers={"Origin": f"https://{where[:50]}.example.com", "Mcp-Session-Id": where[:60]})
    await world.send(
        None, raw=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": value}).encode()
    )
    await world.send(None, url=f"{world.gateway.url}?{MARK}={where}&access_token={where}", raw=value.encode())


@EVERYTHING
async def test_nothing_planted_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: io.StringIO) -> None:
    audit = tmp_path / "audit.jsonl"
    async with running_http_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        async with open_world(tmp_path, CONFIGURATION + TELLING, {"CHAIN": SECRET, "AUDIT": str(audit)}) as world:
            loop = asyncio.get_running_loop()

            @settings(max_examples=25, suppress_health_check=list(HealthCheck))
            @given(value=PLANTED, tool=st.sampled_from(TOOLS))
            def plant(value: str, tool: str) -> None:
                asyncio.run_coroutine_threadsafe(_plant(world, value, tool), loop).result(30)

            await asyncio.to_thread(plant)
            for value in IDENTIFIERS:
                await _plant(world, value, "remember")
                await _plant(world, value, "remember_wrongly")
            rows = (await world.call("customer_by_id", {"id": 5})).body
            email = json.loads(rows)["result"]["structuredContent"]["rows"][0]["email"]
            token = await world.credentials().token()
            async with world.http.get(f"{world.gateway.admin_url}/metrics") as response:
                metrics = await response.text()
    spans = b"".join(collector.raw).decode(errors="replace")
    told = {"spans": spans, "metrics": metrics, "log": log.getvalue(), "audit": audit.read_text()}
    for name, text in told.items():
        assert "remember_wrongly" in text, name
        for secret in (MARK, *IDENTIFIERS, token, email, "reader-secret", SECRET):
            assert secret not in text, name
    assert "reader" not in spans
    assert "reader" not in metrics
    assert '"country"' not in told["audit"].replace('"country":"hmac:', ""), "sensitive is absent, others are hashed"
    for line in told["log"].split("\n")[:-1]:
        assert {"time", "level", "logger", "event"} <= json.loads(line).keys()
