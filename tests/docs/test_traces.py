"""The page on traces: its kustomization for a Tempo of one's own renders, and leaves nothing of ours behind."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

from tests.k8s.rendered import K8S, VARIANTS, Object, Variant, offered, one

VARIANT: Final = "optional" if "tracing" in VARIANTS.get("optional", Variant("")).components else "production"
PAGE = (Path(__file__).parents[2] / "docs/how-to/traces.md").read_text()


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"].startswith(name)]
    return found


def endpoint(collector: Object) -> str:
    (container,) = collector["spec"]["template"]["spec"]["containers"]
    return next(str(each["value"]) for each in container["env"] if each["name"] == "TRACES_ENDPOINT")


def test_a_tempo_of_ones_own() -> None:
    objects = offered(PAGE, {})
    assert not [each for each in objects if each["metadata"]["name"] == "jaeger"]
    assert endpoint(named(objects, "Deployment", "otel-collector")) == "tempo.tempo.svc:4317"
    policy = named(objects, "NetworkPolicy", "otel-collector")
    store, dns = policy["spec"]["egress"]
    assert store == {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tempo"}}}],
        "ports": [{"port": 4317, "protocol": "TCP"}],
    }
    assert {each["port"] for each in dns["ports"]} == {53}


def test_the_collector_hands_on_what_the_gateway_sends() -> None:
    """From the gateway's variable over the collector's receiver and pipeline to Jaeger: every name fits the next."""
    gateway = one(VARIANT, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each.get("value") for each in gateway["env"]}
    service = one(VARIANT, "Service", "otel-collector")
    assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://{service['metadata']['name']}:4317"
    assert 4317 in {port["port"] for port in service["spec"]["ports"]}
    written = yaml.safe_load((K8S / "components/tracing/collector-config.yaml").read_text())
    pipeline = written["service"]["pipelines"]["traces"]
    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) <= written[part].keys()
    assert set(written["service"]["extensions"]) <= written["extensions"].keys()
    assert written["exporters"]["otlp"]["endpoint"] == "${env:TRACES_ENDPOINT}"
    host, _, port = endpoint(one(VARIANT, "Deployment", "otel-collector")).partition(":")
    jaeger = one(VARIANT, "Service", host)
    assert int(port) in {each["port"] for each in jaeger["spec"]["ports"]}
