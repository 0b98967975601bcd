"""`gateway doctor` and TLS: real PostgreSQL and MariaDB with certificates that are right, and wrong in every way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.doctor import Visit, visit
from tests.servers.certificates import Authority, Pair
from tests.servers.local import HOST
from tests.servers.secured import Place, running_secured


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with running_secured(request.param) as running:
        yield running


def write(folder: Path, place: Place, **tls: Any) -> Path:
    (folder / "password").write_text(place.server.password)
    settings = {
        "engine": place.engine,
        "host": HOST,
        "port": place.server.port,
        "database": place.server.database,
        "user": place.server.user,
        "password": f"${{file:{folder}/password}}",
        "connect_timeout": "3s",
        "tls": {"mode": "verify-full", "ca": str(place.authority.path), "server_name": "db.test"} | tls,
    }
    path = folder / "gateway.yaml"
    path.write_text(json.dumps({"auth": {"mode": "none"}, "sources": {"orders": settings}}))
    return path


def tls_step(found: Visit) -> dict[str, Any]:
    return found.steps["orders"]["tls"]


def test_what_a_good_handshake_tells(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.serve(place.authority.issue("db.test", days=200))
    ours = place.authority.issue("certified", days=200)
    path = write(tmp_path, place, certificate=str(ours.certificate), key=str(ours.key))
    found = visit(path, capsys)
    assert found.code == 0
    step = tls_step(found)
    facts = step["facts"]
    assert step["outcome"] == "ok"
    assert facts["version"] == "TLSv1.3"
    assert facts["cipher"].startswith("TLS_")
    assert facts["is_verified"] is True
    assert facts["chain"] == ["CN=db.test", "CN=test authority"]
    assert (facts["certificate"]["names"], facts["certificate"]["days_left"]) == (["db.test"], 199)
    assert "certificate for db.test expires on " in step["text"]
    assert step["text"].endswith(", in 199 days")
    assert found.steps["orders"]["certificate"]["text"].startswith("ours, CN=certified, expires on ")
    assert found.steps["orders"]["login"]["text"].endswith("with our certificate")


@pytest.mark.parametrize(
    ("fault", "text", "advice"),
    [
        ("expired", "the database's certificate is refused: it expired on ", "Renew the certificate at the server"),
        ("wrong name", "it is for other.test, not for db.test", "Dial one of those names, set tls.server_name"),
        ("untrusted", "nobody we trust has signed it; it was issued by CN=stranger", "where it is read: tls.ca."),
        ("none", "the server offers no TLS", "Set TLS up at the database, or say tls.mode: disable"),
        ("old", "the server speaks no TLS as new as tls.min_version asks for", "Compare the server's TLS versions"),
    ],
)
def test_each_refusal_says_what_to_do(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, text: str, advice: str
) -> None:
    served = {
        "expired": place.authority.issue("db.test", days=-3),
        "wrong name": place.authority.issue("other.test"),
        "untrusted": Authority(place.folder / "stranger", "stranger").issue("db.test"),
        "none": None,
    }
    place.serve(served.get(fault, place.authority.issue("db.test")), newest="1.2" if fault == "old" else "1.3")
    found = visit(write(tmp_path, place), capsys)
    assert found.code == 1
    step = tls_step(found)
    assert step["outcome"] == "failed"
    assert text in step["text"]
    assert advice in step["advice"]
    assert found.steps["orders"]["login"]["outcome"] == "skipped"
    if fault == "expired":
        assert step["facts"]["certificate"]["days_left"] < 0
        assert ", 3 days ago" in step["text"]


def test_what_will_not_do_for_long(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.serve(place.authority.issue("db.test", days=5))
    ending, ended = place.authority.issue("certified", days=2), place.authority.issue("certified", days=-1)
    found = visit(write(tmp_path, place, **_files(ending)), capsys)
    assert found.code == 0
    assert tls_step(found)["outcome"] == found.steps["orders"]["certificate"]["outcome"] == "warning"
    assert "Renew the certificate of CN=db.test: it expires on " in tls_step(found)["advice"]
    found = visit(write(tmp_path, place, mode="require", ca=None), capsys)
    assert tls_step(found)["outcome"] == "warning"
    assert tls_step(found)["text"].endswith("it is not verified")
    found = visit(write(tmp_path, place, **_files(ended)), capsys)
    assert found.code == 1
    assert found.steps["orders"]["certificate"]["outcome"] == "failed"
    assert ", expired on " in found.steps["orders"]["certificate"]["text"]


def test_a_certificate_of_ours_that_the_server_does_not_trust(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.serve(place.authority.issue("db.test"))
    foreign = Authority(place.folder / "foreign", "foreign").issue("certified")
    found = visit(write(tmp_path, place, **_files(foreign)), capsys)
    assert found.code == 1
    login = found.steps["orders"]["login"]
    assert login["outcome"] == "failed"
    assert "trust" in login["text"] + login["advice"]
    assert "tls.certificate" in login["text"] + login["advice"]
    found = visit(write(tmp_path, place, ca=str(tmp_path / "missing.pem")), capsys)
    assert found.code == 1
    assert "missing.pem" in tls_step(found)["text"]


def _files(pair: Pair) -> dict[str, str]:
    return {"certificate": str(pair.certificate), "key": str(pair.key)}
