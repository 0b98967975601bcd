"""`gateway doctor` and Oracle: the unmodified driver against the stand-in, which shows what the client does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.doctor import visit, write
from tests.servers.certificates import Authority
from tests.servers.oracle.server import OracleServer, running_oracle

# Days since 1970 in a column, because SQLite has no SYSTIMESTAMP.
DICTIONARY = """
create table if not exists product_component_version(version text, systimestamp real, rownum integer);
delete from product_component_version;
insert into product_component_version values ('19.0.0.0.0', julianday('now') - 2440587.5, 1);
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), days=300)


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[OracleServer]:
    pair = authority.issue("localhost", days=300)
    with running_oracle({"certificate": str(pair.certificate), "key": str(pair.key)}) as server:
        asyncio.run(server.execute(DICTIONARY))
        yield server


def source(folder: Path, server: OracleServer, **overrides: Any) -> dict[str, Any]:
    (folder / "password").write_text(overrides.pop("password", server.password))
    values = {"engine": "oracle", "host": "localhost", "port": server.port, "service": server.service}
    values |= {"user": server.user, "password": f"${{file:{folder}/password}}", "connect_timeout": "3s"} | overrides
    return {key: value for key, value in values.items() if value is not None}


def test_a_listener_with_tls(
    secured: OracleServer, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = {"mode": "verify-full", "ca": str(authority.path)}
    found = visit(write(tmp_path, sources={"o": source(tmp_path, secured, tls=tls)}), capsys)
    steps = found.steps["o"]
    assert {name: steps[name]["outcome"] for name in ("dns", "tcp", "tls", "login")} == dict.fromkeys(
        ("dns", "tcp", "tls", "login"), "ok"
    )
    assert steps["tls"]["facts"]["certificate"]["names"] == ["localhost"]
    assert steps["query"]["text"] == "version 19.0.0.0.0", steps["query"]
    assert steps["clock"]["outcome"] == "ok"
    assert found.document["targets"][0]["where"] == f"oracle localhost:{secured.port}/SHOP as gateway"
    descriptor = (
        f"(DESCRIPTION=(ADDRESS=(PROTOCOL=tcps)(HOST=localhost)(PORT={secured.port}))"
        "(ADDRESS=(PROTOCOL=tcps)(HOST=127.0.0.1)(PORT=1))(CONNECT_DATA=(SERVICE_NAME=SHOP)))"
    )
    by_dsn = source(tmp_path, secured, host=None, port=None, service=None, dsn=descriptor, tls=tls)
    found = visit(write(tmp_path, sources={"o": by_dsn}), capsys)
    assert found.code == 1
    assert found.document["targets"][0]["where"] == f"oracle localhost:{secured.port}, 127.0.0.1:1 as gateway"
    assert found.steps["o"]["tcp"]["text"] == "127.0.0.1:1 refused the connection"
    assert found.steps["o"]["login"]["outcome"] == "ok"


def test_what_is_wrong_with_a_listener(
    secured: OracleServer, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = Authority(tmp_path / "stranger", "stranger")
    tls = {"mode": "verify-full", "ca": str(authority.path)}
    sources = {
        "untrusted": source(tmp_path, secured, tls=tls | {"ca": str(stranger.path)}),
        "locked": source(tmp_path, secured, tls=tls, user="locked"),
        "wallet": source(tmp_path, secured, wallet=str(tmp_path / "no-wallet")),
    }
    found = visit(write(tmp_path, sources=sources), capsys)
    assert found.code == 1
    assert "nobody we trust has signed it" in found.steps["untrusted"]["tls"]["text"]
    assert "ORA-28000" in found.steps["locked"]["login"]["text"]
    assert found.steps["locked"]["login"]["advice"].startswith("Check user and password")
    assert found.steps["wallet"]["tls"]["text"].endswith("no-wallet does not exist")
