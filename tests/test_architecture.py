"""The rules of the house, walked: who may import whom, how long things may be, what lies at the top."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "gateway"
FLOORS: Final = {
    "cli": 9,
    "demo": 8,
    "server": 7,
    "tools": 6,
    **dict.fromkeys(("auth", "database", "telemetry"), 5),
    "resilience": 4,
    "net": 3,
    "config": 2,
    "context": 1,
    "errors": 0,
    "strict_json": 0,
}
"""A room imports itself and rooms on lower floors; rooms on one floor do not know each other."""

RESERVED: Final = {
    "mcp": ("server/", "net/agent.py", "demo/"),
    "mcp_types": ("server/", "net/agent.py", "cli/call.py", "demo/"),
    "jwt": ("auth/jwt.py", "demo/identity.py"),
    "asyncpg": ("database/postgresql",),
    "sqlite3": ("database/sqlite", "demo/sample.py"),
    "oracledb": ("database/oracle",),
    "aiocache": ("auth/shared.py",),
    "redis": ("net/redis_client.py",),
    "aiohttp.web": ("server/", "demo/"),
}
"""Libraries that only some files know, so that the rest does not depend on them."""

TOP: Final = {
    *("pyproject.toml", "gateway", "tests", "k8s", "Containerfile", "Makefile", "docs"),
    *("README.md", "LICENSE", "CHANGELOG.md", "requirements.lock"),
}
MAX_MODULE_LINES: Final = 300
MAX_FUNCTION_LINES: Final = 50


@dataclass(frozen=True)
class Import:
    """One import: where it stands and what it names."""

    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(file: Path) -> Iterator[Import]:
    """Every import of a file, those inside functions too."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            yield from (Import(file, node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room(parts: tuple[str, ...]) -> str:
    """The room of a module below `gateway`; "" for the package itself."""
    return parts[0].removesuffix(".py") if parts and parts[0] != "__init__.py" else ""


def is_of(module: str, library: str) -> bool:
    return module == library or module.startswith(f"{library}.")


def test_rooms_import_only_rooms_below() -> None:
    breaches = []
    for file in sources():
        own = room(file.relative_to(PACKAGE).parts)
        for each in imports(file):
            other = room(tuple(each.module.split(".")[1:])) if is_of(each.module, "gateway") else ""
            if other in FLOORS and own != other and FLOORS[other] >= FLOORS.get(own, -1):
                breaches.append(str(each))
    assert not breaches


def test_every_room_has_a_floor() -> None:
    rooms = {room(file.relative_to(PACKAGE).parts) for file in sources()} - {""}
    assert rooms == FLOORS.keys()


def test_libraries_stay_in_their_files() -> None:
    breaches = [
        str(each)
        for file in sources()
        for each in imports(file)
        for library, places in RESERVED.items()
        if is_of(each.module, library) and not file.relative_to(PACKAGE).as_posix().startswith(places)
    ]
    assert not breaches


def test_no_import_hides_a_cycle() -> None:
    breaches = [str(each) for file in sources() for each in imports(file) if each.module.endswith(".TYPE_CHECKING")]
    assert not breaches


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in sources()
    }
    needs = {
        name: {
            known for each in imports(file) for known in (each.module, each.module.rpartition(".")[0]) if known in files
        }
        - {name, "gateway"}
        for name, file in files.items()
    }
    while free := {name for name, needed in needs.items() if not needed & needs.keys()}:
        needs = {name: needed for name, needed in needs.items() if name not in free}
    assert not needs


@pytest.mark.parametrize("folder", ["gateway", "tests"])
def test_modules_and_functions_can_be_seen_whole(folder: str) -> None:
    long = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        name = file.relative_to(ROOT)
        lines = len(file.read_text().splitlines())
        if folder == "gateway" and lines > MAX_MODULE_LINES:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long.append(f"{name}:{node.lineno}: {node.name} has {length} lines")
    assert not long


def test_the_top_of_the_repository_is_short() -> None:
    if (ROOT / ".git").exists():
        command = ["git", "-c", "safe.directory=*", "ls-files"]  # a container's clone may belong to somebody else
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        top = {line.partition("/")[0] for line in listing.splitlines()}
    else:
        top = {path.name for path in ROOT.iterdir()}
    assert {name for name in top if not name.startswith(".")} <= TOP
