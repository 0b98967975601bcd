"""TLS towards real servers: what is accepted, and what each refusal says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.sources import AnySource
from gateway.database.sources import build_engine
from gateway.errors import Code, ToolError
from gateway.net.tls import Sighting
from tests.database.support import started, statement
from tests.servers.certificates import Authority, Pair
from tests.servers.local import HOST
from tests.servers.secured import Place, running_secured


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with running_secured(request.param) as running:
        yield running


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


async def test_renewed_files_serve_the_next_connection(place: Place, tmp_path: Path) -> None:
    """No restart and no reload: what is read at each connection are the files."""
    place.serve(place.authority.issue("db.test"))
    old = Authority(tmp_path / "old", "an authority that is gone")
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "certificate", "key")}

    def put(authority: Authority) -> None:
        pair = authority.issue("certified")
        for name, source in (("ca", authority.path), ("certificate", pair.certificate), ("key", pair.key)):
            files[name].write_bytes(source.read_bytes())

    put(old)
    settings = place.settings(**{name: str(path) for name, path in files.items()})
    engine = build_engine(settings, "tls")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what it is, is asked next
        await engine.connect()
    assert "tls.ca" in engine.translate(caught.value).detail
    put(place.authority)
    connection = await engine.connect()
    await connection.close()


async def test_a_key_that_cannot_be_read_is_named(place: Place, tmp_path: Path) -> None:
    pair = place.authority.issue("certified")
    missing = tmp_path / "missing.key"
    async with started(place.settings(certificate=str(pair.certificate), key=str(missing))) as source:
        error = await refusal(place, source.settings)
    assert error.code is Code.SOURCE_UNAVAILABLE
    assert str(missing) in error.detail
