"""The network policies admit the flows of docs/how-to/network-zones.md, and not one more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Final

import pytest

from tests.k8s.flows import Peer, admits
from tests.k8s.rendered import VARIANTS, every, one
from tests.k8s.tools import ROOT

Flow = tuple[str, str, str]
PAGE: Final = ROOT / "docs/how-to/network-zones.md"


def _namespace(name: str) -> dict[str, str]:
    return {"kubernetes.io/metadata.name": name}


def _app(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


PEERS: Final = {
    "balancer": Peer(_namespace("ingress"), _app("envoy")),
    "monitoring": Peer(_namespace("monitoring"), _app("prometheus")),
    "collector": Peer(_namespace("monitoring"), _app("opentelemetry-collector")),
    "cluster DNS": Peer(_namespace("kube-system"), {"k8s-app": "kube-dns"}),
    "data zone": Peer(address="10.0.20.15"),
    "staging data zone": Peer(address="10.1.20.15"),
    "cache zone": Peer(address="10.0.21.15"),
    "egress proxy": Peer(address="10.0.30.15"),
    "Internet": Peer(address="203.0.113.10"),
    "development database": Peer(_namespace("databases"), _app("postgresql")),
    "another pod of databases": Peer(_namespace("databases"), _app("mysql")),
    "another pod of kube-system": Peer(_namespace("kube-system"), _app("metrics-server")),
    "another namespace": Peer(_namespace("default"), _app("mcp-database-gateway")),
    "impostor of DNS": Peer(_namespace("default"), {"k8s-app": "kube-dns"}),
    "node network": Peer(address="10.0.10.5"),
    "pod network": Peer(address="10.244.1.5"),
    "beside the data zone": Peer(address="10.0.22.15"),
    "the cloud's metadata": Peer(address="169.254.169.254"),
    "shared addresses": Peer(address="100.64.0.1"),
    "private 172": Peer(address="172.16.0.1"),
    "private 192": Peer(address="192.168.1.1"),
}
PORTS: Final = [
    *(
        f"{port}/TCP"
        for port in (22, 53, 80, 443, 1521, 3128, 3306, 4317, 4318, 5432, 6379, 6432, 6443, 8080, 8443, 9464)
    ),
    *("53/UDP", "443/UDP", "5432/UDP"),
]


def documented() -> set[Flow]:
    """The page's table."""
    _, _, table = PAGE.read_text().partition("| from | to | port | what |\n")
    flows = set()
    for line in table.partition("\n\n")[0].splitlines()[1:]:
        start, end, ports, _ = (cell.strip() for cell in line.strip("|").split("|"))
        flows |= {(start, end, port) for port in ports.split(", ")}
    return flows


def _own(name: str, app: str = "mcp-database-gateway") -> Peer:
    (namespace,) = every(name, "Namespace")
    return Peer(_namespace(namespace["metadata"]["name"]), _app(app))


def _peers(name: str) -> dict[str, Peer]:
    """Everyone else, those of the same namespace too."""
    return {
        **PEERS,
        "a pod beside it": _own(name, "debug"),
        **{each: _own(name, each) for each in ("pgbouncer", "otel-collector")},
    }


def admitted(name: str, called: str, app: str) -> Iterator[Flow]:
    policies, own, peers = every(name, "NetworkPolicy"), _own(name, app), _peers(name)
    for (peer, what), port in product([*peers.items(), ("gateway", _own(name))], PORTS):
        if peer != called:
            if admits(policies, own, what, "Ingress", port):
                yield peer, called, port
            if admits(policies, own, what, "Egress", port):
                yield called, peer, port


# What a variant has other than the page's table: flows that it lacks, and flows that it has more.
_DIRECT: Final = ("gateway", "data zone", "5432/TCP")
CHANGES: Final[dict[str, tuple[set[Flow], set[Flow]]]] = {
    "development": ({_DIRECT}, {("gateway", "development database", "5432/TCP")}),
    "staging": ({_DIRECT}, {("gateway", "staging data zone", "5432/TCP")}),
    "redis": (set(), {("gateway", "cache zone", "6379/TCP")}),
    "oracle-wallet": (set(), {("gateway", "cache zone", "6379/TCP"), ("gateway", "data zone", "1521/TCP")}),
    "egress-proxy": ({("gateway", "Internet", "443/TCP")}, {("gateway", "egress proxy", "3128/TCP")}),
    "pgbouncer": ({_DIRECT}, {("gateway", "pgbouncer", "6432/TCP")}),
    "tracing": (set(), {("gateway", "otel-collector", "4317/TCP")}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_gateway_has_the_documented_flows_and_no_other(name: str) -> None:
    fewer, more = CHANGES.get("tracing" if "tracing" in VARIANTS[name].components else name, (set(), set()))
    assert fewer <= documented()
    assert set(admitted(name, "gateway", "mcp-database-gateway")) == documented() - fewer | more


def test_pgbouncer_has_its_flows_and_no_other() -> None:
    assert set(admitted("pgbouncer", "pgbouncer", "pgbouncer")) == {
        ("gateway", "pgbouncer", "6432/TCP"),
        ("pgbouncer", "cluster DNS", "53/UDP"),
        ("pgbouncer", "cluster DNS", "53/TCP"),
        ("pgbouncer", "data zone", "5432/TCP"),
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_whatever_else_runs_there_talks_to_nobody(name: str) -> None:
    assert not set(admitted(name, "a pod beside it", "debug"))


def test_the_page_names_the_networks_of_the_manifests() -> None:
    page = PAGE.read_text()
    policy = one("production", "NetworkPolicy", "gateway")
    blocks = [to["ipBlock"]["cidr"] for rule in policy["spec"]["egress"] for to in rule["to"] if "ipBlock" in to]
    assert all(f"`{block}`" in page for block in blocks)
    assert re.search(r"10\.244\.0\.0/16", page)
