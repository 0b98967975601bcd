"""A Redis of the tests' own: in memory, on loopback, to be stopped, killed, frozen and started again."""

from __future__ import annotations

import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.config.redis import RedisSettings
from tests.servers import tree
from tests.servers.certificates import Authority
from tests.servers.local import HOST, Guardian, as_user, free_port, own, until_listening
from tests.servers.programs import programs


class RedisServer:
    """A server that keeps nothing on disk.

    Args:
        folder: where it lives.
        has_tls: whether it speaks TLS only, with a certificate for 127.0.0.1.
    """

    host = HOST

    def __init__(self, folder: Path, *, has_tls: bool = False) -> None:
        self.folder = own(folder)
        self.port = free_port()
        self.password = secrets.token_urlsafe(16)
        self.key = secrets.token_urlsafe(32)
        self.authority = Authority(folder / "tls") if has_tls else None
        self._process: subprocess.Popen[Any] | None = None
        self._guardian: Guardian | None = None
        self._words = self._configuration()

    def _configuration(self) -> list[object]:
        words: list[object] = ["--save", "", "--appendonly", "no", "--bind", self.host, "--daemonize", "no"]
        words += ["--requirepass", self.password, "--dir", self.folder, "--logfile", self.folder / "log"]
        if self.authority is None:
            return [*words, "--port", self.port]
        pair = self.authority.issue("localhost", address=self.host)
        for file in (pair.certificate, pair.key, self.authority.path):
            file.chmod(0o644)
        words += ["--port", 0, "--tls-port", self.port, "--tls-auth-clients", "no"]
        words += ["--tls-cert-file", pair.certificate, "--tls-key-file", pair.key]
        return [*words, "--tls-ca-cert-file", self.authority.path]

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        command = list(map(str, [programs("redis")["redis-server"], *self._words]))
        self._process = process = subprocess.Popen(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **as_user()
        )
        self._guardian = Guardian(process.pid, self.folder)
        until_listening(process, (self.host, self.port), self.folder / "log", "Redis")

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal: SIGSTOP freezes it, SIGCONT thaws it."""
        assert self._process is not None
        tree.send([self._process.pid], number)

    def kill(self) -> None:
        """End it at once, with all that it held."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None

    def restart(self) -> None:
        """Kill it and start it again, empty, on the same port."""
        self.kill()
        self.start()

    def settings(self, **overrides: Any) -> RedisSettings:
        """The section `redis` for it."""
        scheme = "redis" if self.authority is None else "rediss"
        values: dict[str, Any] = {
            "url": f"{scheme}://{self.host}:{self.port}",
            "password": self.password,
            "key": self.key,
            "ca": self.authority.path if self.authority else None,
            # The machine of the tests may be busy: late answers are made on purpose only.
            "timeout": "2s",
        }
        return RedisSettings.model_validate(values | overrides)


@contextmanager
def running_redis(*, has_tls: bool = False) -> Iterator[RedisServer]:
    """A started server."""
    with tempfile.TemporaryDirectory(prefix="gateway-redis-", ignore_cleanup_errors=True) as folder:
        server = RedisServer(Path(folder), has_tls=has_tls)
        server.start()
        try:
            yield server
        finally:
            server.kill()
