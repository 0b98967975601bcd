"""TLS towards real servers: what is accepted, and what each refusal says."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.config.sources import AnySource
from gateway.database.sources import build_engine
from gateway.database.tls import Sighting
from gateway.errors import Code, ToolError
from tests.database.support import started, statement
from tests.servers.certificates import Authority, Pair
from tests.servers.local import HOST, own
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


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="gateway-tls-", ignore_cleanup_errors=True) as name:
        folder = own(Path(name))
        authority = Authority(folder / "authority")
        (folder / "hba").write_text(HBA)
        (folder / "hba").chmod(0o644)
        server: Server
        if request.param == "postgresql":
            server = PostgresqlServer(folder / "server", ("-c log_connections=on",))
        else:
            server = MariadbServer(folder / "server")
        server.start()
        try:
            yield Place(request.param, server, authority, folder)
        finally:
            server.stop()


async def refusal(place: Place, settings: AnySource) -> ToolError:
    """What the engine says when it cannot connect."""
    engine = build_engine(settings, "tls")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what it is, is asked next
        await engine.connect()
    return engine.translate(caught.value)


async def cipher(place: Place, settings: AnySource) -> str:
    """Log in and run; the protocol in use."""
    engine = build_engine(settings, "tls")
    connection = await engine.connect()
    text = (
        "select version as v from pg_stat_ssl where pid = pg_backend_pid()"
        if place.engine == "postgresql"
        else "select variable_value as v from information_schema.session_status where variable_name = 'Ssl_version'"
    )
    table = await connection.run(statement(engine, text), [], 1, lambda _: None)
    await connection.close()
    # What the server showed is known by now, for whoever watches over certificates; it is good for a day.
    sighting = getattr(engine, "sighting", None)
    assert isinstance(sighting, Sighting)
    assert sighting.expires_at == pytest.approx(time.time() + 86_400, abs=600)
    return str(table.rows[0][0])


async def test_a_verified_server_is_used(place: Place) -> None:
    place.serve(place.authority.issue("db.test"))
    assert await cipher(place, place.settings()) == "TLSv1.3"
    assert await cipher(place, place.settings(min_version="1.2")) == "TLSv1.3"
    assert await cipher(place, place.settings(mode="verify-ca", server_name="other.test")) == "TLSv1.3"
    assert await cipher(place, place.settings(mode="require", ca=None)) == "TLSv1.3"
    place.serve(place.authority.issue("db.test", address=HOST))
    assert await cipher(place, place.settings(server_name=None)) == "TLSv1.3"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("expired", "it has expired"),
        ("wrong name", "it is for another name than the host"),
        ("wrong address", "it is for another address than the host"),
        ("untrusted", "it is not signed by an authority in tls.ca"),
        ("none", "the server offers none"),
        ("old", "as new as tls.min_version"),
    ],
)
async def test_each_refusal_says_why_before_credentials_are_sent(place: Place, fault: str, words: str) -> None:
    settings = place.settings(**({"server_name": None} if fault == "wrong address" else {}))
    stranger = Authority(place.folder / "stranger", "stranger")
    served = {
        "expired": place.authority.issue("db.test", days=-1),
        "wrong name": place.authority.issue("other.test"),
        "untrusted": stranger.issue("db.test"),
        "none": None,
    }
    place.serve(served.get(fault, place.authority.issue("db.test")), newest="1.2" if fault == "old" else "1.3")
    before = len(place.log())
    error = await refusal(place, settings)
    assert error.code is Code.SOURCE_UNAVAILABLE
    assert words in error.detail, error.detail
    assert "TLS" not in error.message
    seen = place.log()[before:]
    assert "Connect\t" not in seen.replace(" ", "\t")
    assert "connection authenticated" not in seen
    if fault == "old":
        assert await cipher(place, place.settings(min_version="1.2")) == "TLSv1.2"


async def test_client_certificates_are_asked_for_and_checked(place: Place) -> None:
    place.serve(place.authority.issue("db.test"))
    admin = await place.server.admin()
    if place.engine == "postgresql":
        await admin.execute("drop role if exists certified; create role certified login")
        await admin.close()
    else:
        await admin.query("create or replace user certified@'%' identified by 'x' require x509")
        await admin.query("grant select on tests.* to certified@'%'")
        admin.close()
    ours = place.authority.issue("certified")
    foreign = Authority(place.folder / "foreign", "foreign").issue("certified")

    def files(pair: Pair) -> dict[str, str]:
        return {"certificate": str(pair.certificate), "key": str(pair.key)}

    assert await cipher(place, place.settings("certified", **files(ours))) == "TLSv1.3"
    error = await refusal(place, place.settings("certified"))
    assert error.code is Code.LOGIN_FAILED, error.detail
    for _ in range(20):  # the server's reason can be overtaken by the end of the connection
        error = await refusal(place, place.settings("certified", **files(foreign)))
        if "tls.certificate" in error.detail:
            break
    assert error.code is Code.SOURCE_UNAVAILABLE, error.detail
    assert "tls.certificate" in error.detail


async def test_a_key_that_cannot_be_read_is_named(place: Place, tmp_path: Path) -> None:
    pair = place.authority.issue("certified")
    missing = tmp_path / "missing.key"
    async with started(place.settings(certificate=str(pair.certificate), key=str(missing))) as source:
        error = await refusal(place, source.settings)
    assert error.code is Code.SOURCE_UNAVAILABLE
    assert str(missing) in error.detail
