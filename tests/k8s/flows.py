"""What a set of network policies admits, by the rules of Kubernetes' documentation.

A pod that no policy of a direction selects is open in that direction; one that
any selects is closed but for what any of them allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]
NAMED = {"mcp": 8080, "admin": 9464}
"""The ports that the gateway's container names; a policy may say the name."""


@dataclass(frozen=True)
class Peer:
    """One end of a connection: a pod with its labels and its namespace's, or an address outside the cluster."""

    namespace: Mapping[str, str] = field(default_factory=dict)
    pod: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _is_peer(rule: Mapping[str, Any], peer: Peer, own_namespace: Mapping[str, str]) -> bool:
    if "ipBlock" in rule:
        if not peer.address:
            return False
        address = ip_address(peer.address)
        excluded = rule["ipBlock"].get("except", ())
        return address in ip_network(rule["ipBlock"]["cidr"]) and not any(
            address in ip_network(each) for each in excluded
        )
    if peer.address:
        return False
    is_near = (
        _selects(rule["namespaceSelector"], peer.namespace)
        if "namespaceSelector" in rule
        else peer.namespace == own_namespace
    )
    return is_near and _selects(rule.get("podSelector", {}), peer.pod)


def admits(policies: Iterable[Policy], own: Peer, peer: Peer, direction: str, port: str) -> bool:
    """Whether a pod may be reached from a peer ("Ingress") or may reach it ("Egress").

    Args:
        port: number and protocol, as in "443/TCP".
    """
    selecting = [
        each["spec"]
        for each in policies
        if direction in each["spec"]["policyTypes"] and _selects(each["spec"]["podSelector"], own.pod)
    ]
    number, _, protocol = port.partition("/")
    key, side = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    return not selecting or any(
        any(_is_peer(each, peer, own.namespace) for each in rule[side])
        and any(
            str(NAMED.get(each["port"], each["port"])) == number and each["protocol"] == protocol
            for each in rule["ports"]
        )
        for spec in selecting
        for rule in spec.get(key, ())
    )
