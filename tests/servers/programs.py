"""Where a server's programs are, or how they get here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Package:
    """A server as Debian packs it.

    Attributes:
        name: what `GATEWAY_TEST_SKIP` calls it.
        programs: what must be there.
        folders: where to look beside PATH; patterns.
        debian: the package to install.
    """

    name: str
    programs: tuple[str, ...]
    folders: tuple[str, ...]
    debian: str


PACKAGES: Final = {
    package.name: package
    for package in (
        Package("postgresql", ("initdb", "pg_ctl", "pgbench"), ("usr/lib/postgresql/*/bin",), "postgresql"),
        Package("mysql", ("mariadbd", "mariadb-install-db"), ("usr/sbin",), "mariadb-server"),
        Package("curl", ("curl",), (), "curl"),
        Package("pgbouncer", ("pgbouncer",), ("usr/sbin",), "pgbouncer"),
    )
}


class MissingServer(Exception):
    """A server that the tests need cannot be had; the message says what to install."""


@cache
def programs(name: str) -> dict[str, Path]:
    """The paths of a server's programs, installed first where that is possible and needed.

    Raises:
        MissingServer: they are not here and cannot be installed.
    """
    package = PACKAGES[name]
    found = _find(package)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(package)
        found = _find(package)
    if found is None:
        raise MissingServer(
            f"The tests need {name}: no container engine answers and {', '.join(package.programs)} are not here.\n"
            f"Install them (Debian: apt-get install {package.debian}), or leave the engine out: "
            f"GATEWAY_TEST_SKIP={name}"
        )
    return found


def _find(package: Package) -> dict[str, Path] | None:
    folders = [str(folder) for pattern in package.folders for folder in sorted(Path("/").glob(pattern), reverse=True)]
    path = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    found = {program: shutil.which(program, path=path) for program in package.programs}
    return {program: Path(where) for program, where in found.items() if where} if all(found.values()) else None


def _install(package: Package) -> None:
    """Install a Debian package without letting it start a service."""
    print(f"tests: installing {package.debian} with apt-get; no service is started", file=sys.stderr, flush=True)
    policy = Path("/usr/sbin/policy-rc.d")
    is_ours = not policy.exists()
    if is_ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package.debian]):
            subprocess.run(["apt-get", *command], env=environment, check=False, stdout=subprocess.DEVNULL)
    finally:
        if is_ours:
            policy.unlink()
