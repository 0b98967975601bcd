"""A MariaDB of the tests' own."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import aiomysql
import pymysql

from gateway.config.sources import MysqlSettings
from tests.servers import tree
from tests.servers.local import HOST, Guardian, as_user, free_port, own, run
from tests.servers.programs import programs


@cache
def _template() -> Path:
    """A data folder fresh from its installation, made once and copied for every server."""
    folder = own(Path(tempfile.mkdtemp(prefix="gateway-template-")))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    run(
        [
            *(programs("mysql")["mariadb-install-db"], "--no-defaults", f"--datadir={folder}/data", "--skip-test-db"),
            *("--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"),
            "--innodb-flush-log-at-trx-commit=0",
        ],
        folder,
    )
    return folder / "data"


class MariadbServer:
    """A server that can be stopped, started and frozen.

    Args:
        folder: where it lives.
        options: further options of `mariadbd`, such as `--max-connections=20`.
    """

    host = HOST
    user = "tests"
    password = "mariadb-password"
    database = "tests"

    def __init__(self, folder: Path, options: tuple[str, ...] = ()) -> None:
        self.programs = programs("mysql")
        self.folder = own(folder)
        self.options = options
        self.port = free_port()
        self.log = folder / "general.log"
        # A Unix socket's path has little room; pytest's folders are deep.
        self.socket = f"/tmp/gateway-mariadb-{self.port}.sock"
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._guardian: Guardian | None = None
        run(["cp", "-R", _template(), self._data], self.folder)
        (folder / "init.sql").write_text(
            # Anonymous accounts of a new server hide ours: 'localhost' is nearer than '%'.
            "delete from mysql.global_priv where User = '';\nflush privileges;\n"
            f"create database if not exists {self.database};\n"
            f"create user if not exists {self.user}@'%' identified by '{self.password}';\n"
            f"grant all on *.* to {self.user}@'%' with grant option;\n"
        )

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = [
            *("--no-defaults", f"--datadir={self._data}", f"--port={self.port}", f"--socket={self.socket}"),
            *(f"--bind-address={self.host}", f"--pid-file={self.folder}/pid", f"--init-file={self.folder}/init.sql"),
            *("--general-log", f"--general-log-file={self.log}", "--skip-name-resolve", "--innodb-log-file-size=8M"),
            *("--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", *self.options),
        ]
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [self.programs["mariadbd"], *options],
                cwd=self.folder,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                **as_user(),
            )
        self._guardian = Guardian(self.pid, self.folder, _template().parent)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()[-4000:]
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-4000:]
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:  # the driver would leave a refused socket open
            if probe.connect_ex(self.socket):
                return False
        try:
            self._connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self, mode: str = "immediate") -> None:
        """Stop; `immediate` is a crash for its clients."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM if mode == "fast" else signal.SIGKILL)
            self._process.wait(30)
            self._process = None
            Path(self.socket).unlink(missing_ok=True)
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None

    @property
    def pid(self) -> int:
        """The one process."""
        assert self._process is not None
        return self._process.pid

    def signal_all(self, number: int) -> None:
        """Signal the server: SIGSTOP freezes it, SIGCONT thaws it."""
        tree.send([self.pid], signal.Signals(number))

    def settings(self, **overrides: Any) -> MysqlSettings:
        """A source's settings."""
        values: dict[str, Any] = {
            "engine": "mysql",
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
        }
        return MysqlSettings.model_validate(values | overrides, strict=False)

    async def admin(self) -> Any:
        """A connection of the tests' own; it commits by itself."""
        return await aiomysql.connect(
            unix_socket=self.socket, user=self.user, password=self.password, db=self.database, autocommit=True
        )

    async def execute(self, *statements: str) -> list[Any]:
        """Run statements as the tests' own account; the rows of the last one."""
        return await asyncio.to_thread(self._execute, *statements)

    def _execute(self, *statements: str) -> list[Any]:
        with self._connect() as connection, connection.cursor() as cursor:
            for text in statements:
                cursor.execute(text)
            return list(cursor.fetchall())

    def _connect(self) -> Any:
        return pymysql.connect(
            unix_socket=self.socket,
            user=self.user,
            password=self.password,
            database=self.database,
            autocommit=True,
            ssl_disabled=True,
        )


@contextmanager
def running_mariadb(*options: str) -> Iterator[MariadbServer]:
    """A started server, outside of pytest's folders: every other run of pytest closes those to the server's user."""
    with tempfile.TemporaryDirectory(prefix="gateway-mariadb-", ignore_cleanup_errors=True) as folder:
        server = MariadbServer(Path(folder), options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
