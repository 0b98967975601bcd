"""`gateway check` on an Oracle source, against the stand-in."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import oracledb
import pytest

from gateway.cli import check
from gateway.cli.main import main
from tests.servers.certificates import Authority
from tests.servers.local import free_port
from tests.servers.oracle.dictionary import VIEWS
from tests.servers.oracle.server import OracleServer, running_oracle

SHOP = """
create table item (id integer, label varchar2(10));
insert into user_resource_limits values ('SESSIONS_PER_USER', '15');
insert into user_tab_privs_recd values ('SHOP', 'ORDERS', 'UPDATE');
"""


def checked(folder: Path, capsys: pytest.CaptureFixture[str], source: dict[str, Any], statement: str) -> dict[str, Any]:
    written = {
        "auth": {"mode": "none"},
        "sources": {"shop": source},
        "tools": {"labels": {"description": "Labels.", "source": "shop", "scopes": ["x"], "statement": statement}},
    }
    (folder / "password").write_text("sécret")
    (folder / "gateway.yaml").write_text(json.dumps(written, indent=1))
    code = check.run(argparse.Namespace(config=folder / "gateway.yaml", offline=False, json=True, claims=None))
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    return report


def source_of(server: OracleServer, **more: Any) -> dict[str, Any]:
    return {
        "engine": "oracle",
        "host": "localhost",
        "port": server.port,
        "service": server.service,
        "user": server.user,
        "password": "${file:password}",
        **more,
    }


def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "authority"
    authority = Authority(folder)
    pair = authority.issue("localhost")
    tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
    (tmp_path / "ewallet.pem").write_bytes(authority.path.read_bytes())  # it lives for a day
    with running_oracle(tls) as server:
        asyncio.run(server.execute(VIEWS + SHOP))
        source = source_of(server, wallet=str(tmp_path))
        good = checked(tmp_path, capsys, source, "select label from item")
        told = [(each["key"], each["message"]) for each in good["warnings"]]
        assert good["problems"] == []
        assert [key for key, _ in told] == ["sources.shop.user", "sources.shop", "sources.shop.pool.max"]
        assert "it may change SHOP.ORDERS" in told[0][1]
        assert "wallet: CN=test authority expires on" in told[1][1]
        assert "the server admits 15" in told[2][1]

        bad = checked(tmp_path, capsys, source, "select label\nfrom itme")
        (problem,) = bad["problems"]
        assert problem["key"] == "tools.labels.statement"
        assert "ORA-00942" in problem["message"]
        assert "line 2, column 6, near 'itme'" in problem["message"]

        for more, part in (
            ({"service": "OTHER"}, "the listener knows no such service"),
            ({"port": free_port()}, "nothing listens at that host and port"),
            ({"wallet": str(folder)}, "ewallet.pem is missing; the folder holds"),
            ({"user": "nobody"}, "ORA-01017"),
        ):
            (problem,) = checked(tmp_path, capsys, source | more, "select label from item")["problems"]
            assert problem["key"] == "sources.shop"
            assert part in problem["message"]


@pytest.mark.parametrize("command", ["check", "serve"])
def test_an_unfit_driver_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(oracledb, "__version__", "26.1.0")
    (tmp_path / "password").write_text("secret")
    source = {"engine": "oracle", "host": "localhost", "service": "S", "user": "u", "password": "${file:password}"}
    (tmp_path / "gateway.yaml").write_text(json.dumps({"auth": {"mode": "none"}, "sources": {"shop": source}}))
    assert main([command, "--config", str(tmp_path / "gateway.yaml")]) == 1
    out, err = capsys.readouterr()
    assert "python-oracledb 26.1.0 can crash the process when a connection closes" in out + err
