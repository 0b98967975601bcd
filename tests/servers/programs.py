"""Where a server's programs are, or how they get here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.servers.turns import in_turn


@dataclass(frozen=True, slots=True)
class Package:
    """A server as Debian packs it.

    Attributes:
        name: what `GATEWAY_TEST_SKIP` calls it.
        programs: what must be there.
        folders: where to look beside PATH; patterns.
        debian: the package to install, or several.
        quiet: files, with their text, that keep the package from creating anything when it is installed.
    """

    name: str
    programs: tuple[str, ...]
    folders: tuple[str, ...]
    debian: str
    quiet: tuple[tuple[str, str], ...] = ()


_NO_SERVICE: Final = ("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
_NO_CLUSTER: Final = ("/etc/postgresql-common/createcluster.d/gateway-tests.conf", "create_main_cluster = false\n")

PACKAGES: Final = {
    package.name: package
    for package in (
        Package(
            "postgresql", ("initdb", "pg_ctl", "pgbench"), ("usr/lib/postgresql/*/bin",), "postgresql", (_NO_CLUSTER,)
        ),
        Package("mysql", ("mariadbd", "mariadb-install-db"), ("usr/sbin",), "mariadb-server"),
        Package("curl", ("curl",), (), "curl"),
        Package("redis", ("redis-server",), ("usr/bin",), "redis-server"),
        Package("prometheus", ("prometheus", "promtool"), ("usr/bin",), "prometheus"),
        Package("oidc", ("npm",), (), "npm"),
        Package("chromium", ("chromium",), (), "chromium"),
        Package("pgbouncer", ("pgbouncer",), ("usr/sbin",), "pgbouncer"),
        Package("nginx", ("nginx",), ("usr/sbin",), "nginx"),
        Package("network", ("ip", "nft", "dnsmasq"), ("usr/sbin", "sbin"), "iproute2 nftables dnsmasq-base"),
        Package("faketime", ("faketime",), (), "faketime"),
        Package("wrk", ("wrk",), (), "wrk"),
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
    trouble = "apt-get was not asked: that takes root on Debian"
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with in_turn("apt"):
            found = _find(package)  # another worker may have been first
            trouble = _install(package) if found is None else ""
        found = found or _find(package)
    if found is None:
        raise MissingServer(
            f"The tests need {name}: no container engine answers and {', '.join(package.programs)} are not here "
            f"({trouble or 'the package did not bring them'}).\n"
            f"Install them (Debian: apt-get install {package.debian}), or leave the engine out: "
            f"GATEWAY_TEST_SKIP={name}"
        )
    return found


def _find(package: Package) -> dict[str, Path] | None:
    folders = [str(folder) for pattern in package.folders for folder in sorted(Path("/").glob(pattern), reverse=True)]
    path = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    found = {program: shutil.which(program, path=path) for program in package.programs}
    return {program: Path(where) for program, where in found.items() if where} if all(found.values()) else None


def _install(package: Package) -> str:
    """Install a Debian package without letting it start or create anything; returns what went wrong."""
    print(f"tests: installing {package.debian} with apt-get; no service is started", file=sys.__stderr__, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ("install", "-y", "-qq", "--no-install-recommends", *package.debian.split())
    trouble = ""
    with _in_place((_NO_SERVICE, *package.quiet)):
        for command in (("update", "-qq"), install):
            try:
                result = subprocess.run(
                    ["apt-get", *command],
                    env=environment,
                    check=False,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=600,
                )
            except subprocess.TimeoutExpired:
                return "apt-get took longer than 600 s"
            trouble = result.stderr.strip()[-600:]
    return trouble


@contextmanager
def _in_place(files: tuple[tuple[str, str], ...]) -> Iterator[None]:
    """Have files in place for a while; what was there before stays."""
    made: list[Path] = []
    try:
        for name, text in files:
            path = Path(name)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                path.chmod(0o755)
                made.append(path)
        yield
    finally:
        for path in made:
            path.unlink(missing_ok=True)
