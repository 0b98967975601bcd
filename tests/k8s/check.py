"""`make manifests`: what the tests cannot do quickly, and a clear word where a program is missing."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tests.k8s.rendered import VARIANTS, text
from tests.k8s.tools import MissingProgram, checkov, kubectl, run_package

EXCEPTIONS: Final = {
    ("development", "CKV_K8S_43"): "the image is built and loaded by hand; it has no digest before it is pushed",
    ("development", "CKV_K8S_15"): "the image is on the node and in no registry, so it cannot always be pulled",
    ("staging", "CKV_K8S_43"): "staging takes what was built last under the version's tag; production takes a digest",
    ("ingress", "CKV_K8S_43"): "a test overlay of the base, which leaves naming the image to overlays",
    ("pgbouncer", "CKV_K8S_43"): "the same",
    ("optional", "CKV_K8S_11"): "a collector may use what CPU is idle; its memory is limited",
    ("optional", "CKV_K8S_15"): "images of other projects under a version's tag, which do not change",
    ("optional", "CKV_K8S_43"): "the same; pin your own copies by digest",
}
"""Checks of checkov that may fail, each with its reason; any other failure counts, and so does one that is gone."""


def _failures(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """What fails in each set of manifests: the check's number, and where. One run for all: starting is slow."""
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for name in found:
            (Path(folder) / f"{name}.yaml").write_text(text(name))
        arguments = (
            "--framework",
            "kubernetes",
            "--directory",
            folder,
            "--output",
            "json",
            "--skip-download",
            "--quiet",
        )
        result = run_package(checkov(), "checkov.main", *arguments)
    try:
        report: dict[str, Any] = json.loads(result.stdout)
        failed = report["results"]["failed_checks"]
        assert report["summary"]["passed"] > 0
        assert report["summary"]["parsing_errors"] == 0
    except (ValueError, KeyError, TypeError, AssertionError):
        raise MissingProgram(f"checkov gave no report: {(result.stderr or result.stdout)[-400:]}") from None
    for each in failed:
        found[Path(each["file_path"]).stem][each["check_id"]] = f"{each['resource']}: {each['check_name']}"
    return found


def main() -> int:
    """Render everything and ask checkov; the tests of this folder do the rest."""
    try:
        print(f"kubectl: {kubectl()}")
        for name in VARIANTS:
            print(f"  rendered {name}: {text(name).count('kind: ')} objects")
        checkov()
        wrong = []
        for name, failed in _failures(VARIANTS.keys() - {"base"}).items():  # which is not applied by itself
            allowed = {check for variant, check in EXCEPTIONS if variant == name}
            wrong += [f"{name}: {check} {what}" for check, what in failed.items() if check not in allowed]
            wrong += [f"{name}: {check} no longer fails; take it off the list" for check in allowed - failed.keys()]
    except MissingProgram as error:
        print(f"make manifests: {error}", file=sys.stderr)
        return 1
    print("\n".join(wrong) or "checkov: nothing failed but the exceptions listed in tests/k8s/check.py")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
