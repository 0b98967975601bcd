"""Runs the official MCP conformance suites against a gateway: `python -m tests.conformance.run [suite ...]`.

The gateway is the real one, in a process of its own, with `gateway.yaml` and a
SQLite file. The suites come from npm into `.cache/conformance`, pinned by
`package-lock.json`. A failure that `expected-failures-*.yaml` does not list ends
the run with 1, and so does a listed one that passes by now.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tests.servers.local import is_ready

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parents[1] / ".cache" / "conformance"
SUITES: Final[Mapping[str, tuple[str, ...]]] = {
    "2025": ("--suite", "all"),
    "2026": ("--requirements", "2026-07-28"),
}
NODE_VERSION: Final = (22, "22.23.3")
"""What the suites need at least, and the release that npm brings where it is missing."""
_READY_WITHIN: Final = 30.0
_CHANGE_EVERY: Final = 0.2


class CannotRun(Exception):
    """The suites cannot be run here; says what is missing."""


def install() -> None:
    """Fetch the pinned suites, unless they are there already.

    Raises:
        CannotRun: npm is missing, or it failed.
    """
    lock = (HERE / "package-lock.json").read_bytes()
    stamp = CACHE / "installed"
    digest = hashlib.sha256(lock).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print("installing the conformance suites into .cache/conformance (npm)", flush=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, CACHE / name)
    npm("ci", "--ignore-scripts", folder=CACHE)
    stamp.write_text(digest)


def node(needed: int = NODE_VERSION[0]) -> Path:
    """A Node.js that is new enough: the one on PATH, or one from npm.

    Raises:
        CannotRun: there is none, and none for this machine on npm.
    """
    release = NODE_VERSION[1]
    if on_path := shutil.which("node"):
        told = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=True).stdout
        if (version := re.match(r"v([0-9]+)", told)) and int(version[1]) >= needed:
            return Path(on_path)
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if platform.system() != "Linux" or machine is None:
        raise CannotRun(f"the tests need Node.js {needed} or newer on PATH")
    package = f"node-linux-{machine}"
    folder = CACHE / "node"
    found = folder / "node_modules" / package / "bin" / "node"
    if not found.exists():
        print(f"installing Node.js {release} into .cache/conformance (npm)", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        npm("install", "--ignore-scripts", "--no-save", f"{package}@{release}", folder=folder)
    return found


def npm(*arguments: str, folder: Path) -> None:
    """Run npm in a folder.

    Raises:
        CannotRun: it is missing, or it failed.
    """
    program = shutil.which("npm")
    if program is None:
        raise CannotRun("npm is not on PATH; install Node.js (Debian: apt-get install npm)")
    command = [program, *arguments, "--no-audit", "--no-fund", "--loglevel=error"]
    result = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    if result.returncode:
        raise CannotRun(f"`npm {' '.join(arguments)}` failed:\n{result.stderr.strip()}")


@contextmanager
def gateway() -> Iterator[str]:
    """A gateway of the suites' own; yields the URL of its MCP endpoint.

    Raises:
        CannotRun: it did not become ready.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-conformance-") as name:
        folder = Path(name)
        database = folder / "suite.db"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("create table numbers (number integer primary key)")
            connection.executemany("insert into numbers values (?)", [(number,) for number in range(1500)])
            connection.execute("create table changing (column_0 integer)")
        log = folder / "log"
        command = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(HERE / "gateway.yaml")]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=os.environ | {"CONFORMANCE_DATABASE": str(database)},
                cwd=HERE.parents[1],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            with _changing(database):
                yield _wait_until_ready(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            finally:
                process.kill()
        if process.returncode:
            raise CannotRun(f"the gateway ended with {process.returncode}:\n{log.read_text()[-4000:]}")


@contextmanager
def _changing(database: Path) -> Iterator[None]:
    """Give a table's column another name again and again, as its owner might once."""
    over = threading.Event()

    def change() -> None:
        number = 0
        with closing(sqlite3.connect(database, timeout=10, isolation_level=None)) as connection:
            while not over.wait(_CHANGE_EVERY):
                connection.execute(f"alter table changing rename column_{number} to column_{number + 1}")
                number += 1

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + _READY_WITHIN
    while process.poll() is None and time.monotonic() < until:
        url = re.search(r"http://127\.0\.0\.1:[0-9]+/mcp", log.read_text())
        if url and is_ready(url[0].replace("/mcp", "/healthz/ready")):
            return url[0]
        time.sleep(0.05)
    raise CannotRun(f"the gateway is not ready:\n{log.read_text()[-4000:]}")


def run(suite: str, url: str, program: Path) -> bool:
    """Run one suite, print its summary, and say whether all failures were expected."""
    results = CACHE / "results" / suite
    shutil.rmtree(results, ignore_errors=True)
    script = CACHE / "node_modules" / f"conformance-{suite}" / "dist" / "index.js"
    expected = HERE / f"expected-failures-{suite}.yaml"
    flags = [*SUITES[suite], "--expected-failures", str(expected), "-o", str(results)]
    command = [str(program), str(script), "server", "--url", url, *flags]
    result = subprocess.run(command, cwd=CACHE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    before, found, summary = result.stdout.partition("=== SUMMARY ===")
    print(f"== suite {suite}, details in {results.relative_to(HERE.parents[1])}")
    print(summary.strip() if found else before + result.stderr, flush=True)
    return result.returncode == 0 and bool(found)


def main() -> int:
    """Run the named suites, all by default; 1 for a surprise, 2 when they cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.run", description=main.__doc__)
    parser.add_argument("suites", nargs="*", metavar="suite", help=f"of {', '.join(SUITES)}; all by default")
    wanted = parser.parse_args().suites or list(SUITES)
    if unknown := set(wanted) - SUITES.keys():
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    try:
        install()
        program = node()
        with gateway() as url:
            outcomes = {suite: run(suite, url, program) for suite in wanted}
    except CannotRun as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    for suite, is_good in outcomes.items():
        print(f"conformance {suite}: {'as expected' if is_good else 'SURPRISES, see above'}")
    return 0 if all(outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
