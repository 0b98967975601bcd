"""Print the part of requirements.lock that a running gateway needs, hashes included.

Run by the interpreter of an environment in which the whole lock file is installed,
since what needs what is written in the installed packages:
`python runtime_lock.py pyproject.toml requirements.lock > runtime.txt`
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(project: dict[str, object]) -> set[str]:
    """The names of all packages that the project with its extra `all` pulls in, on this platform."""
    own = canonicalize_name(str(project["name"]))
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(f"{own}[all]")]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        # "" stands for what is needed whatever extra is asked for.
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            listed = _listed(project, extra) if name == own else requires(name) or []
            waiting += [each for each in map(Requirement, listed) if _applies(each, extra)]
    return {name for name, _ in seen} - {own}


def _listed(project: dict[str, object], extra: str) -> list[str]:
    optional = project["optional-dependencies"]
    listed = optional[extra] if extra and isinstance(optional, dict) else project["dependencies"]
    return list(listed) if isinstance(listed, list) else []


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def main(pyproject: Path, lock: Path) -> None:
    """Print the blocks of the lock file, in its order."""
    names = needed(tomllib.loads(pyproject.read_text())["project"])
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE)
    found = {canonicalize_name(re.split(r"[=\s\[]", block, maxsplit=1)[0]): block for block in blocks if block.strip()}
    if missing := names - found.keys():
        sys.exit(f"not in {lock}: {', '.join(sorted(missing))}")
    sys.stdout.writelines(block for name, block in found.items() if name in names)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
