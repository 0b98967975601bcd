"""HTTPS by the gateway itself: versions, client certificates, rotation, and what is refused at start."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.config.loader import load
from gateway.config.server import ListenerTlsSettings
from gateway.server.app import open_gateway
from gateway.server.listener import StartError
from gateway.server.tls import CertificateError, Certificates
from tests.server.raw import connect, post
from tests.servers.certificates import Authority, Pair
from tests.world import CONFIGURATION, World, open_world

_HEALTH = b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Desk:
    """An authority and the files that the gateway reads."""

    authority: Authority
    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"

    def put(self, pair: Pair) -> None:
        self.certificate.write_bytes(pair.certificate.read_bytes())
        self.key.write_bytes(pair.key.read_bytes())

    def renew(self, name: str = "localhost", *, days: float = 30.0) -> None:
        self.put(self.authority.issue(name, days=days, address="127.0.0.1"))

    def settings(self, **more: object) -> ListenerTlsSettings:
        return ListenerTlsSettings.model_validate({"certificate": self.certificate, "key": self.key, **more})

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.path))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """With a certificate that is good for a month."""
    (tmp_path / "tls").mkdir()
    desk = Desk(Authority(tmp_path / "authority"), tmp_path / "tls")
    desk.renew()
    return desk


@asynccontextmanager
async def _world(desk: Desk, more: str = "") -> AsyncIterator[World]:
    tls = f"{{certificate: {desk.certificate}, key: {desk.key}{more}}}"
    text = CONFIGURATION.replace("port: 0}", f"port: 0, header_timeout: 500ms, tls: {tls}}}", 1)
    async with open_world(desk.folder, text) as world:
        yield world


async def _status(world: World, context: ssl.SSLContext) -> int:
    async with connect(world.base, context) as wire:
        await wire.send(_HEALTH)
        return (await wire.answer())[0]


async def _until_serial(world: World, context: ssl.SSLContext, other_than: object) -> object:
    """The serial number of the certificate that new connections get, once it is another one."""
    async with asyncio.timeout(15):
        while True:
            async with connect(world.base, context) as wire:
                serial = wire.writer.get_extra_info("peercert")["serialNumber"]
            if serial != other_than:
                return serial
            await asyncio.sleep(0.05)


async def test_calls_go_through_tls_1_3_and_answers_insist_on_https(desk: Desk) -> None:
    async with _world(desk) as world:
        assert world.base.startswith("https://")
        async with connect(world.base, desk.client()) as wire:
            assert wire.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            await wire.send(post(b"{}"))
            status, headers, _ = await wire.answer()
            assert status == 401
            assert headers["strict-transport-security"] == "max-age=31536000"
            assert f'resource_metadata="{world.base}/' in headers["www-authenticate"]


async def test_older_versions_are_refused_unless_they_are_asked_for(desk: Desk) -> None:
    old = desk.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with _world(desk) as world:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await _status(world, old)
        assert await _status(world, desk.client()) == 200
    async with _world(desk, ', min_version: "1.2"') as world:
        assert await _status(world, old) == 200


async def test_a_client_certificate_opens_the_port_and_nothing_else(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    known, stranger = desk.authority.issue("agent-7"), Authority(desk.folder / "other").issue("agent-7")
    async with _world(desk, f", client_ca: {desk.authority.path}") as world:
        for context in (desk.client(), desk.client(stranger)):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await _status(world, context)
        async with connect(world.base, desk.client(known)) as wire:
            await wire.send(post(b"{}"))
            assert (await wire.answer())[0] == 401
        lines = [vars(record) for record in caplog.records if record.name == "gateway.request"]
        assert [(line["client_certificate"], line["status"]) for line in lines] == [("commonName=agent-7", 401)]
    async with _world(desk, f", client_ca: {desk.authority.path}, client_certificates: optional") as world:
        assert await _status(world, desk.client()) == 200
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await _status(world, desk.client(stranger))


async def test_who_does_not_shake_hands_is_hung_up_on_and_plain_http_is_no_noise(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async with _world(desk) as world:
        caplog.clear()
        plain = world.base.replace("https", "http")
        async with connect(plain) as wire:
            assert await wire.until_closed() == b""
        for _ in range(20):
            async with connect(plain) as wire:
                await wire.send(_HEALTH)
                await wire.until_closed()
        assert await _status(world, desk.client()) == 200
        noisy = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert {record.getMessage() for record in noisy} == {"handshakes failed"}
        assert len(noisy) <= 2


async def test_new_files_are_taken_and_standing_connections_live_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("gateway.server.tls.POLL", 0.05)
    context = desk.client()
    async with _world(desk) as world, connect(world.base, context) as standing:
        await standing.send(_HEALTH)
        assert (await standing.answer())[0] == 200
        first = standing.writer.get_extra_info("peercert")["serialNumber"]
        desk.renew()
        second = await _until_serial(world, context, first)
        # As a mounted secret is replaced: a link to a folder.
        new = desk.folder / "..new"
        new.mkdir()
        pair = desk.authority.issue("localhost", days=30, address="127.0.0.1")
        (new / "tls.crt").write_bytes(pair.certificate.read_bytes())
        (new / "tls.key").write_bytes(pair.key.read_bytes())
        for name in ("tls.crt", "tls.key"):
            (desk.folder / f"{name}.link").symlink_to(new / name)
            (desk.folder / f"{name}.link").replace(desk.folder / name)
        third = await _until_serial(world, context, second)
        assert len({first, second, third}) == 3
        await standing.send(_HEALTH)
        assert (await standing.answer())[0] == 200
    assert [record.getMessage() for record in caplog.records].count("certificate replaced") == 2


async def test_what_cannot_be_used_is_said_once_and_the_old_stays(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    certificates = Certificates(desk.settings())
    before = certificates.context
    desk.certificate.write_bytes(desk.authority.issue("localhost").certificate.read_bytes())
    await certificates.refresh()
    # Half of a rotation: nothing is said yet.
    assert not caplog.records
    for _ in range(5):
        await certificates.refresh()
    assert [record.getMessage() for record in caplog.records] == ["new certificate refused; the old one stays"]
    assert str(desk.key) in vars(caplog.records[0])["detail"]
    assert certificates.context is before
    desk.renew()
    await certificates.refresh()
    assert certificates.context is not before
    desk.key.unlink()
    for _ in range(5):
        await certificates.refresh()
    assert [record.getMessage() for record in caplog.records][1:] == ["new certificate refused; the old one stays"]


async def test_an_end_that_is_near_is_warned_about(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.renew(days=10)
    certificates = Certificates(desk.settings())
    assert abs(certificates.not_after - datetime.now(UTC) - timedelta(days=10)) < timedelta(minutes=5)
    for _ in range(3):
        await certificates.refresh()
    desk.renew(days=-1)
    await certificates.refresh()
    assert [record.getMessage() for record in caplog.records] == ["certificate expires soon", "certificate has expired"]


def _encrypt(key: Path) -> None:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"word")
    key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))


def test_an_encrypted_key_needs_its_password(desk: Desk) -> None:
    _encrypt(desk.key)
    with pytest.raises(CertificateError, match=r"needs server\.tls\.key_password"):
        Certificates(desk.settings())
    with pytest.raises(CertificateError, match="key_password opens"):
        Certificates(desk.settings(key_password="wrong"))
    assert Certificates(desk.settings(key_password="word")).context


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"\xff\xfe", b"x" * (2 << 20)])
async def test_a_start_with_unusable_files_names_the_file(desk: Desk, name: str, content: bytes | None) -> None:
    authority = desk.folder / "ca.crt"
    authority.write_bytes(desk.authority.path.read_bytes())
    broken = desk.folder / name
    if content is None:
        broken.unlink()
    else:
        broken.write_bytes(content)
    path = desk.folder / "gateway.yaml"
    path.write_text(
        "server: {port: 0, tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt}}\n"
        "admin: {port: 0}\nauth: {mode: none}\n"
    )
    with pytest.raises(StartError) as caught:
        async with open_gateway(load(path)):
            pass
    assert str(broken) in caught.value.message


def test_a_key_of_another_certificate_is_called_so(desk: Desk) -> None:
    desk.key.write_bytes(desk.authority.issue("localhost").key.read_bytes())
    with pytest.raises(CertificateError, match="is not the key of"):
        Certificates(desk.settings())
