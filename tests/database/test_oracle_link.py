"""How Oracle is reached: addresses, TLS, wallets and logins; the unmodified driver against the stand-in."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import oracledb
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from gateway.config.sources import OracleSettings
from gateway.database import oracle_link, oracle_wallet
from gateway.database.care import open_connection
from gateway.database.oracle import OracleEngine
from gateway.database.oracle_connection import OracleConnection
from gateway.database.sources import build_engine
from gateway.database.tls import TlsUnusable
from gateway.demo.identity import IdentityProvider
from gateway.errors import Code, ToolError
from tests.database.support import run, started, statement, until
from tests.servers.certificates import Authority, Pair
from tests.servers.local import free_port, own
from tests.servers.oci import bound_token, pem, running_data_plane
from tests.servers.oracle.reception import TOKEN_AUDIENCE
from tests.servers.oracle.server import OracleServer, running_oracle


@asynccontextmanager
async def connected(settings: OracleSettings) -> Any:
    connection = await open_connection(OracleEngine(settings, "test"), settings.connect_timeout)
    assert isinstance(connection, OracleConnection)
    try:
        yield connection
    finally:
        connection.abort()


async def refused(settings: OracleSettings) -> ToolError:
    with pytest.raises(ToolError) as caught:
        async with connected(settings):
            pass
    return caught.value


async def asked(settings: OracleSettings, expression: str) -> Any:
    async with started(settings) as source:
        table = await run(source, statement(source.engine, f'select {expression} as "x"'))
    return table.rows[0][0]


# Logins


@pytest.mark.parametrize(
    ("overrides", "code", "part"),
    [
        ({"password": "wrong"}, Code.LOGIN_FAILED, "ORA-01017"),
        ({"user": "nobody"}, Code.LOGIN_FAILED, "ORA-01017"),
        ({"user": "locked"}, Code.LOGIN_FAILED, "ORA-28000"),
        ({"user": "gateway[eve]"}, Code.LOGIN_FAILED, "ORA-28150"),
        ({"user": "impostor"}, Code.SOURCE_UNAVAILABLE, "the server did not prove that it knows the password"),
        ({"service": "OTHER"}, Code.SOURCE_UNAVAILABLE, "the listener knows no such service"),
        ({"host": "nowhere.invalid", "tls": {"mode": "disable"}}, Code.SOURCE_UNAVAILABLE, "the host name is unknown"),
    ],
)
async def test_a_refusal_says_what_to_do(
    oracle: OracleServer, overrides: dict[str, Any], code: Code, part: str
) -> None:
    error = await refused(oracle.settings(**overrides))
    assert error.code is code
    assert part in error.detail
    assert oracle.password not in error.detail + error.message
    assert "SHOP" not in error.message


ANSWERS = {
    12514: "the listener knows no such service",
    12516: "`processes` or `sessions` are used up",
    12520: "`pooled` needs DRCP",
    12528: "it is starting",
    12537: "TCP.VALIDNODE_CHECKING",
}


async def test_what_the_listener_answers_is_explained(own_oracle: OracleServer) -> None:
    for number, part in ANSWERS.items():
        own_oracle.tell(refuse=number)
        error = await refused(own_oracle.settings())
        assert (error.code, error.is_retryable) == (Code.SOURCE_UNAVAILABLE, True)
        assert part in error.detail
    own_oracle.tell(refuse=None)
    assert await asked(own_oracle.settings(), "1") == 1


async def test_nobody_listens(oracle: OracleServer) -> None:
    error = await refused(oracle.settings(port=free_port()))
    assert error.code is Code.SOURCE_UNAVAILABLE
    assert "nothing listens at that host and port" in error.detail


async def test_a_token_is_the_login_and_a_refused_one_is_replaced(
    secured: OracleServer, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    clients = {"gateway": ("gateway-secret", ("database",))}
    async with IdentityProvider(clients=clients, audience=TOKEN_AUDIENCE) as provider:
        token = {
            "url": provider.token_url,
            "client_id": "gateway",
            "client_secret": SecretStr("gateway-secret"),
            "scope": "database",
        }
        settings = secured.settings(
            user=None, password=None, host="localhost", token=token, tls=tls(authority), pool={"min": 1, "max": 1}
        )
        engine = OracleEngine(settings)
        (await engine.connect()).abort()
        first = (await engine._login.now())["access_token"]
        (secured.folder / "revoked").write_text(first)
        with pytest.raises(oracledb.DatabaseError, match="ORA-01017"):
            await engine.connect()
        (await engine.connect()).abort()
        assert (await engine._login.now())["access_token"] != first
    assert first not in caplog.text


async def test_a_token_of_oci_iam_comes_with_the_proof_of_its_key(
    secured: OracleServer, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_data_plane() as plane:
        settings = secured.settings(
            user=None, password=None, host="localhost", tls=tls(authority), oci_token=plane.settings()
        )
        assert await asked(settings, "sys_context('userenv', 'session_user')") == "GATEWAY"
        engine = OracleEngine(settings)
        for _ in range(2):
            (await engine.connect()).abort()
        assert len(plane.issued) == 2  # the source's and the engine's, each kept
        (secured.folder / "revoked").write_text(plane.issued[-1])
        with pytest.raises(oracledb.DatabaseError, match="ORA-01017"):
            await engine.connect()
        (await engine.connect()).abort()
        assert len(plane.issued) == 3
        plane.fault = lambda: web.json_response({"code": "NotAuthenticated", "message": "no such key"}, status=401)
        error = await refused(settings)
        assert error.code is Code.SOURCE_UNAVAILABLE
        assert "gave no token: no such key" in error.detail
    shown = caplog.text + error.detail
    assert not any(secret in shown for secret in (*plane.issued, "PRIVATE KEY"))


async def test_a_token_whose_key_somebody_else_has_is_refused(
    secured: OracleServer, authority: Authority, tmp_path: Path
) -> None:
    folder, own = tmp_path / "token", rsa.generate_private_key(65537, 2048)
    folder.mkdir()
    (folder / "oci_db_key.pem").write_text(pem(own))
    settings = secured.settings(user=None, password=None, host="localhost", tls=tls(authority), token_folder=folder)

    def give(key: rsa.RSAPrivateKey, life: float = 3600.0) -> None:
        (folder / "token").write_text(bound_token(key.public_key(), life=life))

    assert "it holds token and oci_db_key.pem" in (await refused(settings)).detail
    give(rsa.generate_private_key(65537, 2048))
    assert (await refused(settings)).code is Code.LOGIN_FAILED
    give(own)
    async with started(settings) as source:
        item = statement(source.engine, "select 1 as n")
        assert (await run(source, item)).rows
        give(own, -10.0)
        error = await refused(settings)
        assert error.code is Code.SOURCE_UNAVAILABLE
        assert "expired at 20" in error.detail
        assert "does `oci iam db-token get`" in error.detail
        (folder / "token").write_text("no token")
        assert "no JWT with an end" in (await refused(settings)).detail


async def test_an_end_user_logs_in_by_proxy(oracle: OracleServer) -> None:
    settings = oracle.settings(user="gateway[ada]")
    assert await asked(settings, "sys_context('userenv', 'session_user')") == "ADA"
    assert await asked(settings, "sys_context('userenv', 'proxy_user')") == "GATEWAY"


async def test_a_pooled_server_is_asked_for_by_class(oracle: OracleServer) -> None:
    settings = oracle.settings(pooled=True, connection_class="GATEWAY")
    assert await asked(settings, "sys_context('userenv', 'connection_class')") == "GATEWAY"


# Addresses


@pytest.mark.parametrize(
    "form",
    [
        "{host}:{port}/SHOP",
        "(DESCRIPTION=(RETRY_COUNT=20)(RETRY_DELAY=3)"
        "(ADDRESS=(PROTOCOL=tcp)(HOST={host})(PORT={port}))(CONNECT_DATA=(SERVICE_NAME=SHOP)))",
        "tcp://{host}:{port}/SHOP?expire_time=2",
    ],
)
async def test_a_descriptor_or_easy_connect_does_as_well(oracle: OracleServer, form: str) -> None:
    dsn = form.format(host=oracle.host, port=oracle.port)
    assert await asked(oracle.settings(host=None, service=None, port=None, dsn=dsn), "1") == 1


@pytest.mark.parametrize(
    "form",
    [
        "(DESCRIPTION=(ADDRESS_LIST=(ADDRESS=(PROTOCOL=tcp)(HOST=127.0.0.1)(PORT={silent}))"
        "(ADDRESS=(PROTOCOL=tcp)(HOST={host})(PORT={port})))(CONNECT_DATA=(SERVICE_NAME=SHOP)))",
        "(DESCRIPTION=(LOAD_BALANCE=on)(ADDRESS=(PROTOCOL=tcp)(HOST=127.0.0.1)(PORT={silent}))"
        "(ADDRESS=(PROTOCOL=tcp)(HOST={host})(PORT={port}))(CONNECT_DATA=(SERVICE_NAME=SHOP)))",
        "tcp://127.0.0.1:{silent},{host}:{port}/SHOP",
        "127.0.0.1:{silent};{host}:{port}/SHOP?expire_time=2",
    ],
)
async def test_an_address_of_a_descriptor_that_does_not_answer_takes_its_share_only(
    oracle: OracleServer, form: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = form.format(silent=silent.getsockname()[1], host=oracle.host, port=oracle.port)
        settings = oracle.settings(host=None, service=None, port=None, dsn=dsn, connect_timeout="2s")
        assert await asked(settings, "1") == 1
        assert len(oracle_link.listeners(settings)) == 2


@pytest.mark.parametrize(
    "dsn",
    [
        "(DESCRIPTION=(SOURCE_ROUTE=on)(ADDRESS=(PROTOCOL=tcp)(HOST=a)(PORT=1))(ADDRESS=(PROTOCOL=tcp)(HOST=b)(PORT=2))"
        "(CONNECT_DATA=(SERVICE_NAME=S)))",
        "(DESCRIPTION=(FAILOVER=off)(ADDRESS=(PROTOCOL=tcp)(HOST=a)(PORT=1))(ADDRESS=(PROTOCOL=tcp)(HOST=b)(PORT=2))"
        "(CONNECT_DATA=(SERVICE_NAME=S)))",
        "(DESCRIPTION_LIST=(DESCRIPTION=(ADDRESS=(PROTOCOL=tcp)(HOST=a)(PORT=1))(CONNECT_DATA=(SERVICE_NAME=S)))"
        "(DESCRIPTION=(ADDRESS=(PROTOCOL=tcp)(HOST=b)(PORT=2))(CONNECT_DATA=(SERVICE_NAME=T))))",
    ],
)
def test_a_descriptor_that_means_more_than_a_choice_stays_whole(oracle: OracleServer, dsn: str) -> None:
    settings = oracle.settings(host=None, service=None, port=None, dsn=dsn)
    assert oracle_link.addresses(settings) == (oracle_link.Address("a", 1, dsn),)
    assert oracle_link.listeners(settings) == (("a", 1), ("b", 2))


def test_what_else_a_descriptor_says_is_kept_for_each_address(oracle: OracleServer) -> None:
    dsn = (
        "(DESCRIPTION=(EXPIRE_TIME=2)(ADDRESS_LIST=(LOAD_BALANCE=off)(ADDRESS=(PROTOCOL=tcps)(HOST=a)(PORT=1))"
        "(ADDRESS=(PROTOCOL=tcps)(HOST=b)(PORT=2)))(ADDRESS=(PROTOCOL=tcps)(HOST=c)(PORT=3)(HTTPS_PROXY=p)"
        '(HTTPS_PROXY_PORT=4))(CONNECT_DATA=(SID=X)(SERVER=pooled))(SECURITY=(SSL_SERVER_CERT_DN="CN=x,O=y")))'
    )
    places = oracle_link.addresses(oracle.settings(host=None, service=None, port=None, dsn=dsn))
    assert [(each.host, each.port) for each in places] == [("a", 1), ("b", 2), ("c", 3)]
    for place in places:
        params = oracledb.ConnectParams()
        params.parse_connect_string(place.dsn)
        assert (params.host, params.port, params.protocol) == (place.host, place.port, "tcps")
        assert (params.expire_time, params.sid, params.server_type) == (2, "X", "pooled")
        assert params.ssl_server_cert_dn == "CN=x,O=y"
        assert params.https_proxy == ("p" if place.host == "c" else None)


async def test_a_descriptor_is_not_tried_again_by_the_driver(oracle: OracleServer) -> None:
    """Its own retries would hide the reason until our limit ends."""
    dsn = (
        f"(DESCRIPTION=(RETRY_COUNT=20)(RETRY_DELAY=1)(ADDRESS=(PROTOCOL=tcp)(HOST={oracle.host})(PORT={free_port()}))"
    )
    settings = oracle.settings(host=None, service=None, port=None, dsn=dsn + "(CONNECT_DATA=(SERVICE_NAME=SHOP)))")
    error = await refused(settings)
    assert "nothing listens" in error.detail


async def test_a_descriptor_that_cannot_be_read_is_named(oracle: OracleServer) -> None:
    error = await refused(oracle.settings(host=None, service=None, port=None, dsn="(DESCRIPTION=(ADDRESS="))
    assert error.code is Code.SOURCE_UNAVAILABLE
    assert "dsn:" in error.detail


async def test_the_first_host_that_lets_us_in_is_used(oracle: OracleServer) -> None:
    hosts = [{"host": oracle.host, "port": free_port()}, {"host": oracle.host, "port": oracle.port}]
    assert await asked(oracle.settings(host=None, port=None, hosts=hosts), "1") == 1


async def test_each_host_is_told_when_none_will_do(oracle: OracleServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it never answers
        hosts = [{"host": "127.0.0.1", "port": free_port()}, {"host": "127.0.0.1", "port": silent.getsockname()[1]}]
        started_at = time.monotonic()
        error = await refused(oracle.settings(host=None, port=None, hosts=hosts, connect_timeout="600ms"))
    assert time.monotonic() - started_at < 1.5
    assert error.code is Code.SOURCE_UNAVAILABLE
    assert "nothing listens" in error.detail
    assert "no answer within 0.3 s" in error.detail


async def test_a_refused_login_is_not_tried_at_the_next_host(oracle: OracleServer) -> None:
    hosts = [{"host": oracle.host, "port": oracle.port}] * 2
    error = await refused(oracle.settings(host=None, port=None, hosts=hosts, password="wrong"))
    assert error.code is Code.LOGIN_FAILED


async def test_connecting_is_bounded_and_leaves_nothing_open(oracle: OracleServer) -> None:
    """The driver ignores its own limit in async mode."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = _sockets()
        started_at = time.monotonic()
        error = await refused(oracle.settings(port=silent.getsockname()[1], connect_timeout="200ms"))
        assert error.code is Code.CONNECT_TIMEOUT
        assert time.monotonic() - started_at < 1.0
        await until(lambda: _sockets() <= before)
        encrypted = {"mode": "require"}
        error = await refused(oracle.settings(port=silent.getsockname()[1], connect_timeout="200ms", tls=encrypted))
        assert error.code is Code.CONNECT_TIMEOUT
        await until(lambda: _sockets() <= before)


