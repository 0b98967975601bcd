"""A few seconds of the soak, so that it cannot rot; and that it notices what it is there to notice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest

from tests.soak import report
from tests.soak.run import Found, Plan, soak
from tests.soak.service import Service
from tests.soak.traffic import KINDS, Traffic, Wrong
from tests.soak.watch import DESCRIPTORS, MEMORY, SESSIONS, Log, Quantity, read_log, trend

SHORT: Final = Plan(seconds=5.0, rate=60.0, reloads=6)
HALF_AN_HOUR: Final = [float(second) for second in range(1800)]


@pytest.fixture(scope="module")
def found(service: Service) -> Found:
    # In so short a time the rare ones are called too.
    alike = {name: (kind, 1.0) for name, (kind, _) in KINDS.items()}
    return asyncio.run(soak(service, replace(SHORT, kinds=alike)))


def test_everything_is_asked_for_and_answered_as_it_should(found: Found) -> None:
    assert found.wrong == []
    assert found.counts.keys() == KINDS.keys()
    assert (found.lost, found.doubled, found.running) == (0, 0, 0)
    assert found.log.faults == []
    assert found.log.lines >= found.calls / 2
    assert found.reloads >= 3
    assert all(len(values) == len(found.watch.seconds) >= 3 for values in found.watch.samples.values())


def test_it_tells_and_keeps_what_it_found(found: Found, tmp_path: Path) -> None:
    kept = report.record(found, {"cpu": "one", "cores": {"all": 2}, "memory_gb": 4, "python": "3"}, "2026-01-01")
    assert json.loads(json.dumps(kept)) == kept
    assert "0 answered wrongly" in report.text(kept)
    page = tmp_path / "reliability.md"
    page.write_text("# Before\n\n<!-- soak: written by make soak -->\nold\n<!-- end of soak -->\n\nafter\n")
    for _ in range(2):
        report.write(kept, tmp_path)
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\n\nafter\n")
    assert text.count("| resident memory, MB |") == 1
    assert "old" not in text
    drawn = ElementTree.fromstring((tmp_path / "soak.svg").read_text())
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 3


def test_a_leak_a_wrong_answer_and_a_lost_write_are_noticed(service: Service) -> None:
    async def hoard(traffic: Traffic) -> None:
        held.append(await asyncio.open_connection("127.0.0.1", service.server.port))

    async def lie(traffic: Traffic) -> None:
        traffic.written.add("never written")
        raise Wrong("on purpose")

    async def whole() -> Found:
        try:
            return await soak(service, replace(SHORT, seconds=3.0, kinds={"hoard": (hoard, 9), "lie": (lie, 1)}))
        finally:
            for _, writer in held:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    complaints = " / ".join(asyncio.run(whole()).complaints)
    assert "wrong answers, such as lie" in complaints
    assert "1 writes lost" in complaints
    assert "open descriptors: grew" in complaints


@pytest.mark.parametrize(
    ("quantity", "leak"), [(MEMORY, 5.0 / 900), (DESCRIPTORS, 6.0 / 900), (SESSIONS, 3.0 / 900)], ids=str
)
def test_a_slow_leak_shows_through_the_noise(quantity: Quantity, leak: float) -> None:
    dice = random.Random(1)
    flat = [100 + dice.choice((-1.0, 0.0, 0.0, 1.0, 4.0)) for _ in HALF_AN_HOUR]
    assert trend(quantity, HALF_AN_HOUR, flat).is_flat
    leaking = [value + second * leak for value, second in zip(flat, HALF_AN_HOUR, strict=True)]
    assert not trend(quantity, HALF_AN_HOUR, leaking).is_flat


def test_a_load_that_rises_is_no_leak() -> None:
    peaks = [30.0 + second / 20 * (second % 9 > 0) for second in HALF_AN_HOUR]
    assert trend(DESCRIPTORS, HALF_AN_HOUR, peaks).is_flat


def test_what_grows_only_while_it_warms_up_is_flat() -> None:
    values = [min(second / 5, 120.0) for second in HALF_AN_HOUR]
    found = trend(MEMORY, HALF_AN_HOUR, values)
    assert found.is_flat
    assert (found.last, found.most) == (120.0, 120.0)


def test_faults_in_the_log_are_found(tmp_path: Path) -> None:
    lines = (
        '{"level":"info","event":"request"}',
        '{"level":"error","event":"the configuration stays as it was, the new one is refused"}',
        '{"level":"error","event":"request failed"}',
        "Traceback (most recent call last):",
    )
    path = tmp_path / "log"
    path.write_text("\n".join(lines) + "\n")
    assert read_log(path) == Log(4, list(map("{}\n".format, lines[2:])))
