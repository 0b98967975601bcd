"""The stand-in as a process of its own, to start, stop, freeze and kill."""

from __future__ import annotations

import asyncio
import json
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from gateway.config.sources import OracleSettings
from tests.servers import tree
from tests.servers.local import HOST, Guardian, free_port

_ROOT: Final = Path(__file__).parents[3]
_STARTING: Final = 30.0


class OracleServer:
    """One stand-in.

    Args:
        folder: where its data goes.
        tls: certificate, key, perhaps ca (clients then need certificates) and max_version.
        version: what it says that it is; its protocol is 19c's in any case.
    """

    host = HOST
    service = "SHOP"
    user, password = "gateway", "sécret"

    def __init__(self, folder: Path, tls: dict[str, Any] | None = None, version: int = 19) -> None:
        self.folder = folder
        self.port = free_port()
        self.path = folder / "data.db"
        self.tls = tls
        self.version = version
        self.users: dict[str, Any] = {
            "GATEWAY": {"password": self.password, "proxies": ["ADA", "BOB"]},
            "LOCKED": {"password": self.password, "refused": 28000},
            "IMPOSTOR": {"password": self.password, "is_unproved": True},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._guardian: Guardian | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        told = {
            "port": self.port,
            "path": str(self.path),
            "service": self.service,
            "users": self.users,
            "tls": self.tls,
            "version": self.version,
        }
        command = [sys.executable, "-m", "tests.servers.oracle", json.dumps(told)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._guardian = Guardian(self.pid, self.folder)
        self._hear(b"ready\n")

    def _hear(self, expected: bytes) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _STARTING)
        assert readable, "it said nothing"
        assert self._process.stdout.readline() == expected, self.log

    def tell(self, **order: Any) -> None:
        """Give an order (`faults.Faults.obey`), and wait until it is done."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        self._hear(b"done\n")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        """The one process."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Kill it; that is a crash for its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None

    def signal_all(self, number: int) -> None:
        """Signal the server: SIGSTOP freezes it, SIGCONT thaws it."""
        tree.send([self.pid], signal.Signals(number))

    def settings(self, **overrides: Any) -> OracleSettings:
        """A source's settings; a value of None leaves a setting out."""
        values: dict[str, Any] = {
            "engine": "oracle",
            "host": self.host,
            "port": self.port,
            "service": self.service,
            "user": self.user,
            "password": self.password,
            "context_procedure": "app_ctx.set_value",
        }
        merged = {key: value for key, value in (values | overrides).items() if value is not None}
        return OracleSettings.model_validate(merged, strict=False)

    async def execute(self, script: str) -> None:
        """Change the data behind its back."""
        await asyncio.to_thread(self._execute, script)

    def _execute(self, script: str) -> None:
        with closing(sqlite3.connect(self.path, timeout=10)) as db:
            db.executescript(script)


@contextmanager
def running_oracle(tls: dict[str, Any] | None = None, version: int = 19) -> Iterator[OracleServer]:
    """A started stand-in."""
    with tempfile.TemporaryDirectory(prefix="gateway-oracle-", ignore_cleanup_errors=True) as folder:
        server = OracleServer(Path(folder), tls, version)
        server.start()
        try:
            yield server
        finally:
            if server._process is not None:
                server.signal_all(signal.SIGCONT)
            server.stop()
