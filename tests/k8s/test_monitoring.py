"""Alerts fire when they should and link to a runbook; every query of the dashboard finds data of a gateway in use."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.telemetry.instruments import INSTRUMENTS
from tests.servers.otlp import running_http_collector
from tests.servers.programs import programs
from tests.servers.prometheus import PrometheusServer, running_prometheus
from tests.world import CONFIGURATION, World, open_world

ROOT: Final = Path(__file__).parents[2]
MONITORING: Final = ROOT / "k8s/components/monitoring"
RUNBOOKS: Final = ROOT / "docs/how-to/runbooks"
NAMES: Final = {
    name
    for each in INSTRUMENTS
    for name in (each.prometheus, *(f"{each.prometheus}_{part}" for part in ("bucket", "sum", "count")))
}


def groups() -> dict[str, Any]:
    loaded = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]
    assert isinstance(loaded, dict)
    return loaded


ALERTS: Final[list[dict[str, Any]]] = [rule for group in groups()["groups"] for rule in group["rules"]]


@pytest.fixture
def promtool() -> Path:
    return programs("prometheus")["promtool"]


def test_alerts_fire_when_they_should(promtool: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(groups()))
    cases = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text())
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], **cases}))
    for command in ("check", "test"):
        file = {"check": "rules.yaml", "test": "alerts.yaml"}[command]
        done = subprocess.run([promtool, command, "rules", file], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    tested = {each["alertname"] for case in cases["tests"] for each in case["alert_rule_test"] if each["exp_alerts"]}
    assert tested == {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_alert_has_a_runbook_that_names_it(alert: dict[str, Any]) -> None:
    text = (ROOT / alert["annotations"]["runbook_url"]).read_text()
    assert f"`{alert['alert']}`" in text
    assert re.findall("^## (.*)$", text, flags=re.MULTILINE) == ["Symptom", "Check", "Fix"]
    assert alert["labels"]["severity"] in {"info", "warning", "critical"}


def test_no_runbook_is_left_over_and_links_lead_somewhere() -> None:
    linked = {Path(alert["annotations"]["runbook_url"]).name for alert in ALERTS}
    assert {file.name for file in RUNBOOKS.glob("*.md")} == linked
    for file in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            assert (file.parent / target).exists(), (file.name, target)


def queries() -> list[str]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_every_query_names_metrics_that_exist() -> None:
    for expression in [*queries(), *(alert["expr"] for alert in ALERTS)]:
        found = set(re.findall(r"\b((?:gateway|mcp|db|http|process)_\w+)(?=[{\[])", expression))
        assert found
        assert found <= NAMES, found - NAMES


def test_every_legend_names_labels_that_its_query_keeps() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \((.*?)\)", target["expr"]))))
            legend = set(re.findall(r"{{(\w+)}}", target.get("legendFormat") or ""))
            assert legend <= (kept or {"pod", "instance"}), panel["title"]


async def _load(world: World, stop: asyncio.Event) -> None:
    """Every kind of traffic, again and again."""
    while not stop.is_set():
        await asyncio.gather(*(world.call("customer_by_id", {"id": number}) for number in range(1, 5)))
        await world.call("customer_by_id", {"id": "no number"})
        await world.modern("tools/list")
        await world.send({}, client=None, headers={"Authorization": "Bearer a.b.c"})


async def test_every_query_of_the_dashboard_finds_data(
    promtool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audited = f"audit: {{chain_key: '${{env:CHAIN}}', sinks: [{{file: {{path: {tmp_path}/audit.jsonl}}}}]}}\n"
    certificate = tmp_path / "ca.pem"
    certificate.write_bytes(_certificate())
    database = (
        f"  pg: {{engine: postgresql, host: localhost, port: 1, database: x, user: x, tls: {{ca: {certificate}}}}}\n"
    )
    configuration = CONFIGURATION.replace("sources:\n", f"sources:\n{database}") + audited
    async with running_http_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        async with open_world(tmp_path, configuration, {"CHAIN": "k" * 32}) as world:
            stop = asyncio.Event()
            load = asyncio.create_task(_load(world, stop))
            with running_prometheus(world.gateway.admin_url.removeprefix("http://")) as server:
                await _until_all_have_data(server)
            stop.set()
            await load


async def _until_all_have_data(server: PrometheusServer) -> None:
    missing = [expression.replace("$__rate_interval", "5s") for expression in queries()]
    assert len(missing) > 20
    try:
        async with asyncio.timeout(20):
            while missing:
                missing = [each for each in missing if not await asyncio.to_thread(_has_data, server, each)]
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail("no data: " + "\n".join(missing))


def _has_data(server: PrometheusServer, expression: str) -> bool:
    return any(sample["value"][1] != "NaN" for sample in server.query(expression))


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=90))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
