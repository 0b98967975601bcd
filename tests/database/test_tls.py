"""TLS towards databases: the defaults, and a real PostgreSQL with a private authority."""

from __future__ import annotations

import datetime
import ipaddress
import os
import pwd
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.config.models import TlsSettings
from gateway.database import tls
from tests.database.support import reached, run, started, statement, until
from tests.servers.postgresql import PostgresqlServer, running_postgresql

NOW = datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize(
    ("host", "mode"),
    [
        ("127.0.0.1", "disable"),
        ("::1", "disable"),
        ("localhost", "disable"),
        ("/var/run/postgresql", "disable"),
        ("db.internal", "verify-full"),
        ("localhost.example.com", "verify-full"),
        ("10.0.0.1", "verify-full"),
    ],
)
def test_the_default_verifies_everything_off_loopback(host: str, mode: str) -> None:
    assert tls.mode_of(TlsSettings(), host) == mode


def test_only_modern_ciphers_are_offered() -> None:
    context = tls.context_of(TlsSettings(min_version="1.2"), "db.internal")
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for cipher in context.get_ciphers():
        assert cipher["aead"]
        assert cipher["protocol"] == "TLSv1.3" or "ECDHE" in cipher["name"]
    strict = tls.context_of(TlsSettings(), "db.internal")
    assert strict is not None
    assert strict.minimum_version is ssl.TLSVersion.TLSv1_3


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(tls.TlsUnusable, match=r"missing\.pem"):
        tls.context_of(TlsSettings(ca=tmp_path / "missing.pem"), "db.internal")


class Authority:
    """A private certificate authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests' authority")])
        certificate = (
            self._builder(self.name, self.key, 1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.path = folder / "ca.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=9))
            .not_valid_after(NOW + datetime.timedelta(days=days))
        )

    def issue(self, name: str, alternatives: list[x509.GeneralName], days: int = 1) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, days)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        paths[1].chmod(0o600)
        return paths


@pytest.fixture(scope="module")
def secured() -> Iterator[tuple[PostgresqlServer, Authority]]:
    """A server that takes TLS only, and an account that needs a client certificate."""
    with running_postgresql() as server:
        server.stop()
        authority = Authority(server.folder)
        certificate, key = authority.issue(
            "server", [x509.DNSName("db.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        authority.issue("expired", [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], days=-1)
        authority.issue("elsewhere", [x509.DNSName("elsewhere.test")])
        if os.getuid() == 0:
            account = pwd.getpwnam("nobody")
            for path in server.folder.glob("*.key"):
                os.chown(path, account.pw_uid, account.pw_gid)
        (server.folder / "data" / "pg_hba.conf").write_text(
            "hostssl all postgres all scram-sha-256\nhostssl all mutual all cert\nlocal all all trust\n"
        )
        server.options = (
            "-c ssl=on",
            f"-c ssl_ca_file={authority.path}",
            f"-c ssl_cert_file={certificate}",
            f"-c ssl_key_file={key}",
        )
        server.start()
        yield server, authority


async def test_verify_full_reaches_a_proven_server(secured: tuple[PostgresqlServer, Authority]) -> None:
    server, authority = secured
    for extra in ({}, {"server_name": "db.test"}, {"mode": "verify-ca"}, {"mode": "require"}):
        options = {"mode": "verify-full", "ca": authority.path} | extra
        async with reached(server.settings(tls=options)) as source:
            shown = await run(
                source,
                statement(source.engine, "select version from pg_stat_ssl where pid = pg_backend_pid()"),
            )
            assert shown.rows[0][0] == "TLSv1.3"


async def test_a_client_certificate_logs_in(secured: tuple[PostgresqlServer, Authority]) -> None:
    server, authority = secured
    admin = {"tls": {"mode": "verify-full", "ca": authority.path}, "access": "read-write"}
    async with reached(server.settings(**admin)) as source:
        await run(source, statement(source.engine, "create role mutual login", writes=True))
    certificate, key = authority.issue("mutual", [])
    options = {"mode": "verify-full", "ca": authority.path, "certificate": certificate, "key": key}
    async with reached(server.settings(user="mutual", password=None, tls=options)) as source:
        who = await run(source, statement(source.engine, "select current_user::text as who"))
        assert who.rows[0][0] == "mutual"
    async with started(server.settings(user="mutual", password=None, tls=admin["tls"])) as source:
        await until(lambda: source.trouble.startswith("login_failed"))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"mode": "verify-full"}, "certificate is refused: self-signed"),
        ({"mode": "verify-full", "ca": True, "server_name": "other.test"}, "not valid for 'other.test'"),
        ({"mode": "disable"}, "no encryption"),
    ],
)
async def test_a_server_that_cannot_be_proven_is_refused(
    secured: tuple[PostgresqlServer, Authority], options: dict[str, Any], word: str
) -> None:
    server, authority = secured
    given = options | ({"ca": authority.path} if "ca" in options else {})
    async with started(server.settings(tls=given)) as source:
        await until(lambda: source.trouble not in {"", "not reached yet"})
        assert word in source.trouble
        assert not source.is_up


@pytest.mark.parametrize(("certificate", "word"), [("expired", "expired"), ("elsewhere", "not valid for '127.0.0.1'")])
async def test_bad_certificates_are_told_apart(
    secured: tuple[PostgresqlServer, Authority], certificate: str, word: str
) -> None:
    server, authority = secured
    options = server.options
    server.stop()
    server.options = (
        *options[:2],
        f"-c ssl_cert_file={server.folder / certificate}.pem",
        f"-c ssl_key_file={server.folder / certificate}.key",
    )
    server.start()
    try:
        async with started(server.settings(tls={"mode": "verify-full", "ca": authority.path})) as source:
            await until(lambda: word in source.trouble)
            assert source.trouble.startswith("source_unavailable")
    finally:
        server.stop()
        server.options = options
        server.start()
