"""Certificates that expire while they are used: the database's, the gateway's own, and the listener's."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.backends import Postgresql, label
from tests.faults.calls import LOST, OK
from tests.faults.process import Place
from tests.faults.trial import DOWN, trial
from tests.faults.world import World, open_world, seconds
from tests.servers.certificates import Authority, Pair
from tests.servers.local import HOST, run
from tests.servers.postgresql import PostgresqlServer
from tests.servers.proxy import fault_proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")

LATER = "+2d"
"""The gateway's clock, after certificates of one day have expired."""
_HOW = ("FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1")
EXPECTED = [{"id": 1, "label": label(1)}]


class SecuredPostgresql(Postgresql):
    """The server with TLS only, and accounts that are certificates."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="gateway-postgresql-"))
        self.authority = Authority(folder / "authority", days=365)
        hba = folder / "hba"
        hba.write_text("local all all trust\nhostssl all gateway all cert\nhost all all all scram-sha-256\n")
        hba.chmod(0o644)
        files = {"cert": folder / "server.pem", "key": folder / "server.key", "ca": self.authority.path}
        options = [f"-c ssl_{name}_file={path}" for name, path in files.items()]
        self.server = PostgresqlServer(folder / "server", ("-c ssl=on", f"-c hba_file={hba}", *options))
        self._files = files
        self.own = Pair(folder / "own.pem", folder / "own.key")
        put(self.authority.issue("localhost", days=1, address=HOST), files["cert"], files["key"])
        put(self.authority.issue("gateway", days=30), self.own.certificate, self.own.key)

    def login(self) -> dict[str, Any]:
        tls = {"mode": "verify-full", "ca": str(self.authority.path)}
        tls |= {"certificate": str(self.own.certificate), "key": str(self.own.key)}
        place = {"host": self.proxy.host, "port": self.proxy.port, "database": "postgres"}
        return {"engine": "postgresql", "user": "gateway", "tls": tls, **place}

    async def renew(self) -> None:
        """Give the server a new certificate, as it runs."""
        put(self.authority.issue("localhost", days=30, address=HOST), self._files["cert"], self._files["key"])
        folder = self.server.folder
        await asyncio.to_thread(run, [self.server.programs["pg_ctl"], "reload", "-D", folder / "data"], folder)


def put(pair: Pair, certificate: Path, key: Path) -> None:
    """Put a certificate where it is read; the database's server insists that its key is its own."""
    for source, target in ((pair.key, key), (pair.certificate, certificate)):
        partial = target.with_suffix(".partial")
        shutil.copy(source, partial)
        partial.chmod(0o600)
        if os.geteuid() == 0 and target.name.startswith("server"):
            os.chown(partial, pwd.getpwnam("nobody").pw_uid, -1)
        partial.rename(target)


def moved(clock: Path) -> tuple[str, ...]:
    """Words before a command whose clock differs by what a file says at each moment; waiting is not moved."""
    [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    clock.write_text("+0d")
    return ("env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={clock}", *_HOW)


@pytest.fixture(scope="module")
def servers(fault_servers: None, faketime: None) -> None:
    """What must be installed."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secured(servers: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """TLS everywhere, and a gateway whose clock can be moved."""
    folder = tmp_path_factory.mktemp("certificates")
    backend = SecuredPostgresql()
    listener = Pair(folder / "listener.pem", folder / "listener.key")
    put(backend.authority.issue("localhost", days=30, address=HOST), listener.certificate, listener.key)
    context = ssl.create_default_context(cafile=str(backend.authority.path))
    place = Place(moved(folder / "clock"), {"ssl": context}, "https")
    tls = {"certificate": str(listener.certificate), "key": str(listener.key)}
    try:
        await backend.start()
        await backend.fill()
        async with (
            fault_proxy(HOST, backend.server.port) as backend.proxy,
            open_world({backend.name: backend}, place, server={"tls": tls}) as world,
        ):
            world.files = {"clock": folder / "clock", "certificate": listener.certificate, "key": listener.key}
            yield world
    finally:
        backend.server.close()
        shutil.rmtree(backend.server.folder.parent, ignore_errors=True)


def backend_of(world: World) -> SecuredPostgresql:
    """The one database."""
    backend = world.backends["postgresql"]
    assert isinstance(backend, SecuredPostgresql)
    return backend


async def test_database_certificate_expires(secured: World) -> None:
    """Connections that stand go on; new ones are refused by us, until the server has a new certificate."""
    backend, process = backend_of(secured), secured.gateway.pid
    async with trial(
        secured, "the database's certificate expires, and is renewed", hits=["postgresql"], may_fail=DOWN
    ) as one:
        secured.files["clock"].write_text(LATER)
        await one.answers(20)
        assert not one.failed
        backend.proxy.reset()
        await asyncio.sleep(seconds(20, 0))
        await secured.gateway.until_health(lambda health: "expired" in health["sources"]["postgresql"]["status"], 30)
        await backend.renew()
        one.over()
    secured.files["clock"].write_text("+0d")
    assert secured.gateway.pid == process
    left = {name: value for name, value in (await expiry(secured)).items() if name[0] == "server"}
    assert min(left.values()) > 20 * 86_400, left


async def test_our_certificate_expires(secured: World) -> None:
    """The database refuses us, until our files are renewed; nobody restarts anything."""
    backend, process = backend_of(secured), secured.gateway.pid
    refused = (*DOWN, "login_failed")
    async with trial(
        secured,
        "the gateway's client certificate expires, and is renewed",
        hits=["postgresql"],
        may_fail=refused,
        heals_within=40,  # refused logins are far apart, since they can lock an account
    ) as one:
        put(backend.authority.issue("gateway", days=-1), backend.own.certificate, backend.own.key)
        await one.answers(20)
        assert not one.failed
        backend.proxy.reset()
        await asyncio.sleep(seconds(20, 0))
        await secured.gateway.until_health(lambda health: health["sources"]["postgresql"]["status"] != "up", 30)
        assert (await expiry(secured))["client", "postgresql"] < 0
        put(backend.authority.issue("gateway", days=30), backend.own.certificate, backend.own.key)
        one.over()
    assert secured.gateway.pid == process


async def test_listener_certificate_expires(secured: World) -> None:
    """Clients that are connected go on; new ones refuse us, until the files are renewed."""
    authority, process = backend_of(secured).authority, secured.gateway.pid

    async def comes_in() -> bool:
        async with secured.agent("agent-3") as agent:
            outcome = await agent.call("postgresql_read", {"id": 1}, EXPECTED)
        assert outcome.word in (OK, LOST), outcome
        return outcome.word == OK

    async with trial(secured, "the listener's certificate expires, and is renewed", is_felt=False):
        for days, is_good in ((-1, False), (30, True)):
            pair = authority.issue("localhost", days=days, address=HOST)
            put(pair, secured.files["certificate"], secured.files["key"])
            async with asyncio.timeout(20):
                while await comes_in() is not is_good:  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(0.1)
            assert ((await expiry(secured))["listener", "server"] > 0) is is_good
    assert '"event":"certificate has expired"' in secured.gateway.log.read_text()
    assert secured.gateway.pid == process


async def expiry(world: World) -> dict[tuple[str, str], float]:
    """Seconds until certificates expire, by role and name, as the metric says."""
    found = {}
    for (name, labels), value in (await world.gateway.metrics()).items():
        if name == "gateway_certificate_expiry_seconds":
            told = dict(labels)
            found[told["role"], told["name"]] = value
    return found
