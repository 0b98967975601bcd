"""`gateway doctor` and Oracle: the unmodified driver against the stand-in, which shows what the client does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.doctor import visit, write
from tests.servers.certificates import Authority
from tests.servers.oracle.dictionary import VIEWS
from tests.servers.oracle.server import OracleServer, running_oracle


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), days=300)


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[OracleServer]:
    pair = authority.issue("localhost", days=300)
    with running_oracle({"certificate": str(pair.certificate), "key": str(pair.key)}) as server:
        asyncio.run(server.execute(VIEWS))
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
    assert steps["clock"]["outcome"] == steps["privileges"]["outcome"] == "ok"
    assert steps["listener"]["text"] == "it knows SHOP"
    assert steps["nls"]["facts"] == {
        "character set": "AL32UTF8",
        "national character set": "AL16UTF16",
        "language": "AMERICAN",
        "territory": "AMERICA",
        "comparison": "BINARY",
        "time zone": "+02:00",
        "session's time zone": "+00:00",
    }
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
    assert found.steps["wallet"]["wallet"]["text"].endswith("no-wallet does not exist")
    assert found.steps["wallet"]["tls"]["text"].endswith("no-wallet does not exist")
    assert found.steps["locked"]["listener"]["outcome"] == "ok"
    assert "listener" not in found.steps["untrusted"]


def test_what_the_listener_answers(
    own_oracle: OracleServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, sources={"o": source(tmp_path, own_oracle)})
    for number, part, advice in (
        (
            12514,
            "the listener knows no such service",
            "Compare `service` with `lsnrctl services`, or open the instance.",
        ),
        (12516, "`processes` or `sessions` are used up", "Lower pool.max, or raise them."),
        (
            12537,
            "the listener closed the connection",
            "It does not admit this address (TCP.VALIDNODE_CHECKING), or its",
        ),
        (12599, "12599", "Read the listener's own log."),
    ):
        own_oracle.tell(refuse=number)
        steps = visit(path, capsys).steps["o"]
        assert steps["tcp"]["outcome"] == "ok"
        assert steps["listener"]["facts"] == {"error": f"ORA-{number}"}
        assert part in steps["listener"]["text"]
        assert steps["listener"]["advice"].startswith(advice)
        assert "login" not in steps


def test_what_is_in_a_wallet_and_for_how_long(
    secured: OracleServer, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wallet(days: float, mode: int = 0o400) -> dict[str, Any]:
        folder = tmp_path / f"wallet-{days}-{mode}"
        folder.mkdir()
        own = authority.issue("gateway", days=days)
        file = folder / "ewallet.pem"
        file.write_bytes(own.key.read_bytes() + own.certificate.read_bytes() + authority.path.read_bytes())
        file.chmod(mode)
        return source(tmp_path, secured, wallet=str(folder))

    sources = {"good": wallet(200), "soon": wallet(5), "over": wallet(-1), "open": wallet(200, 0o444)}
    steps = {name: found["wallet"] for name, found in visit(write(tmp_path, sources=sources), capsys).steps.items()}
    assert {name: step["outcome"] for name, step in steps.items()} == {
        "good": "ok",
        "soon": "warning",
        "over": "failed",
        "open": "warning",
    }
    assert "ours, CN=gateway, expires on 20" in steps["good"]["text"]
    assert "trusts CN=test authority, expires on 20" in steps["good"]["text"]
    assert steps["good"]["facts"]["own"][0]["days_left"] == 199
    assert "expired on" in steps["over"]["text"]
    assert "may be read by every user of this machine (file mode 444)" in steps["open"]["text"]
