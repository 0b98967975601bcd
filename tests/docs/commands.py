"""Every command that the documentation shows, and why some of them are not run by the reader's test."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^( *)```(console|sh|bash|shell)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a block.

    Attributes:
        page: where it stands.
        block: the line at which its block begins.
        text: what is typed.
        shown: what the page says it prints; "" for nothing.
    """

    page: str
    block: int
    text: str
    shown: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.block} {self.text.partition(chr(10))[0]}"


def commands() -> list[Command]:
    """All of them, in order."""
    pages = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    return [each for page in pages for each in _of_page(str(page.relative_to(ROOT)), page.read_text())]


def _of_page(page: str, text: str) -> Iterator[Command]:
    for found in _FENCE.finditer(text):
        lines = [line.removeprefix(found[1]) for line in found[3].splitlines()]
        line = text.count("\n", 0, found.start()) + 1
        if found[2] == "console":
            yield from _of_session(page, line, lines)
        else:
            yield Command(page, line, "\n".join(lines))


def _of_session(page: str, line: int, lines: list[str]) -> Iterator[Command]:
    assert lines[0].startswith("$ "), f"{page}:{line}: a console block begins with a prompt"
    starts = [index for index, each in enumerate(lines) if each.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        rest = [lines[start].removeprefix("$ "), *lines[start + 1 : end]]
        length = next(count for count in range(1, len(rest) + 1) if _is_whole("\n".join(rest[:count])))
        yield Command(page, line, "\n".join(rest[:length]), "\n".join(rest[length:]))


@cache
def _is_whole(text: str) -> bool:
    """Whether a shell would wait for no more lines."""
    if text.endswith("\\"):
        return False
    result = subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False)
    return result.returncode == 0 and not result.stderr


CLUSTER: Final = "needs a cluster; what it applies is rendered and checked by tests/k8s"
ENGINE: Final = "needs a container engine; tests/k8s/test_image.py does the Containerfile's steps by hand"
PROVIDER: Final = "needs an account at that provider"

REASONS: Final[tuple[tuple[str, str], ...]] = (
    (r"kubectl (?!kustomize|.*--dry-run=client)", CLUSTER),
    (r"kustomize edit", "needs kustomize by itself; the overlays are rendered by tests/k8s"),
    (r"curl .*(127\.0\.0\.1:9464|localhost:16686|localhost:3200)", "asks what `kubectl port-forward` reaches"),
    (r"kind |docker |make image", ENGINE),
    (r"curl -s https://", PROVIDER),
    (r"make test$", "is what runs this"),
    (r"make manifests$", "is a step of .ci/run, and its tests are run with these"),
    (r"claude ", "needs Claude Code"),
)
"""Commands that cannot run here: a pattern for their beginning, and why."""

ELSEWHERE: Final[tuple[tuple[str, str, str], ...]] = (
    ("docs/tutorial/first-tool.md", r"python|gateway|kill", "tests/docs/test_tutorial.py::test_every_step_gives_what"),
    ("docs/how-to/authorize-tools.md", r"cat|gateway", "tests/docs/test_authorize_tools.py::test_the_page_shows_what"),
    ("docs/how-to/cost.md", r"awk", "tests/docs/test_sizing.py::test_the_calculator_gives_what_the_page_shows"),
    (
        "docs/how-to/audit.md",
        r"# archive.sh",
        "tests/cli/test_audit.py::test_the_recipe_for_archives_runs",
    ),
    ("docs/how-to/audit.md", r"gateway audit verify", "tests/cli/test_audit.py::test_a_cut_end_needs_a_witness"),
    ("docs/how-to/audit.md", r"gateway audit search", "tests/cli/test_audit.py::test_search"),
    ("docs/how-to/audit.md", r"psql", "tests/server/test_audit_sinks.py::test_a_table_holds_a_whole_chain"),
    (
        "docs/how-to/postgresql-catalogue.md",
        r"export|gateway",
        "tests/docs/test_postgresql_example.py::test_check_prepares_every_tool_of_the_example",
    ),
    ("docs/how-to/network-zones.md", r"nft", "tests/docs/test_reader.py::test_the_firewall_takes_the_rule"),
    ("docs/how-to/stdio.md", r"GATEWAY_TOKEN=", "tests/cli/test_stdio.py::test_a_token_is_verified_as_over_http"),
    (
        "docs/how-to/kubernetes.md",
        r"gateway call",
        "tests/cli/test_cli.py::test_call_with_a_token",
    ),
)
"""Commands that a test of their own runs: page, pattern for their beginning, and that test (or how its name begins)."""


def reason(command: Command) -> str:
    """Why the reader's test leaves a command out; "" when it runs it."""
    for pattern, why in REASONS:
        if re.match(pattern, command.text):
            return why
    for page, pattern, test in ELSEWHERE:
        if page == command.page and re.match(pattern, command.text):
            return test
    return ""
