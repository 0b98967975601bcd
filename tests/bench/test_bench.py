"""The bench itself, very shortly and without a word on how fast anything is: it must not rot."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import (
    added,
    call,
    gateways,
    million,
    page,
    paper,
    peers,
    processes,
    scale,
    stages,
    start,
    svg,
    telemetry,
    tokens,
    wrk,
)
from tests.bench.__main__ import BENCHES
from tests.bench.contenders import MARKER, CannotStart, Server, enter
from tests.bench.figures import Figure, Table, ratio
from tests.bench.flow import Flow
from tests.bench.openloop import Agents
from tests.bench.rounds import Pace
from tests.bench.world import World
from tests.test_architecture import PACKAGE, ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc")
SHORT = Pace(rounds=1, seconds=1.0)


def test_call_measures_every_contender(bench_world: World) -> None:
    (table,) = call.measure(bench_world, SHORT)
    names = [row[0] for row in table.rows]
    assert names[0] == "bare"
    assert len([name for name in names if name.startswith("gateway")]) == 5
    cost = table.columns.index("CPU us/call")
    assert all(row[cost].minimum > 0 for row in table.rows)
    assert "CPU us/call" in table.text()


def test_stages_add_up_to_the_whole(bench_world: World) -> None:
    by_stage, by_function = stages.measure(bench_world, SHORT)
    *parts, whole = by_stage.rows
    assert sum(cost.median for _, cost, _ in parts) == pytest.approx(whole[1].median, rel=0.001)
    assert by_function.rows


def test_telemetry_is_set_against_a_gateway_without(bench_world: World) -> None:
    under_load, alone = telemetry.measure(bench_world, SHORT)
    assert [row[0] for row in under_load.rows] == ["neither", "metrics", "metrics, 10 % of traces"]
    assert under_load.rows[0][2] == Figure(0, 0, 0)
    numbers, whole = (row[1].median for row in alone.rows)
    assert 0 < numbers < whole


def test_processes_share_a_port(bench_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "toolbox", _absent)
    (table,) = processes.measure(bench_world, SHORT)
    assert [row[0] for row in table.rows] == ["gateway, two processes", "gateway, one process"]
    assert any("NOT MEASURED" in note for note in table.notes)


@contextmanager
def _absent(*_: object) -> Iterator[Server]:
    raise CannotStart("there is none")
    yield


def test_streams_are_opened_and_silent(bench_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "CLIENTS", (0, 3))
    curve = scale.streams(bench_world, SHORT)
    assert [point.size for point in curve.points] == [0, 3]


def test_a_list_is_measured_once_all_of_it_is_described(bench_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "TOOLS", (1, 20))
    curve = scale.tools(bench_world, SHORT)
    assert [point.size for point in curve.points] == [1, 20]
    assert all(figure.minimum > 0 for point in curve.points for figure in point.more[:2])


def test_a_start_is_timed_until_readiness(bench_world: World) -> None:
    (table,) = start.measure(bench_world, SHORT)
    assert [row[0] for row in table.rows] == ["SQLite", "PostgreSQL", start._FLOOR]
    assert all(figure.minimum > 0 for row in table.rows for figure in row[1:])


def test_memory_is_read_at_each_mark(bench_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(million, "MARKS", (10, 100))
    (table,) = million.measure(bench_world, SHORT)
    first, *marks = table.rows
    assert first[0] == "1"
    assert [int(row[0].replace(",", "")) >= mark for row, mark in zip(marks, (10, 100), strict=True)] == [True, True]
    assert all(row[1] > 0 for row in table.rows)


def test_every_bench_has_its_words_on_the_page() -> None:
    assert page._ABOUT.keys() == BENCHES.keys()


def test_every_file_on_the_way_of_a_call_has_a_stage() -> None:
    rooms = ("server", "tools", "auth", "database", "telemetry", "resilience")
    files = [file.relative_to(ROOT).as_posix() for room in rooms for file in (PACKAGE / room).glob("*.py")]
    assert [file for file in files if stages.stage_of(file) == stages.REST] == []


@pytest.fixture(scope="module")
def server(bench_world: World) -> Iterator[Server]:
    with gateways.gateway(bench_world) as running:
        running.check(gateways.recipe(bench_world.token()))
        yield running


def test_wrong_answers_end_a_run(bench_world: World, server: Server, tmp_path: Path) -> None:
    good = gateways.recipe(bench_world.token())
    entry = enter("gateway", server, good, tmp_path)
    with pytest.raises(wrk.BadAnswers, match="were wrong"):
        wrk.drive(server.url, entry.requests, "what no answer contains", 1)
    stranger = tmp_path / "stranger"
    stranger.write_bytes(wrk.prepared(server.url, dict(good.headers) | {"Authorization": "Bearer x"}, good.bodies))
    with pytest.raises(wrk.BadAnswers, match="401"):
        wrk.drive(server.url, stranger, MARKER, 1)
    with pytest.raises(CannotStart):
        server.check(replace(good, expected=b"what no answer contains"), within=0.2)


def test_a_flow_counts_good_answers_and_failures(bench_world: World, server: Server, tmp_path: Path) -> None:
    database = bench_world.postgresql.pid
    good = gateways.recipe(bench_world.token())
    outcome = Flow({"simple": good}, {"simple": 1}, tmp_path).send([server], database, 50, 1)
    assert outcome.failed == 0
    assert len(outcome.latencies) == outcome.sent > 0
    assert outcome.quantile(0.5) <= outcome.quantile(0.99) <= outcome.latencies[-1]
    assert outcome.cpu_us[0] > 0
    bad = replace(good, headers=dict(good.headers) | {"Authorization": "Bearer x"})
    refused = Flow({"simple": bad}, {"simple": 1}, tmp_path).send([server], database, 50, 1)
    assert refused.failed == refused.sent
    assert refused.quantile(0.5) == float("inf")


def test_the_mix_is_answered(bench_world: World, server: Server) -> None:
    for recipe in paper.mixed(bench_world.token()).values():
        server.check(recipe, within=1)


def test_latency_is_compared_with_the_floor(bench_world: World) -> None:
    (table,) = added.measure(bench_world, Pace(1, 0.5))
    floor, own, difference = table.rows
    assert difference[2].median == pytest.approx(own[2].median - floor[2].median)
    assert (floor[4], own[4]) == ("0", "0")


async def test_latency_counts_from_when_a_request_was_due() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        agents = Agents(server.sockets[0].getsockname()[1], b"ok")
        await agents.ask("late", b"GET / HTTP/1.1\r\n\r\n", time.perf_counter() - 5)
        agents.close()
    assert agents.errors == {}
    assert agents.latencies["late"][0] >= 5000


def test_a_peer_asks_for_a_token(bench_world: World, tmp_path: Path) -> None:
    with peers.sdk(bench_world) as server:
        recipe = gateways.recipe(bench_world.token(), gateways.LEGACY)
        enter("SDK", server, recipe, tmp_path)
        server.refuses_strangers(recipe)
    with call.bare(bench_world, "echo", "echo") as open_server:
        open_server.check(recipe)
        with pytest.raises(CannotStart, match="without a token"):
            open_server.refuses_strangers(recipe)


@pytest.mark.parametrize("size", [1, 1000])
def test_what_grows_is_answered(bench_world: World, grown: Server, size: int) -> None:
    for tool, arguments in scale.carried(size).items():
        grown.check(scale.recipe(bench_world.token(), tool, arguments), within=5)


@pytest.fixture(scope="module")
def grown(bench_world: World) -> Iterator[Server]:
    with scale.growing(bench_world) as running:
        running.check(scale.recipe(bench_world.token(), "text", {"n": 1}))
        yield running


@pytest.mark.parametrize(("cache", "least", "most"), [("0s", 0.0, 0.0), ("5m", 0.5, 0.99), ("55m", 0.9, 1.0)])
async def test_an_hour_of_tokens(cache: str, least: float, most: float) -> None:
    found = await tokens.hour(cache, clients=5, requests=1000)
    assert len(found.hits) + len(found.misses) == found.asked
    assert least <= found.hit_rate <= most


async def test_a_provider_is_asked_once_for_each_miss() -> None:
    found = await tokens.hour("5m", clients=5, requests=1000, is_asked=True)
    assert found.provider == len(found.misses)
    assert await tokens.far_miss(delay=0.05, count=2) >= 50_000


async def test_tokens_are_remembered_while_more_come() -> None:
    assert [count for count, _ in await tokens.recollection((2, 20))] == [2, 20]


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio([10, 40], [5, 10]) == Figure(2, 3, 4)
    assert str(Figure(1, 1, 1)) == "1.00"
    assert str(Figure(999.6, 1234, 2000)) == "1,234 (1,000-2,000)"


def test_the_page_shows_what_was_kept(tmp_path: Path) -> None:
    rows = (("10", Figure(1, 2, 3)), ("1,000", Figure(2, 3, 4)))
    table = Table("Rows & columns", ("rows", "CPU us/call"), rows, ("a note",))
    record = {"bench": "scale", "machine": {"cpu": "one"}, "tables": [table.record()]}
    (tmp_path / "scale.json").write_text(json.dumps(record))
    written, plot = page.write(tmp_path, tmp_path / "docs", ("call", "scale"))
    text = written.read_text()
    assert "| 1,000 | 3.00 (2.00-4.00) |" in text
    assert "- a note" in text
    assert f"(performance/{plot.name})" in text
    ElementTree.fromstring(plot.read_text())


def test_drawings_are_well_formed() -> None:
    drawn = svg.bars("<bars>", "us", [("gateway & co", Figure(1, 2, 3)), ("peer", Figure(4, 4, 4))])
    assert len(ElementTree.fromstring(drawn).findall("{http://www.w3.org/2000/svg}rect")) == 3
    curved = svg.curve("curve", "clients", "us", [(0, Figure(1, 2, 3)), (5000, Figure(10, 20, 30))])
    assert len(ElementTree.fromstring(curved).findall("{http://www.w3.org/2000/svg}circle")) == 2
