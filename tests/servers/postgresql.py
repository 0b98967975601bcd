"""A PostgreSQL of the tests' own."""

from __future__ import annotations

import atexit
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import asyncpg

from gateway.config.sources import PostgresqlSettings
from tests.servers import tree
from tests.servers.local import HOST, Guardian, free_port, own, run
from tests.servers.programs import programs

_HASTY: Final = ("-F", "-c full_page_writes=off", "-c shared_buffers=32MB")
"""Only the machine's own crash would lose data; commits stay synchronous, so that a killed server keeps them."""


@cache
def _template() -> Path:
    """A data folder fresh from initdb, made once and copied for every server."""
    folder = own(Path(tempfile.mkdtemp(prefix="gateway-template-")))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    password = folder / "password"
    password.write_text(PostgresqlServer.password)
    password.chmod(0o644)
    run(
        [
            *(programs("postgresql")["initdb"], "-D", folder / "data", "-U", PostgresqlServer.user, "--no-sync"),
            *("-E", "UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={password}"),
        ],
        folder,
    )
    return folder / "data"


class PostgresqlServer:
    """A server that can be stopped, started and frozen.

    Args:
        folder: where it lives.
        options: further options of `postgres`, such as `-c max_connections=20`.
    """

    host = HOST
    user = "postgres"
    password = "postgres-password"
    database = "postgres"

    def __init__(self, folder: Path, options: tuple[str, ...] = ()) -> None:
        self.programs = programs("postgresql")
        self.folder = own(folder)
        self.options = options
        self.port = free_port()
        self._data = folder / "data"
        self._guardian: Guardian | None = None
        run(["cp", "-R", _template(), self._data], self.folder)

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = (f"-p {self.port}", f"-k {self.folder}", f"-h {self.host}", *_HASTY, *self.options)
        pg_ctl = self.programs["pg_ctl"]
        run([pg_ctl, "start", "-w", "-D", self._data, "-l", self.folder / "log", "-o", " ".join(options)], self.folder)
        self._guardian = Guardian(self.pid, self.folder, _template().parent)

    def stop(self, mode: str = "immediate") -> None:
        """Stop; `immediate` is a crash for its clients."""
        run([self.programs["pg_ctl"], "stop", "-w", "-m", mode, "-D", self._data], self.folder)
        self._dismiss()

    def crash(self) -> None:
        """Kill all of its processes at once; it can be started again."""
        if self._guardian is not None:
            tree.end(self._guardian.pid)
            self._dismiss()
            # Where nobody reaps orphans, the dead postmaster's number looks alive to the next one.
            for lock in (self._data / "postmaster.pid", self.folder / f".s.PGSQL.{self.port}.lock"):
                lock.unlink(missing_ok=True)

    def close(self) -> None:
        """End it, in whatever state it is, and remove its data."""
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _dismiss(self) -> None:
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None

    @property
    def pid(self) -> int:
        """The postmaster."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def signal_all(self, number: int) -> None:
        """Signal the postmaster and all of its children: SIGSTOP freezes the server, SIGCONT thaws it."""
        pids = [self.pid, *self.children()]
        tree.send(pids if number == signal.SIGSTOP else reversed(pids), signal.Signals(number))

    def children(self) -> list[int]:
        """Every process of the server but the first."""
        return tree.descendants(self.pid)[1:]

    def settings(self, **overrides: Any) -> PostgresqlSettings:
        """A source's settings."""
        values: dict[str, Any] = {
            "engine": "postgresql",
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
        }
        return PostgresqlSettings.model_validate(values | overrides, strict=False)

    async def admin(self) -> Any:
        """A connection of the tests' own."""
        return await asyncpg.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, database=self.database, ssl=False
        )


@contextmanager
def running_postgresql(*options: str) -> Iterator[PostgresqlServer]:
    """A started server in a folder that another account may enter, unlike pytest's."""
    server = PostgresqlServer(Path(tempfile.mkdtemp(prefix="gateway-postgresql-")), options)
    try:
        server.start()
        yield server
    finally:
        server.close()
