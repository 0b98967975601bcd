"""The rendered objects agree with each other, with the gateway, and with the figures that we promise."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway import __version__
from gateway.config.units import parse_duration
from tests.k8s.rendered import (
    OVERLAYS,
    VARIANTS,
    Object,
    configuration,
    containers,
    every,
    gateway_container,
    objects,
    one,
)
from tests.k8s.tools import ROOT
from tests.world import open_world

# What PostgreSQL's defaults admit: max_connections 100 less superuser_reserved_connections 3.
ADMITTED = 97
PODS = {"app.kubernetes.io/name": "mcp-database-gateway"}


def _template(deployment: Object) -> dict[str, Any]:
    template: dict[str, Any] = deployment["spec"]["template"]
    return template


@pytest.mark.parametrize("name", VARIANTS)
def test_figures(name: str) -> None:
    resources = gateway_container(name)["resources"]
    assert resources == {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    scaler = one(name, "HorizontalPodAutoscaler")["spec"]
    (metric,) = scaler["metrics"]
    assert metric["resource"]["name"] == "cpu"
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    if name != "development":
        assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 6)
        assert one(name, "Deployment")["spec"].get("replicas", scaler["minReplicas"]) == 3


def test_nobody_but_the_autoscaler_counts_replicas_in_production() -> None:
    assert "replicas" not in one("production", "Deployment")["spec"]
    assert "replicas" not in one("staging", "Deployment")["spec"]
    assert one("base", "Deployment")["spec"]["replicas"] == 3


async def test_probes_ask_what_is_served(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, aiohttp.ClientSession() as http:
        listeners = {"admin": world.gateway.admin_url, "mcp": world.base}
        for name in VARIANTS:
            container = gateway_container(name)
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container[kind]["httpGet"]
                assert asked.get("scheme", "HTTP") == "HTTP"
                async with http.get(listeners[asked["port"]] + asked["path"]) as response:
                    assert response.status == 200
            assert container["readinessProbe"]["httpGet"]["path"] != container["livenessProbe"]["httpGet"]["path"]


async def test_the_way_in_leads_to_what_agents_need_and_to_no_more(tmp_path: Path) -> None:
    (rule,) = one("production", "HTTPRoute")["spec"]["rules"]
    prefixes = {each["path"]["value"] for each in rule["matches"]}
    (host,) = one("ingress", "Ingress")["spec"]["rules"]
    assert {path["path"] for path in host["http"]["paths"]} == prefixes
    async with open_world(tmp_path) as world:
        for prefix in prefixes:
            async with world.http.get(world.base + prefix) as response:
                assert response.status != 404
    assert not any(prefix == "/" or prefix.startswith("/healthz") for prefix in prefixes)
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}, "streams end when the gateway ends them"


@pytest.mark.parametrize("name", VARIANTS)
def test_ports_match(name: str) -> None:
    settings = configuration(name)
    ports = {each["name"]: each["containerPort"] for each in gateway_container(name)["ports"]}
    assert ports == {"mcp": settings["server"]["port"], "admin": settings["admin"]["port"]}
    assert settings["server"]["host"] == settings["admin"]["host"] == "0.0.0.0"
    (port,) = one(name, "Service")["spec"]["ports"]
    assert (port["name"], port["targetPort"], port["port"]) == ("mcp", "mcp", settings["server"]["port"])
    assert port["appProtocol"] == ("https" if "tls" in settings["server"] else "http")
    for route in every(name, "HTTPRoute"):
        (reference,) = route["spec"]["rules"][0]["backendRefs"]
        assert (reference["name"], reference["port"]) == ("gateway", port["port"])
    for policy in every(name, "BackendTLSPolicy"):
        (target,) = policy["spec"]["targetRefs"]
        assert (target["name"], target["sectionName"]) == ("gateway", "mcp")
        assert policy["spec"]["validation"]["hostname"] in one(name, "Certificate")["spec"]["dnsNames"]


@pytest.mark.parametrize("name", VARIANTS)
def test_routes_carry_the_public_name(name: str) -> None:
    public = configuration(name)["server"]["public_url"].partition("://")[2]
    assert all(route["spec"]["hostnames"] == [public] for route in every(name, "HTTPRoute"))
    assert all(rule["host"] == public for ingress in every(name, "Ingress") for rule in ingress["spec"]["rules"])


@pytest.mark.parametrize("name", VARIANTS)
def test_selectors_agree(name: str) -> None:
    called: dict[str, dict[str, str]] = {}
    for deployment in every(name, "Deployment"):
        labels = _template(deployment)["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert labels not in called.values(), "two Deployments would count each other's pods"
        called[deployment["metadata"]["name"]] = labels
        for spread in _template(deployment)["spec"].get("topologySpreadConstraints", ()):
            assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
    assert called["gateway"].items() >= PODS.items()
    for service in every(name, "Service"):
        (chosen,) = (own for own, labels in called.items() if service["spec"]["selector"].items() <= labels.items())
        assert service["metadata"]["name"].startswith(chosen)
    for budget in every(name, "PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"].items() <= called[budget["metadata"]["name"]].items()
    target = one(name, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "gateway")


@pytest.mark.parametrize("name", VARIANTS)
def test_everything_is_in_one_namespace_and_named_things_are_there(name: str) -> None:
    (namespace,) = every(name, "Namespace")
    called = namespace["metadata"]["name"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [each["metadata"] for each in objects(name) if each["kind"] != "Namespace"]
    assert name == "base" or {each.get("namespace") for each in others} == {called}
    accounts = {each["metadata"]["name"] for each in every(name, "ServiceAccount")}
    made = {each["spec"]["secretName"] for each in every(name, "Certificate")}
    made |= {each["spec"]["target"]["name"] for each in every(name, "ExternalSecret")}
    page = (ROOT / "docs/how-to/kubernetes.md").read_text()
    for deployment in every(name, "Deployment"):
        spec = _template(deployment)["spec"]
        assert spec.get("serviceAccountName", "gateway") in accounts
        for secret in (each["secret"]["secretName"] for each in spec.get("volumes", ()) if "secret" in each):
            assert secret in made or f"`{secret}`" in page, "whoever installs it must be told of it"


@pytest.mark.parametrize("name", VARIANTS)
def test_pods_have_no_rights(name: str) -> None:
    for deployment, container in containers(name):
        spec = _template(deployment)["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] >= 10000
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert "requests" in container["resources"]
        assert "limits" in container["resources"]


@pytest.mark.parametrize("name", VARIANTS)
def test_images_are_pinned(name: str) -> None:
    for deployment, container in containers(name):
        image = container["image"]
        assert re.search(r"(?<!:latest)(?:@sha256:[0-9a-f]{64}|:[0-9][0-9.]*)$", image), image
        if deployment["metadata"]["name"] != "gateway":
            continue
        if VARIANTS[name].on == "overlays/production":
            assert "@sha256:" in image
        else:
            assert image.endswith(f":{__version__}")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_pod_that_goes_finishes_its_calls(name: str) -> None:
    server = configuration(name)["server"]
    spec = _template(one(name, "Deployment"))["spec"]
    command, seconds = gateway_container(name)["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    grace = parse_duration(server["shutdown_grace"])
    assert parse_duration(server["call_timeout"]) < grace
    assert int(seconds) + grace + 10 <= spec["terminationGracePeriodSeconds"]
    ready = gateway_container(name)["readinessProbe"]
    assert ready["timeoutSeconds"] < ready["periodSeconds"]
    rolling = one(name, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("name", VARIANTS)
def test_connections_stay_within_what_a_database_admits(name: str) -> None:
    settings = configuration(name)
    scaler = one(name, "HorizontalPodAutoscaler")["spec"]
    surge = one(name, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    assert settings["deployment"]["max_replicas"] >= scaler["maxReplicas"]
    assert settings["deployment"]["surge"] == surge
    for source in settings["sources"].values():
        clients = (scaler["maxReplicas"] + surge) * source["pool"]["max"]
        assert clients <= (_behind_pgbouncer(name, clients) if source.get("pgbouncer") else ADMITTED)


def _behind_pgbouncer(name: str, clients: int) -> int:
    parser = ConfigParser()
    parser.read_string(one(name, "ConfigMap", "pgbouncer-config")["data"]["pgbouncer.ini"])
    own, deployment = parser["pgbouncer"], one(name, "Deployment", "pgbouncer")["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert deployment["replicas"] * int(own["default_pool_size"]) <= ADMITTED
    assert own["pool_mode"] == "transaction"
    # One replica must be enough for all clients: the other one may be away.
    assert clients <= int(own["max_client_conn"])
    return int(own["max_client_conn"])


def test_overlays_only_patch() -> None:
    for name in OVERLAYS:
        folder = ROOT / "k8s/overlays" / name
        kinds = {each["kind"] for each in every(name, "Deployment")}
        assert kinds == {"Deployment"}
        written = (folder / "kustomization.yaml").read_text()
        (resources,) = re.findall(r"^resources:\n((?:  - .*\n)+)", written, re.MULTILINE)
        assert resources == "  - ../../base\n"


def test_one_object_a_file() -> None:
    for path in (ROOT / "k8s/base").glob("*.yaml"):
        (written,) = yaml.safe_load_all(path.read_text())
        name = "" if written["kind"] == "Kustomization" else written["metadata"]["name"]
        allowed = {written["kind"].lower(), f"{written['kind'].lower()}-{name}"}
        assert path.stem in allowed, "a file is called after its object"
