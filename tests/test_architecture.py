"""The house rules: who may import whom, how long a module may be, and what lies at the top."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gateway"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the top down: a file imports only rooms on lower floors, and rooms on one floor do not know each other.
FLOORS = [
    {"cli"},
    {"demo"},
    {"server"},
    {"tools"},
    {"auth", "database", "telemetry"},
    {"resilience"},
    {"net"},
    {"config"},
    {"context"},
    {"errors"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Where a package may be imported: by a folder or by a single file.
ONLY_IN = {
    "mcp": {"server", "net/agent.py", "demo/tour.py", "cli/call.py"},
    "mcp_types": {"server", "net/agent.py", "demo/tour.py", "cli/call.py"},
    "asyncpg": {"database/postgresql"},
    "aiomysql": {"database/mysql"},
    "pymysql": {"database/mysql"},
    "oracledb": {"database/oracle"},
    "sqlite3": {"database/sqlite", "demo/sample.py"},
    "jwt": {"auth/jwt.py", "demo/identity.py"},
    "starlette": set[str](),
}
TOP_LEVEL = {
    *("gateway", "tests", "k8s", "docs", "pyproject.toml", "Containerfile", "Makefile"),
    *("README.md", "LICENSE", "CHANGELOG.md", "requirements.lock"),
}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_rooms_below_its_own(path: Path) -> None:
    room = _room(path)
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] != "gateway" or len(parts) < 2 or parts[1] in (room, "__version__"):
            continue
        assert FLOOR[parts[1]] > FLOOR[room], f"{room} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_stay_where_they_belong(path: Path) -> None:
    where = str(path.relative_to(PACKAGE))
    for name in _imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or where.startswith(tuple(allowed)), f"{where} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_go(path: Path) -> None:
    text = path.read_text()
    assert "TYPE_CHECKING" not in text
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{node.name} is too long to see whole"


def test_nothing_else_lies_at_the_top() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    # An unpacked archive has no git: then what lies there is what was shipped.
    paths = tracked.stdout.splitlines() if tracked.returncode == 0 else [path.name for path in ROOT.iterdir()]
    names = {path.split("/")[0] for path in paths}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL
