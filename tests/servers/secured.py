"""A real server whose certificate can be changed, for tests of TLS."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config.sources import AnySource
from tests.servers.certificates import Authority, Pair
from tests.servers.local import own
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import PostgresqlServer

Server = PostgresqlServer | MariadbServer


@dataclass(frozen=True)
class Place:
    """A running server of one engine whose certificate can be changed, and an authority that both sides trust."""

    engine: str
    server: Server
    authority: Authority
    folder: Path

    def serve(self, pair: Pair | None, *, newest: str = "1.3") -> None:
        """Start anew with a certificate, or without TLS."""
        self.server.stop()
        options = self._postgresql(pair, newest) if self.engine == "postgresql" else self._mysql(pair, newest)
        self.server.options = tuple(options)
        self.server.start()

    def _mysql(self, pair: Pair | None, newest: str) -> list[str]:
        if pair is None:
            return ["--skip-ssl"]
        certificate, key = self._readable(pair)
        versions = "TLSv1.2" if newest == "1.2" else "TLSv1.2,TLSv1.3"
        return [
            f"--ssl-cert={certificate}",
            f"--ssl-key={key}",
            f"--ssl-ca={self.authority.path}",
            f"--tls-version={versions}",
        ]

    def _postgresql(self, pair: Pair | None, newest: str) -> list[str]:
        if pair is None:
            return ["-c ssl=off"]
        certificate, key = self._readable(pair)
        return [
            "-c ssl=on",
            f"-c ssl_cert_file={certificate}",
            f"-c ssl_key_file={key}",
            f"-c ssl_ca_file={self.authority.path}",
            f"-c ssl_max_protocol_version=TLSv{newest}",
            f"-c hba_file={self.folder / 'hba'}",
        ]

    def _readable(self, pair: Pair) -> tuple[Path, Path]:
        """Copies that the server's user owns; PostgreSQL refuses a key that others may read."""
        copies = (self.folder / "server.pem", self.folder / "server.key")
        for original, copy in zip((pair.certificate, pair.key), copies, strict=True):
            shutil.copy(original, copy)
            copy.chmod(0o600)
            if os.geteuid() == 0:
                account = pwd.getpwnam("nobody")
                os.chown(copy, account.pw_uid, account.pw_gid)
        return copies

    def settings(self, user: str | None = None, **tls: Any) -> AnySource:
        tls = {"mode": "verify-full", "ca": str(self.authority.path), "server_name": "db.test"} | tls
        overrides: dict[str, Any] = {"tls": tls, "connect_timeout": "3s"}
        return self.server.settings(**overrides, **({"user": user, "password": "x"} if user else {}))

    def log(self) -> str:
        """What the server wrote so far, logins included."""
        log = self.server.log if isinstance(self.server, MariadbServer) else self.server.folder / "log"
        return log.read_text(errors="replace")


HBA = """
local all all trust
hostssl all certified all cert
hostssl all all all scram-sha-256
host all all all scram-sha-256
"""


@contextmanager
def running_secured(engine: str) -> Iterator[Place]:
    """A started server of an engine, "postgresql" or "mysql", without a certificate yet."""
    with tempfile.TemporaryDirectory(prefix="gateway-tls-", ignore_cleanup_errors=True) as name:
        folder = own(Path(name))
        authority = Authority(folder / "authority", days=365)
        (folder / "hba").write_text(HBA)
        (folder / "hba").chmod(0o644)
        server: Server
        if engine == "postgresql":
            server = PostgresqlServer(folder / "server", ("-c log_connections=on",))
        else:
            server = MariadbServer(folder / "server")
        server.start()
        try:
            yield Place(engine, server, authority, folder)
        finally:
            server.stop()