def _sockets() -> int:
    links = (link for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link))
    return sum(link.is_socket() for link in links)


async def test_a_frozen_server_cannot_hold_a_connection_that_is_dropped(own_oracle: OracleServer) -> None:
    async with connected(own_oracle.settings()) as connection:
        own_oracle.signal_all(signal.SIGSTOP)
        work = asyncio.ensure_future(connection.ping())
        await asyncio.sleep(0)
        connection.abort()
        with pytest.raises(oracledb.DatabaseError, match="DPY-4011"):
            await work
        assert connection.is_closed


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("3.4.1", "is too old"),
        ("3.4.2", ""),
        ("4.0.2", ""),
        ("26.0.0", "can crash the process"),
        ("26.1.0", "can crash the process"),
        ("26.1.1", ""),
    ],
)
def test_a_driver_that_may_crash_is_refused_when_the_configuration_is_loaded(
    oracle: OracleServer, monkeypatch: pytest.MonkeyPatch, version: str, reason: str
) -> None:
    monkeypatch.setattr(oracledb, "__version__", version)
    if not reason:
        build_engine(oracle.settings())
        return
    with pytest.raises(oracle_link.DriverUnfit) as caught:
        build_engine(oracle.settings())
    assert f"python-oracledb {version} {reason}" in caught.value.message
    assert "mcp-database-gateway[oracle]" in caught.value.message


