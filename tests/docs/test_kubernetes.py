"""The page on Kubernetes: the kustomization that it offers renders, with everything in its namespace."""

from __future__ import annotations

import re
from pathlib import Path

from tests.k8s.rendered import K8S, offered

PAGE = (Path(__file__).parents[2] / "docs/how-to/kubernetes.md").read_text()


def test_a_repository_of_ones_own() -> None:
    objects = offered(PAGE, {f"{name}.yaml": f"# mine: {name}\n" for name in ("environment", "database", "tools")})
    spaces = {each["metadata"].get("namespace") for each in objects if each["kind"] != "Namespace"}
    assert spaces == {"mcp-gateway-production"}
    (files,) = (each["data"] for each in objects if each["metadata"]["name"].startswith("gateway-config-"))
    assert files["tools.yaml"] == "# mine: tools\n"
    assert {"redis.yaml", "tls.yaml", "gateway.yaml"} <= files.keys()
    (deployment,) = (each for each in objects if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.your-organisation.example/mcp-database-gateway@sha256:")


def test_every_folder_is_in_the_table() -> None:
    components = {f"components/{path.parent.name}" for path in K8S.glob("components/*/kustomization.yaml")}
    overlays = {f"overlays/{path.parent.name}" for path in K8S.glob("overlays/*/kustomization.yaml")}
    named = set(re.findall(r"^\| `((?:components|overlays)/[a-z-]+)`", PAGE, re.MULTILINE))
    # What is not installed may be told, what is there must be.
    assert components | overlays <= named
