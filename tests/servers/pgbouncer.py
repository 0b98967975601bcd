"""A PgBouncer of the tests' own, in front of a PostgreSQL."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.config.sources import PostgresqlSettings
from tests.servers.local import HOST, as_user, free_port, own, until_listening
from tests.servers.postgresql import PostgresqlServer
from tests.servers.programs import programs

CONFIGURATION = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = {listen}
listen_port = {own_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
admin_users = {user}
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
server_login_retry = 0
query_wait_timeout = 30
logfile = {folder}/log
pidfile =
"""


class PgbouncerServer:
    """A pooler in transaction mode.

    Args:
        folder: where it lives.
        server: what it stands before; keeps its users' passwords.
        size: the sessions that it opens there, for each database and user.
    """

    host = HOST

    def __init__(self, folder: Path, server: PostgresqlServer, size: int = 3) -> None:
        self.folder = own(folder)
        self.server = server
        self.size = size
        self.port = free_port()
        self._process: subprocess.Popen[Any] | None = None
        (folder / "users.txt").write_text(f'"{server.user}" "{server.password}"\n')
        text = CONFIGURATION.format(
            host=server.host,
            port=server.port,
            listen=self.host,
            own_port=self.port,
            folder=folder,
            user=server.user,
            size=size,
        )
        (folder / "pgbouncer.ini").write_text(text)

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        command = [programs("pgbouncer")["pgbouncer"], "--quiet", self.folder / "pgbouncer.ini"]
        process = subprocess.Popen(list(map(str, command)), cwd=self.folder, stdin=subprocess.DEVNULL, **as_user())
        self._process = process
        until_listening(process, (self.host, self.port), self.folder / "log", "PgBouncer")

    def stop(self) -> None:
        """Stop at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def settings(self, **overrides: Any) -> PostgresqlSettings:
        """A source's settings."""
        values = {"host": self.host, "port": self.port, "pgbouncer": True, "tls": {"mode": "disable"}}
        return self.server.settings(**(values | overrides))


@contextmanager
def running_pgbouncer(server: PostgresqlServer, size: int = 3) -> Iterator[PgbouncerServer]:
    """A started pooler, in a folder that its account may enter."""
    with tempfile.TemporaryDirectory(prefix="gateway-pgbouncer-", ignore_cleanup_errors=True) as folder:
        pooler = PgbouncerServer(Path(folder), server, size)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.stop()
