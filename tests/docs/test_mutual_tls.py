"""The page on mutual TLS, done on real servers: certificate and password together, and neither alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.config.sources import AnySource
from gateway.database.sources import build_engine
from tests.servers.certificates import Authority, Pair
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.secured import Place, running_secured

PAGE = (Path(__file__).parents[2] / "docs/how-to/mutual-tls.md").read_text()


@pytest.fixture(params=["postgresql", "mysql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with running_secured(request.param) as running:
        yield running


async def _set_up(place: Place) -> None:
    """The server's side, as the page has it."""
    if isinstance(place.server, PostgresqlServer):
        (line,) = re.findall(r"^hostssl .*$", PAGE, re.MULTILINE)
        hba = place.folder / "hba"
        own = line.replace("shop", place.server.database).replace("10.244.0.0/16", "127.0.0.1/32")
        hba.write_text(f"{own}\n{hba.read_text()}")
        place.serve(place.authority.issue("db.test"))
        admin = await place.server.admin()
        await admin.execute("create role gateway_ro login password 'change-me'")
        await admin.close()
        return
    (text,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    place.serve(place.authority.issue("db.test"))
    text = text.replace("database authority", "test authority").replace("shop.*", f"{place.server.database}.*")
    assert isinstance(place.server, MariadbServer)
    other = await place.server.admin()
    for statement in filter(str.strip, text.split(";")):
        await other.query(statement)
    other.close()


def _settings(place: Place, pair: Pair | None, password: str = "change-me") -> AnySource:
    files = {"certificate": str(pair.certificate), "key": str(pair.key)} if pair else {}
    login = {"user": "gateway_ro", "password": SecretStr(password)}
    return place.settings(**files).model_copy(update=login)


async def test_certificate_and_password_together_and_neither_alone(place: Place, tmp_path: Path) -> None:
    await _set_up(place)
    ours = place.authority.issue("gateway_ro")
    connection = await build_engine(_settings(place, ours), "shop").connect()
    await connection.close()
    refused = {
        "no certificate": _settings(place, None),
        "another name": _settings(place, place.authority.issue("somebody-else")),
        "another authority": _settings(place, Authority(tmp_path / "other").issue("gateway_ro")),
        "another password": _settings(place, ours, "guessed"),
    }
    for what, settings in refused.items():
        with pytest.raises(Exception) as caught:  # noqa: PT011 - drivers have many, all of them named by the engine
            await build_engine(settings, "shop").connect()
        assert build_engine(settings, "shop").translate(caught.value).detail, what
