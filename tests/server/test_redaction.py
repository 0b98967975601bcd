"""No secret, argument, row or identity appears in any span or metric; no secret or value in any log line."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.servers.otlp import running_http_collector
from tests.world import CONFIGURATION, World, envelope, open_world, routing

EVERYTHING = pytest.mark.parametrize("log", ["DEBUG"], indirect=True)
"""All that the gateway writes, at the most talkative level."""
MARK = "pl4nted"
TOOLS = ("customer_by_id", "customers_in", f"{MARK}-tool", "orders_total")
PLANTED = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).map(lambda text: MARK + text)


async def _plant(world: World, value: str, tool: str) -> None:
    """Put a value wherever a caller can put one."""
    where = value.encode().hex()
    body = envelope("tools/call", {"name": tool, "arguments": {"id": value, "country": value, value: 1}})
    body["params"]["_meta"]["traceparent"] = value
    body["params"]["_meta"][f"{MARK}/key"] = value
    await world.send(body, headers=routing(body) | {"traceparent": f"{MARK}{where}", "User-Agent": f"{MARK}{where}"})
    await world.send(body, headers=routing(body) | {"X-Request-ID": f"{MARK} {where}"})
    await world.send(body, client=None, headers=routing(body) | {"Authorization": f"Bearer {MARK}{where}.a.b"})
    await world.send(
        None, raw=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": value}).encode()
    )
    await world.send(None, url=f"{world.gateway.url}?{MARK}={where}", raw=value.encode())


@EVERYTHING
async def test_nothing_planted_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: io.StringIO) -> None:
    async with running_http_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        configuration = CONFIGURATION + "telemetry: {traces: {sample: 1.0, sql_comment: always}}\n"
        async with open_world(tmp_path, configuration) as world:
            loop = asyncio.get_running_loop()

            @settings(max_examples=15, suppress_health_check=list(HealthCheck))
            @given(
                value=PLANTED, tool=st.sampled_from(["customer_by_id", "customers_in", f"{MARK}-tool", "orders_total"])
            )
            def plant(value: str, tool: str) -> None:
                asyncio.run_coroutine_threadsafe(_plant(world, value, tool), loop).result(30)

            await asyncio.to_thread(plant)
            rows = (await world.call("customer_by_id", {"id": 5})).body
            email = json.loads(rows)["result"]["structuredContent"]["rows"][0]["email"]
            token = await world.credentials().token()
            async with world.http.get(f"{world.gateway.admin_url}/metrics") as response:
                metrics = await response.text()
    told = b"".join(collector.raw).decode(errors="replace")
    assert "customer_by_id" in told
    assert "customer_by_id" in log.getvalue()
    for secret in (MARK, token, email, "reader-secret"):
        assert secret not in told
        assert secret not in metrics
        assert secret not in log.getvalue()
    assert "reader" not in told
    assert "reader" not in metrics
