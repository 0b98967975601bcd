"""`gateway doctor` in real network namespaces, behind a real firewall, with a real DNS server and PostgreSQL."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main
from tests.servers.postgresql import PostgresqlServer, running_postgresql
from tests.servers.programs import MissingServer
from tests.servers.zones import CLOSED, DATABASE, DROPPED, FILTERED, OPEN, POD, RESET, STANDBY, Zones, running_zones

PASSWORD = PostgresqlServer.password


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    try:
        with running_zones(tmp_path_factory.mktemp("zones")) as made, running_postgresql() as server:
            made.carry(server.folder / f".s.PGSQL.{server.port}")
            yield made
    except MissingServer as missing:
        pytest.fail(str(missing), pytrace=False)


def write(folder: Path, port: int, **hosts: str) -> Path:
    """A source for each host."""
    (folder / "password").write_text(PASSWORD)
    settings = {"engine": "postgresql", "port": port, "database": "postgres", "user": "postgres"}
    settings |= {"password": f"${{file:{folder}/password}}", "connect_timeout": "1s", "tls": {"mode": "disable"}}
    path = folder / "gateway.yaml"
    sources = {name: settings | {"host": host} for name, host in hosts.items()}
    path.write_text(json.dumps({"auth": {"mode": "none"}, "sources": sources}))
    return path


Steps = dict[str, dict[str, dict[str, Any]]]
"""For each source its steps by name; the last of each."""


def judged(out: str) -> Steps:
    assert PASSWORD not in out
    targets = json.loads(out)["targets"]
    return {target["name"]: {step["name"]: step for step in target["steps"]} for target in targets}


def doctor(zones: Zones, path: Path, *flags: str) -> tuple[int, Steps]:
    """The command as a process in the pod."""
    words = (sys.executable, "-m", "gateway.cli.main", "doctor", "--config", path, "--json")
    result = zones.run(*words, *flags)
    assert result.stderr == ""
    return result.returncode, judged(result.stdout)


def within(
    zones: Zones, path: Path, capsys: pytest.CaptureFixture[str], limit: str = "5"
) -> tuple[int, dict[str, dict[str, Any]]]:
    """The command in this process, in the pod's network but without its names: that is quicker."""
    code = zones.call(lambda: main(["doctor", "--config", str(path), "--json", "--timeout", limit]))
    return code, judged(capsys.readouterr().out)["orders"]


def test_a_way_that_is_open_to_its_end_and_a_name_that_nobody_knows(zones: Zones, tmp_path: Path) -> None:
    code, found = doctor(zones, write(tmp_path, OPEN, open="database.zone.test", typo="datbase.zone.test"))
    assert code == 1
    steps = found["open"]
    assert steps["dns"]["facts"] == {"host": "database.zone.test", "addresses": [DATABASE]}
    assert steps["tcp"]["facts"] == {"address": f"{DATABASE}:{OPEN}", "state": "open", "source": POD}
    assert steps["login"]["text"] == "connected as postgres"
    assert {steps[name]["outcome"] for name in ("query", "clock", "limits")} == {"ok"}
    # The account of these tests is a superuser, and nothing is encrypted: both are told.
    assert steps["privileges"]["outcome"] == steps["tls"]["outcome"] == "warning"
    typo = found["typo"]
    assert typo["dns"]["outcome"] == "failed"
    assert typo["dns"]["text"] == "datbase.zone.test: there is no such name"
    assert "NAME.NAMESPACE.svc.cluster.local" in typo["dns"]["advice"]
    assert "tcp" not in typo


def test_a_name_that_leads_elsewhere_and_one_that_does_so_too(zones: Zones, tmp_path: Path) -> None:
    """Every address is tried by itself, and one that is open is enough to go on."""
    code, found = doctor(zones, write(tmp_path, OPEN, stale="stale.zone.test", both="both.zone.test"), "--timeout", "1")
    assert code == 124
    assert found["stale"]["dns"]["text"] == f"stale.zone.test: {STANDBY}"
    assert found["stale"]["tcp"]["facts"]["address"] == f"{STANDBY}:{OPEN}"
    assert found["stale"]["login"]["outcome"] == "skipped"
    assert sorted(found["both"]["dns"]["facts"]["addresses"]) == [DATABASE, STANDBY]
    assert found["both"]["tls"]["outcome"] == "warning"


def test_a_firewall_that_drops_is_the_lesson_of_the_paper(
    zones: Zones, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, steps = within(zones, write(tmp_path, DROPPED, orders=DATABASE), capsys, "0.4")
    assert code == 124
    assert steps["tcp"]["outcome"] == "timed_out"
    assert steps["tcp"]["text"] == f"{DATABASE}:{DROPPED} timed out after 0.4 s: a firewall drops packets"
    assert steps["tcp"]["advice"] == (
        "Does the database's firewall allow the pod network, not only the node network, to reach it?"
        f" This machine's address towards {DATABASE} is {POD}. Does the network policy let this port out?"
    )
    assert steps["login"]["outcome"] == "skipped"


def test_in_a_pod_it_speaks_of_the_pod(
    zones: Zones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    _, steps = within(zones, write(tmp_path, DROPPED, orders=DATABASE), capsys, "0.4")
    assert f"This pod's address towards {DATABASE} is {POD}." in steps["tcp"]["advice"]


@pytest.mark.parametrize("port", [RESET, CLOSED])
def test_a_refusal_is_told_from_silence(
    zones: Zones, tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code, steps = within(zones, write(tmp_path, port, orders=DATABASE), capsys)
    assert code == 1
    assert steps["tcp"]["facts"]["state"] == "refused"
    assert steps["tcp"]["text"] == f"{DATABASE}:{port} refused the connection"
    assert f"nothing listens on port {port}, or a firewall rejects" in steps["tcp"]["advice"]


@pytest.mark.parametrize(("host", "why"), [(DATABASE, "No route to host"), ("192.0.2.1", "Network is unreachable")])
def test_what_cannot_be_reached(
    zones: Zones, tmp_path: Path, host: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, steps = within(zones, write(tmp_path, FILTERED, orders=host), capsys)
    assert code == 1
    assert steps["tcp"]["facts"]["state"] == "unreachable"
    assert steps["tcp"]["text"] == f"{host}:{FILTERED} is unreachable ({why})"
    assert "Check routes, peering and VPN" in steps["tcp"]["advice"]
    assert (POD in steps["tcp"]["advice"]) == (host == DATABASE)  # without a route there is no address to name


@pytest.mark.parametrize("patience", ["0.5", "4"])
def test_a_dns_server_that_does_not_answer(zones: Zones, tmp_path: Path, patience: str) -> None:
    """Whose patience ends first, the doctor's or the resolver's, makes no difference."""
    zones.resolve_by(STANDBY)
    try:
        code, found = doctor(zones, write(tmp_path, OPEN, orders="database.zone.test"), "--timeout", patience)
    finally:
        zones.resolve_by(DATABASE)
    assert code == 124
    step = found["orders"]["dns"]
    assert step["outcome"] == "timed_out"
    assert step["advice"].startswith("The DNS server does not answer. Does the network policy let DNS out")