# Transport security


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Pair:
    return authority.issue("localhost")


@pytest.fixture(scope="module")
def secured(identity: Pair) -> Iterator[OracleServer]:
    """It speaks TLS, and asks for no certificate."""
    with running_oracle({"certificate": str(identity.certificate), "key": str(identity.key)}) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(authority: Authority, identity: Pair) -> Iterator[OracleServer]:
    """It speaks TLS, and asks for a certificate."""
    tls = {"certificate": str(identity.certificate), "key": str(identity.key), "ca": str(authority.path)}
    with running_oracle(tls) as server:
        yield server


def tls(authority: Authority, **more: Any) -> dict[str, Any]:
    return {"mode": "verify-full", "ca": str(authority.path), **more}


def wallet(folder: Path, authority: Authority, own: Pair | None = None, password: str = "") -> Path:
    folder.mkdir()
    text = authority.path.read_bytes()
    if own is not None:
        key = serialization.load_pem_private_key(own.key.read_bytes(), None)
        lock = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        text = (
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
            + b"\n"
            + (b"Bag Attributes\n    friendlyName: gateway\n" + own.certificate.read_bytes() + text)
        )
    (folder / "ewallet.pem").write_bytes(text)
    return folder


async def test_a_certificate_for_the_host_is_taken_and_its_end_is_known(
    secured: OracleServer, authority: Authority
) -> None:
    async with started(secured.settings(host="localhost", tls=tls(authority))) as source:
        assert (await run(source, statement(source.engine, "select 1 as n"))).rows
        expires_at = source.certificate_expires_at
    assert expires_at == pytest.approx(time.time() + 86_400, abs=600)


