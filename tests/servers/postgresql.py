"""A PostgreSQL of the tests' own."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from gateway.config.models import PostgresqlSettings
from tests.servers.local import HOST, free_port, own, run
from tests.servers.programs import programs


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
        password = folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)
        self._do(
            *("initdb", "-D", self._data, "-U", self.user, "--no-sync", "-E", "UTF8", "--locale=C"),
            *("--auth=scram-sha-256", f"--pwfile={password}"),
        )

    def _do(self, program: str, *arguments: object) -> None:
        run([self.programs[program], *arguments], self.folder)

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = (f"-p {self.port}", f"-k {self.folder}", f"-h {self.host}", "-F", *self.options)
        self._do("pg_ctl", "start", "-w", "-D", self._data, "-l", self.folder / "log", "-o", " ".join(options))

    def stop(self, mode: str = "immediate") -> None:
        """Stop; `immediate` is a crash for its clients."""
        self._do("pg_ctl", "stop", "-w", "-m", mode, "-D", self._data)

    @property
    def pid(self) -> int:
        """The postmaster."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def signal_all(self, number: int) -> None:
        """Signal the postmaster and all of its children: SIGSTOP freezes the server, SIGCONT thaws it."""
        pids = [self.pid, *self.children()]
        for pid in pids if number == signal.SIGSTOP else reversed(pids):
            os.kill(pid, number)

    def children(self) -> list[int]:
        """Every process of the server but the first."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(word) for word in text.split()]

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
    with tempfile.TemporaryDirectory(prefix="gateway-postgresql-", ignore_cleanup_errors=True) as folder:
        server = PostgresqlServer(Path(folder), options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
