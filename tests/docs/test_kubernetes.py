"""The page on Kubernetes: the kustomization that it offers renders, with everything in its namespace."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import yaml

from tests.k8s.rendered import K8S, render

PAGE = (Path(__file__).parents[2] / "docs/how-to/kubernetes.md").read_text()


def test_a_repository_of_ones_own() -> None:
    (block,) = re.findall(r"```yaml\n(# other: kustomization\.yaml.*?)```", PAGE, re.DOTALL)
    folder = Path(tempfile.mkdtemp(dir=K8S.parent, prefix=".cache-"))
    try:
        here = os.path.relpath(K8S, folder)
        text = re.sub(r"github\.com/\S+/k8s/(\S+)\?ref=v\S+", rf"{here}/\1", block)
        assert "github" not in text
        (folder / "kustomization.yaml").write_text(text)
        for name in ("environment", "database", "tools"):
            (folder / f"{name}.yaml").write_text(f"# mine: {name}\n")
        objects = list(yaml.safe_load_all(render(folder)))
    finally:
        shutil.rmtree(folder)
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