async def test_a_certificate_for_another_host_is_not(secured: OracleServer, authority: Authority) -> None:
    error = await refused(secured.settings(host="127.0.0.1", tls=tls(authority)))
    assert error.code is Code.SOURCE_UNAVAILABLE
    assert "write the host's full name, or set server_dn" in error.detail


async def test_a_name_need_not_match_where_only_the_authority_counts(
    secured: OracleServer, authority: Authority
) -> None:
    assert await asked(secured.settings(host="127.0.0.1", tls=tls(authority, mode="verify-ca")), "1") == 1


async def test_a_distinguished_name_stands_for_the_host(secured: OracleServer, authority: Authority) -> None:
    settings = secured.settings(host="127.0.0.1", tls=tls(authority), server_dn="CN=localhost")
    assert await asked(settings, "1") == 1
    error = await refused(secured.settings(host="localhost", tls=tls(authority), server_dn="CN=other"))
    assert "another distinguished name than server_dn" in error.detail


async def test_an_unknown_authority_is_refused(secured: OracleServer, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "somebody else")
    error = await refused(secured.settings(host="localhost", tls=tls(stranger)))
    assert "not signed by an authority in tls.ca" in error.detail


async def test_a_certificate_that_expires_is_refused_until_it_is_renewed(authority: Authority) -> None:
    pairs = {days: authority.issue("localhost", days=days) for days in (20, -1, 30)}
    files = {days: {"certificate": str(pair.certificate), "key": str(pair.key)} for days, pair in pairs.items()}
    with running_oracle(files[20]) as server:
        settings = server.settings(host="localhost", tls=tls(authority), pool={"min": 1, "max": 2})
        async with started(settings) as source:
            item = statement(source.engine, "select 1 as n")
            assert (await run(source, item)).rows
            server.tell(**files[-1])
            assert "it has expired" in (await refused(settings)).detail
            assert (await run(source, item)).rows  # what is open stays
            server.tell(**files[30], reset=True)
            await until(lambda: (source.certificate_expires_at or 0) > time.time() + 25 * 86_400)
            assert (await run(source, item)).rows


