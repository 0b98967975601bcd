"""The surroundings of every bench: PostgreSQL with TLS and SCRAM, data, and an identity provider."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.identity import CLIENT, SECRET
from tests.servers.certificates import Authority
from tests.servers.postgresql import PostgresqlServer, running_postgresql

CUSTOMERS: Final = 10_000
ORDERS: Final = 100_000
_ACCOUNT: Final = "bench_reader"
_PASSWORD: Final = "bench-reader-password"
_DATA: Final = f"""
create table customers as
    select i as id, 'Customer ' || i as name, 'c' || i || '@example.com' as email,
           (array['DE','FR','IT','ES','PL','SE','NL','PT'])[1 + i % 8] as country,
           (i * 37 % 100000)::numeric / 100 as balance, date '2020-01-01' + i % 2000 as since
    from generate_series(1, {CUSTOMERS}) i;
alter table customers add primary key (id);
create table orders as
    select i as id, 1 + i * 7919 % {CUSTOMERS} as customer_id, (i * 31 % 50000)::numeric / 100 as amount,
           (array['open','paid','sent'])[1 + i % 3] as status, date '2024-01-01' + i % 365 as placed
    from generate_series(1, {ORDERS}) i;
alter table orders add primary key (id);
create index on orders (customer_id, placed desc);
create index on orders (placed);
create role {_ACCOUNT} login password '{_PASSWORD}';
grant select on customers, orders to {_ACCOUNT};
"""


@dataclass(frozen=True)
class World:
    """Where everything is.

    Attributes:
        folder: for files of the run.
        postgresql: the server, for accounting.
        ca: the authority of its certificate.
        issuer: the identity provider.
    """

    folder: Path
    postgresql: PostgresqlServer
    ca: Path
    issuer: str

    @property
    def account(self) -> dict[str, Any]:
        """The reader's login, as asyncpg takes it."""
        return {
            "host": self.postgresql.host,
            "port": self.postgresql.port,
            "user": _ACCOUNT,
            "password": _PASSWORD,
            "database": self.postgresql.database,
        }

    def token(self) -> str:
        """A new access token, by client credentials."""
        form = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET}
        request = urllib.request.Request(f"{self.issuer}/token", urllib.parse.urlencode(form).encode())
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(json.load(response)["access_token"])


@contextmanager
def open_world() -> Iterator[World]:
    """Start everything; it is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        authority = Authority(folder / "tls")
        pair = authority.issue("localhost", address=PostgresqlServer.host)
        options = [f"-c ssl_{kind}_file={path}" for kind, path in _readable(pair.certificate, pair.key).items()]
        tuning = ("-c ssl=on", "-c ssl_min_protocol_version=TLSv1.3", "-c shared_buffers=128MB")
        with running_postgresql(*tuning, "-c max_connections=200", *options) as postgresql, _identity() as issuer:
            asyncio.run(_fill(postgresql))
            yield World(folder, postgresql, authority.path, issuer)


def _readable(certificate: Path, key: Path) -> dict[str, Path]:
    """The server runs as another user, who must own its key."""
    owner = certificate.parent.stat()
    for path in (certificate, key):
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    return {"cert": certificate, "key": key}


async def _fill(postgresql: PostgresqlServer) -> None:
    connection = await postgresql.admin()
    try:
        await connection.execute(_DATA)
        await connection.execute("vacuum analyze")
    finally:
        await connection.close()


@contextmanager
def _identity() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench.identity"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield str(json.loads(process.stdout.readline())["issuer"])
        finally:
            process.stdin.close()
            process.wait(10)
