"""Peers that are not dependencies: installed on demand into `.cache/bench/peers`, pinned."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from sysconfig import get_python_version
from typing import Final

from tests.bench import machine

PEERS: Final = machine.ROOT / ".cache" / "bench" / "peers"
FASTMCP: Final = "4.1.2"
TOOLBOX: Final = "1.12.0"


class CannotInstall(Exception):
    """A peer cannot be had here; the message is for the table."""


def fastmcp() -> Path:
    """The interpreter of an environment with FastMCP.

    Raises:
        CannotInstall: pip failed.
    """
    folder = PEERS / f"fastmcp-{FASTMCP}-python{get_python_version()}"
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists():
        print(f"bench: installing FastMCP {FASTMCP} into .cache (pip)", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        _run([*pip, f"fastmcp=={FASTMCP}", "asyncpg>=0.31,<0.33", "uvloop"], folder)
        stamp.touch()
    return python


def toolbox() -> Path:
    """Toolbox's program.

    Raises:
        CannotInstall: npm is missing or failed, or there is no program for this machine.
    """
    machines = {("Linux", "x86_64"): "linux-x64"}
    name = machines.get((platform.system(), platform.machine()))
    if name is None:
        raise CannotInstall("npm has no Toolbox for this machine")
    folder = PEERS / f"toolbox-{TOOLBOX}"
    program = folder / "node_modules" / "@toolbox-sdk" / f"server-{name}" / "bin" / "toolbox"
    if not program.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise CannotInstall("npm is not on PATH")
        print(f"bench: installing Toolbox {TOOLBOX} into .cache (npm)", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        quiet = ("--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")
        _run([npm, "install", *quiet, f"@toolbox-sdk/server-{name}@{TOOLBOX}"], folder)
    return program


def _run(command: list[str], folder: Path) -> None:
    try:
        result = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{Path(command[0]).name} took longer than 300 s") from None
    if result.returncode:
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:]
        raise CannotInstall(f"{Path(command[0]).name} failed: {' '.join(last)[:200]}")