async def test_an_old_server_is_named_with_what_admits_it(authority: Authority, identity: Pair) -> None:
    old = {"certificate": str(identity.certificate), "key": str(identity.key), "max_version": "1.2"}
    with running_oracle(old) as server:
        error = await refused(server.settings(host="localhost", tls=tls(authority)))
        assert error.code is Code.SOURCE_UNAVAILABLE
        assert "it offers TLS 1.2" in error.detail
        assert 'tls.min_version: "1.2"' in error.detail
        assert await asked(server.settings(host="localhost", tls=tls(authority, min_version="1.2")), "1") == 1


async def test_tls_to_a_port_without_it_and_the_reverse(
    oracle: OracleServer, secured: OracleServer, authority: Authority
) -> None:
    plain = await refused(oracle.settings(host="localhost", tls=tls(authority), connect_timeout="1s"))
    assert plain.code in (Code.SOURCE_UNAVAILABLE, Code.CONNECT_TIMEOUT)
    clear = await refused(secured.settings(tls={"mode": "disable"}))
    assert clear.code is Code.SOURCE_UNAVAILABLE
    assert "tls.mode" in clear.detail


async def test_mutual_tls_by_certificate_and_key(mutual: OracleServer, authority: Authority) -> None:
    own = authority.issue("gateway")
    pair = {"certificate": str(own.certificate), "key": str(own.key)}
    assert await asked(mutual.settings(host="localhost", tls=tls(authority, **pair)), "1") == 1
    error = await refused(mutual.settings(host="localhost", tls=tls(authority)))
    assert error.code is Code.SOURCE_UNAVAILABLE


