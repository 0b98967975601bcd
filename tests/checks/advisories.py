"""`python -m tests.checks.advisories`: whether a pinned package has a known vulnerability, by pip-audit.

pip-audit calls a package that its service does not know "skipped", and ends well; a mirror in the place of PyPI knows
none. Here only packages that a service has judged count, and what was not judged is said aloud.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LOCK: Final = Path(__file__).parents[2] / "requirements.lock"
SERVICES: Final = ("pypi", "osv")
"""Asked in turn until one knows everything: a network may let through one of them only."""
REQUIRED: Final = "GATEWAY_REQUIRE_AUDIT"
_TIMEOUT: Final = 15


@dataclass(frozen=True, slots=True)
class Audit:
    """What one service said.

    Attributes:
        service: its name.
        judged: packages that it knows.
        unknown: packages that it does not know.
        vulnerable: a line for each known vulnerability.
        trouble: why it said nothing; empty when it did.
    """

    service: str
    judged: int = 0
    unknown: Sequence[str] = ()
    vulnerable: Sequence[str] = ()
    trouble: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether every package was judged."""
        return not self.trouble and not self.unknown and self.judged > 0

    @property
    def gap(self) -> str:
        """What is missing, in one line."""
        if self.trouble:
            return f"{self.service}: {self.trouble}"
        if not self.judged:
            return f"{self.service}: knows none of {len(self.unknown)} packages; does a mirror answer in its place?"
        return f"{self.service}: does not know {', '.join(self.unknown)}"


def ask(service: str, lock: Path = LOCK, *options: str) -> Audit:
    """Have one service judge every package of a lock file.

    Args:
        service: as pip-audit calls it.
        lock: requirements with hashes.
        options: further ones of pip-audit.
    """
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--requirement", str(lock)]
    command += ["--vulnerability-service", service, "--timeout", str(_TIMEOUT), "--format", "json", *options]
    result = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(result.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = result.stderr.strip().splitlines()
        return Audit(service, trouble=lines[-1] if lines else f"pip-audit ended with {result.returncode}")
    judged = [package for package in packages if "skip_reason" not in package]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    return Audit(service, len(judged), unknown, [line for package in judged for line in _lines(package)])


def _lines(package: Mapping[str, Any]) -> list[str]:
    named = f"{package['name']} {package['version']}"
    return [
        f"{named}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version yet'}"
        for found in package["vulns"]
    ]


def verdict(audits: Sequence[Audit], *, is_required: bool) -> tuple[int, str]:
    """The exit status and what to tell of what the services said, the last one last."""
    if vulnerable := dict.fromkeys(line for audit in audits for line in audit.vulnerable):
        return 1, "\n".join(["Packages with known vulnerabilities:", *(f"  {line}" for line in vulnerable)])
    if audits[-1].is_whole:
        return 0, f"{audits[-1].judged} pinned packages, none with a known vulnerability ({audits[-1].service})"
    told = [
        "NOT AUDITED: nobody said whether the pinned packages have known vulnerabilities.",
        *(f"  {audit.gap}" for audit in audits),
        "  Run `make check` where https://pypi.org or https://api.osv.dev can be reached.",
        f"  {REQUIRED}=1 makes this a failure.",
    ]
    return int(is_required), "\n".join(told)


def main() -> int:
    """1 for a known vulnerability, or when nothing could be found out and `GATEWAY_REQUIRE_AUDIT` is 1."""
    audits: list[Audit] = []
    for service in SERVICES:
        audits.append(ask(service))
        if audits[-1].is_whole or audits[-1].vulnerable:
            break
    status, told = verdict(audits, is_required=os.environ.get(REQUIRED) == "1")
    is_good = audits[-1].is_whole and not status
    print(told if is_good else f"{'!' * 100}\n{told}\n{'!' * 100}", file=sys.stdout if is_good else sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
