"""A PostgreSQL of the tests' own: in a temporary folder, on a free port, as an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import asyncpg

from gateway.config.models import PostgresqlSettings

_HOMES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


class PostgresqlServer:
    """A server that can be stopped, started and frozen."""

    host = "127.0.0.1"
    user = "postgres"
    password = "postgres-password"
    database = "postgres"

    def __init__(self, folder: Path, options: tuple[str, ...] = ()) -> None:
        found = shutil.which("postgres")
        self._programs = Path(found).parent if found else _HOMES[0]
        self.folder = folder
        self._data = folder / "data"
        self.options = options
        with socket.socket() as probe:
            probe.bind((self.host, 0))
            self.port: int = probe.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        password = folder / "password"
        password.write_text(self.password)
        if os.getuid() == 0:
            account = pwd.getpwnam("nobody")
            os.chown(folder, account.pw_uid, account.pw_gid)
            password.chmod(0o644)
        self._do(
            *("initdb", "-D", self._data, "-U", self.user, "--no-sync", "-E", "UTF8", "--locale=C"),
            *("--auth=scram-sha-256", f"--pwfile={password}"),
        )

    def _do(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
        result = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **user,  # type: ignore[call-overload]
        )
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"

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
