"""Every rendered object is what Kubernetes 1.25 and a current one accept, nothing misspelt and nothing unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.k8s.rendered import K8S, VARIANTS, Object, objects, render
from tests.k8s.tools import run_package, tools

SCHEMAS: Final[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "schemas.yaml").read_text())
RELEASES: Final = ("1.25", "1.37")


def type_of(each: Object) -> str:
    return f"{each['apiVersion']}/{each['kind']}"


def is_custom(each: Object) -> bool:
    """Whether another project defines it: Kubernetes' own groups end with k8s.io or have no dot."""
    group = each["apiVersion"].rpartition("/")[0]
    return ("." in group and not group.endswith(".k8s.io")) or group == "gateway.networking.k8s.io"


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_accepts_every_object(release: str, tmp_path: Path) -> None:
    files = []
    for name in VARIANTS:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all([each for each in objects(name) if not is_custom(each)]))
        files.append(str(path))
    files.append(str(tmp_path / "example.yaml"))
    Path(files[-1]).write_text(render(K8S / "examples/postgresql"))
    result = run_package(tools(), "kubernetes_validate", "--strict", "--kubernetes-version", release, *files)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WARN" not in result.stdout + result.stderr


def test_a_misspelt_field_is_found(tmp_path: Path) -> None:
    (deployment,) = (each for each in objects("production") if each["kind"] == "Deployment")
    spec = deployment["spec"]["template"]["spec"] | {"terminationGracePeriod": 60}
    wrong = deployment | {"spec": deployment["spec"] | {"template": {"spec": spec}}}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(wrong))
    result = run_package(tools(), "kubernetes_validate", "--strict", "--kubernetes-version", RELEASES[0], str(path))
    assert result.returncode != 0


@pytest.mark.parametrize("name", VARIANTS)
def test_custom_resources_follow_their_schemas(name: str) -> None:
    for each in filter(is_custom, objects(name)):
        assert each.keys() == {"apiVersion", "kind", "metadata", "spec"}
        Draft202012Validator(SCHEMAS[type_of(each)]).validate(each["spec"])


def test_every_schema_is_one_and_is_used() -> None:
    used = {type_of(each) for name in VARIANTS for each in filter(is_custom, objects(name))}
    assert used <= SCHEMAS.keys()
    assert all(each in used or each.startswith("monitoring.coreos.com/") for each in SCHEMAS)
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_nothing_is_twice() -> None:
    for name in VARIANTS:
        names = [(type_of(each), each["metadata"]["name"]) for each in objects(name)]
        assert len(names) == len(set(names))
