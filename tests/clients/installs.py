"""Clients of other makers, fetched into `.cache/clients` on demand, pinned."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from sysconfig import get_python_version
from typing import Final

from tests.conformance.run import npm
from tests.servers.turns import in_turn

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parents[1] / ".cache" / "clients"
FASTMCP: Final = "fastmcp==4.1.2"


@cache
def from_npm() -> Path:
    """The folder with the pinned packages and our script beside them.

    Raises:
        CannotRun: npm is missing, or it failed.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with in_turn("clients"):
        return _from_npm()


def _from_npm() -> Path:
    digest = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    stamp = CACHE / "installed"
    if not stamp.exists() or stamp.read_text() != digest:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, CACHE / name)
        npm("ci", "--ignore-scripts", folder=CACHE)
        # The Inspector's CLI reads its version two folders up, where it is only within the whole Inspector.
        modules = CACHE / "node_modules" / "@modelcontextprotocol"
        shutil.copy(modules / "inspector-cli" / "package.json", modules / "package.json")
        stamp.write_text(digest)
    shutil.copy(HERE / "sdk.mjs", CACHE / "sdk.mjs")
    return CACHE


@cache
def fastmcp() -> Path:
    """The Python of an environment with FastMCP, which pins other versions than the gateway's own."""
    with in_turn("fastmcp"):
        return _fastmcp()


def _fastmcp() -> Path:
    # By version, since a checkout may be used with several Pythons.
    folder = CACHE / f"{FASTMCP.replace('==', '-')}-python{get_python_version()}"
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", FASTMCP]
        subprocess.run(pip, check=True, capture_output=True, timeout=600)
        stamp.touch()
    return python