@pytest.mark.parametrize("password", ["", "wállet"])
async def test_mutual_tls_by_a_wallet(
    mutual: OracleServer, authority: Authority, tmp_path: Path, password: str
) -> None:
    folder = wallet(tmp_path / "w", authority, authority.issue("gateway"), password)
    settings = mutual.settings(host="localhost", wallet=folder, wallet_password=password or None)
    assert await asked(settings, "1") == 1


async def test_a_wallet_of_authorities_alone_trusts_them_and_is_read_for_each_connection(
    secured: OracleServer, authority: Authority, tmp_path: Path
) -> None:
    folder = wallet(tmp_path / "w", Authority(tmp_path / "stranger", "somebody else"))
    engine = OracleEngine(secured.settings(host="localhost", wallet=folder))
    with pytest.raises(oracledb.Error) as caught:
        await engine.connect()
    assert "not signed by an authority" in engine.translate(caught.value).detail
    (folder / "ewallet.pem").write_bytes(authority.path.read_bytes())
    (await engine.connect()).abort()


@pytest.mark.parametrize("password", [None, "guess-7"])
async def test_a_wallets_wrong_password_is_told_at_once(
    mutual: OracleServer, authority: Authority, tmp_path: Path, password: str | None
) -> None:
    """The driver itself would go on without a certificate."""
    folder = wallet(tmp_path / "w", authority, authority.issue("gateway"), "right")
    error = await refused(mutual.settings(host="localhost", wallet=folder, wallet_password=password))
    assert "check wallet_password" in error.detail
    assert "guess-7" not in error.detail


