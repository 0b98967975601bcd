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


def write(folder: Path, host: str, port: int, **more: str) -> Path:
    (folder / "password").write_text(PASSWORD)
    path = folder / "gateway.yaml"
    settings = {"engine": "postgresql", "host": host, "port": str(port), "database": "postgres", "user": "postgres"}
    settings |= {"password": f"${{file:{folder}/password}}", "connect_timeout": "1s", "tls": "{mode: disable}"} | more
    path.write_text(
        "auth: {mode: none}\nsources:\n  orders:\n" + "".join(f"    {key}: {text}\n" for key, text in settings.items())
    )
    return path


def judged(code: int, out: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the steps by name (the last of each), and everything that was printed."""
    assert PASSWORD not in out
    (target,) = json.loads(out)["targets"]
    return code, {step["name"]: step for step in target["steps"]}, out


def doctor(zones: Zones, path: Path, *flags: str) -> tuple[int, dict[str, Any], str]:
    """The command as a process in the pod."""
    words = (sys.executable, "-m", "gateway.cli.main", "doctor", "--config", path, "--json", "--timeout", "0.6")
    result = zones.run(*words, *flags)
    assert result.stderr == ""
    return judged(result.returncode, result.stdout)


def within(zones: Zones, path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """The command in this process, in the pod's network but without its names: that is quicker."""
    code = zones.call(lambda: main(["doctor", "--config", str(path), "--json", "--timeout", "0.4"]))
    return judged(code, capsys.readouterr().out)[:2]


def test_a_way_that_is_open_to_its_end(zones: Zones, tmp_path: Path) -> None:
    code, steps, _ = doctor(zones, write(tmp_path, "database.zone.test", OPEN))
    assert code == 0
    assert steps["dns"]["facts"] == {"host": "database.zone.test", "addresses": [DATABASE]}
    assert steps["tcp"]["facts"] == {"address": f"{DATABASE}:{OPEN}", "state": "open", "source": POD}
    assert steps["login"]["text"] == "connected as postgres"
    assert {name: steps[name]["outcome"] for name in ("query", "clock", "limits")} == {
        "query": "ok",
        "clock": "ok",
        "limits": "ok",
    }
    # The account of these tests is a superuser, and nothing is encrypted: both are told.
    assert steps["privileges"]["outcome"] == steps["tls"]["outcome"] == "warning"


def test_a_firewall_that_drops_is_the_lesson_of_the_paper(
    zones: Zones, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, steps = within(zones, write(tmp_path, DATABASE, DROPPED), capsys)
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
    _, steps = within(zones, write(tmp_path, DATABASE, DROPPED), capsys)
    assert f"This pod's address towards {DATABASE} is {POD}." in steps["tcp"]["advice"]


@pytest.mark.parametrize("port", [RESET, CLOSED])
def test_a_refusal_is_told_from_silence(
    zones: Zones, tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code, steps = within(zones, write(tmp_path, DATABASE, port), capsys)
    assert code == 1
    assert steps["tcp"]["facts"]["state"] == "refused"
    assert steps["tcp"]["text"] == f"{DATABASE}:{port} refused the connection"
    assert f"nothing listens on port {port}, or a firewall rejects" in steps["tcp"]["advice"]


@pytest.mark.parametrize(("host", "why"), [(DATABASE, "No route to host"), ("192.0.2.1", "Network is unreachable")])
def test_what_cannot_be_reached(
    zones: Zones, tmp_path: Path, host: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, steps = within(zones, write(tmp_path, host, FILTERED), capsys)
    assert code == 1
    assert steps["tcp"]["facts"]["state"] == "unreachable"
    assert steps["tcp"]["text"] == f"{host}:{FILTERED} is unreachable ({why})"
    assert "Check routes, peering and VPN" in steps["tcp"]["advice"]
    assert (POD in steps["tcp"]["advice"]) == (host == DATABASE)  # without a route there is no address to name


def test_a_name_that_nobody_knows(zones: Zones, tmp_path: Path) -> None:
    code, steps, _ = doctor(zones, write(tmp_path, "datbase.zone.test", OPEN))
    assert code == 1
    assert steps["dns"]["text"] == "datbase.zone.test: there is no such name"
    assert "NAME.NAMESPACE.svc.cluster.local" in steps["dns"]["advice"]
    assert "tcp" not in steps


def test_a_name_that_leads_elsewhere(zones: Zones, tmp_path: Path) -> None:
    code, steps, _ = doctor(zones, write(tmp_path, "stale.zone.test", OPEN))
    assert code == 124
    assert steps["dns"]["text"] == f"stale.zone.test: {STANDBY}"
    assert steps["tcp"]["facts"]["address"] == f"{STANDBY}:{OPEN}"


def test_every_address_is_tried_by_itself(zones: Zones, tmp_path: Path) -> None:
    path = write(tmp_path, "both.zone.test", OPEN)
    code, steps, text = doctor(zones, path)
    found = [step for step in json.loads(text)["targets"][0]["steps"] if step["name"] == "tcp"]
    assert {step["facts"]["address"]: step["outcome"] for step in found} == {
        f"{DATABASE}:{OPEN}": "ok",
        f"{STANDBY}:{OPEN}": "timed_out",
    }
    assert code == 124
    assert sorted(steps["dns"]["facts"]["addresses"]) == [DATABASE, STANDBY]
    assert steps["tls"]["outcome"] == "warning"  # it went on with the address that is open


@pytest.mark.parametrize("patience", ["0.5", "4"])
def test_a_dns_server_that_does_not_answer(zones: Zones, tmp_path: Path, patience: str) -> None:
    """Whose patience ends first, the doctor's or the resolver's, makes no difference."""
    zones.resolve_by("10.0.20.99")
    try:
        code, steps, _ = doctor(zones, write(tmp_path, "database.zone.test", OPEN), "--timeout", patience)
    finally:
        zones.resolve_by(DATABASE)
    assert code == 124
    assert steps["dns"]["outcome"] == "timed_out"
    assert steps["dns"]["advice"].startswith("The DNS server does not answer. Does the network policy let DNS out")
