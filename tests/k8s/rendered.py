"""The manifests as `kubectl kustomize` renders them: the shipped overlays, and test overlays of the components."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from tests.k8s.tools import ROOT, kubectl

K8S: Final = ROOT / "k8s"
Object = dict[str, Any]
OVERLAYS: Final = ("development", "staging", "production")


@dataclass(frozen=True, slots=True)
class Variant:
    """A set of manifests: something that is there, with components beside it."""

    on: str
    components: tuple[str, ...] = ()


def _optional() -> tuple[str, ...]:
    """Components of which no shipped overlay and no other variant knows."""
    named = {
        "egress-proxy",
        "cert-manager",
        "external-secrets",
        "gateway-api",
        "ingress",
        "oracle-wallet",
        "pgbouncer",
        "redis",
    }
    found = {path.parent.name for path in (K8S / "components").glob("*/kustomization.yaml")}
    used = {Path(each).name for each in kustomization(K8S / "overlays/production").get("components", ())}
    return tuple(sorted(found - named - used))


def kustomization(folder: Path) -> Object:
    """The kustomization of a folder, as written."""
    written: Object = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return written


VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType(
    {
        **{name: Variant(f"overlays/{name}") for name in OVERLAYS},
        "base": Variant("base"),
        "ingress": Variant("base", ("cert-manager", "ingress")),
        "redis": Variant("overlays/production", ("redis",)),
        "egress-proxy": Variant("overlays/production", ("egress-proxy",)),
        "oracle-wallet": Variant("overlays/production", ("redis", "oracle-wallet")),
        "pgbouncer": Variant("base", ("cert-manager", "pgbouncer")),
        **({"optional": Variant("overlays/production", _optional())} if _optional() else {}),
    }
)


def _folder(name: str) -> Path:
    """What to render; a test overlay is written first where there is none."""
    variant = VARIANTS[name]
    if not variant.components:
        return K8S / variant.on
    folder = ROOT / ".cache" / "k8s" / f"{name}.{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    written = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        # A component's own objects are in no namespace before an overlay says which.
        "namespace": kustomization(K8S / variant.on).get("namespace", "mcp-gateway-test"),
        "resources": [os.path.relpath(K8S / variant.on, folder)],
        "components": [os.path.relpath(K8S / "components" / each, folder) for each in variant.components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return folder


@cache
def text(name: str) -> str:
    """What `kubectl apply` would be given."""
    folder = _folder(name)
    try:
        return render(folder)
    finally:
        if not folder.is_relative_to(K8S):
            (folder / "kustomization.yaml").unlink()
            folder.rmdir()


def render(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder."""
    command = [str(kubectl()), "kustomize", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr  # deprecated fields are told there
    return result.stdout


def offered(page: str, files: Mapping[str, str]) -> list[Object]:
    """What the kustomization of a page renders, with the repository that it names being this one.

    Args:
        page: its text, with one block that begins `# other: kustomization.yaml`.
        files: what stands beside it.
    """
    (block,) = re.findall(r"```yaml\n(# other: kustomization\.yaml.*?)```", page, re.DOTALL)
    folder = Path(tempfile.mkdtemp(dir=ROOT, prefix=".cache-"))
    try:
        here = os.path.relpath(K8S, folder)
        written = re.sub(r"github\.com/\S+/k8s/(\S+)\?ref=v\S+", rf"{here}/\1", block)
        assert "github" not in written
        for name, content in {"kustomization.yaml": written, **files}.items():
            (folder / name).write_text(content)
        return list(yaml.safe_load_all(render(folder)))
    finally:
        shutil.rmtree(folder)


@cache
def objects(name: str) -> tuple[Object, ...]:
    """The rendered objects."""
    return tuple(yaml.safe_load_all(text(name)))


def every(name: str, kind: str) -> list[Object]:
    """The objects of one kind."""
    return [each for each in objects(name) if each["kind"] == kind]


def one(name: str, kind: str, called: str = "gateway") -> Object:
    """The object of that kind and name; a generated name may have its hash."""
    pattern = re.compile(re.escape(called) + r"(-[a-z0-9]{10})?")
    (found,) = (each for each in every(name, kind) if pattern.fullmatch(each["metadata"]["name"]))
    return found


def containers(name: str) -> Iterator[tuple[Object, Object]]:
    """Every container, init ones included, with its Deployment."""
    for deployment in every(name, "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            yield deployment, container


def gateway_container(name: str) -> Object:
    """The container of the gateway itself."""
    (found,) = one(name, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def configuration(name: str) -> dict[str, Any]:
    """The settings in the rendered ConfigMap, files put together, references as they are written."""
    together: dict[str, Any] = {}
    for document in one(name, "ConfigMap", "gateway-config")["data"].values():
        _merge(together, yaml.safe_load(document))
    return together


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            assert key not in into, f"{key} is written twice"
            into[key] = value