def test_what_is_wrong_with_a_wallets_files_is_named(authority: Authority, tmp_path: Path) -> None:
    def told(folder: Path) -> str:
        with pytest.raises(TlsUnusable) as caught:
            oracle_wallet.warnings_of(folder)
        return caught.value.message

    assert "does not exist" in told(tmp_path / "nowhere")
    file = tmp_path / "ewallet.pem"
    file.write_text("x")
    assert "is a file; give the folder" in told(file)
    other = tmp_path / "other"
    other.mkdir()
    assert "the folder holds nothing" in told(other)
    (other / "cwallet.sso").touch()
    assert "openssl pkcs12 -in ewallet.p12 -out ewallet.pem" in told(other)


async def test_a_wallet_without_certificates_is_named(secured: OracleServer, tmp_path: Path) -> None:
    (tmp_path / "ewallet.pem").write_text("nothing")
    error = await refused(secured.settings(host="localhost", wallet=tmp_path))
    assert "holds no certificate" in error.detail


@contextmanager
def unprivileged() -> Iterator[None]:
    """As an ordinary user, since root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_wallet_that_may_not_be_read_is_named(authority: Authority, tmp_path: Path) -> None:
    folder = own(wallet(tmp_path / "w", authority))
    (folder / "ewallet.pem").chmod(0)
    with unprivileged(), pytest.raises(TlsUnusable, match=r"\(uid [1-9]\d*, file mode 0\).*with mode 400"):
        oracle_wallet.warnings_of(folder)
    folder.chmod(0)
    try:
        with unprivileged(), pytest.raises(TlsUnusable, match=r"the folder .*w may not be entered"):
            oracle_wallet.warnings_of(folder)
    finally:
        folder.chmod(0o700)


def test_a_key_that_anybody_may_read_is_told(authority: Authority, tmp_path: Path) -> None:
    far = Authority(tmp_path / "far", days=400)
    folder = wallet(tmp_path / "w", far, far.issue("gateway", days=300))
    (folder / "ewallet.pem").chmod(0o444)
    assert "every user of this machine (file mode 444); give it mode 400" in oracle_wallet.warnings_of(folder)[0]
    (folder / "ewallet.pem").chmod(0o440)
    assert oracle_wallet.warnings_of(folder) == ()
    locked = wallet(tmp_path / "locked", far, far.issue("gateway", days=300), "secret")
    (locked / "ewallet.pem").chmod(0o444)
    assert oracle_wallet.warnings_of(locked) == ()


def test_certificates_that_end_soon_are_told(authority: Authority, tmp_path: Path) -> None:
    own = authority.issue("gateway", days=400)
    folder = wallet(tmp_path / "w", authority, own)
    (folder / "ewallet.pem").chmod(0o400)
    (told,) = oracle_wallet.warnings_of(folder)  # the authority itself lives for a day
    assert told.startswith("CN=test authority expires on 20")


async def test_a_descriptor_is_held_to_the_settings(
    oracle: OracleServer, secured: OracleServer, authority: Authority, tmp_path: Path
) -> None:
    def settings(server: OracleServer, dsn: str, **more: Any) -> OracleSettings:
        return server.settings(host=None, port=None, service=None, dsn=dsn, **more)

    good = f"tcps://localhost:{secured.port}/SHOP"
    assert await asked(settings(secured, good, tls=tls(authority)), "1") == 1
    assert "it says tcps" in (await refused(settings(secured, good))).detail
    plain = f"tcp://localhost:{oracle.port}/SHOP"
    assert "connects without TLS" in (await refused(settings(oracle, plain, tls=tls(authority)))).detail
    hidden = f"{good}?wallet_location={tmp_path}"
    assert "give the wallet as `wallet`" in (await refused(settings(secured, hidden, tls=tls(authority)))).detail
    unchecked = f"tcps://127.0.0.1:{secured.port}/SHOP?ssl_server_dn_match=off"
    assert "full name" in (await refused(settings(secured, unchecked, tls=tls(authority)))).detail
