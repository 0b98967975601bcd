"""The thread that writes the log: nothing is lost in order, and nothing waits for a reader."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.telemetry import logs
from gateway.telemetry.lines import Lines


def test_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        lines = Lines(file.fileno(), lambda count: f"{count} lost\n")
        for number in range(5000):
            lines.write(f"line {number}\n")
        lines.finish()
    assert path.read_text() == "".join(f"line {number}\n" for number in range(5000))


def test_a_reader_that_does_not_read_stops_nobody_and_learns_what_it_missed() -> None:
    source, sink = os.pipe()
    lines = Lines(sink, lambda count: f"{count} lost\n", max_lines=100)
    until = time.monotonic() + 60
    while not lines._left_out and time.monotonic() < until:
        lines.write("x" * 1000 + "\n")
    assert lines.missed == lines._left_out > 0
    with os.fdopen(source) as reader:
        lines.finish(0)  # the pipe is full: nothing can be waited for
        left_out = next(line for line in reader if line.endswith("lost\n"))
        assert int(left_out.split()[0]) > 0
        os.close(sink)


def test_the_log_comes_back_to_its_own_stream(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = logging.root.handlers[:], logging.root.level
    try:
        with path.open("w") as stream:
            logs.configure(stream=stream)
            with logs.in_background():
                logging.getLogger("gateway.test").warning("inside")
                assert logs.missed() == 0
                handler = logging.getLogger().handlers[0]
                assert isinstance(handler, logging.StreamHandler)
                handler.stream.missed = 3
                assert logs.missed() == 3
            logging.getLogger("gateway.test").warning("outside")
    finally:
        logging.root.handlers[:], logging.root.level = before
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["inside", "outside"]


_BLOCKED = """
import logging
from gateway.telemetry import logs
logs.configure()
with logs.in_background():
    for number in range(20_000):
        logging.getLogger("gateway.test").warning("x" * 500)
print("ended")
"""


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_process_ends_although_nobody_reads_its_log(style: str) -> None:
    code = _BLOCKED.replace("configure()", f"configure(style={style!r})")
    source, sink = os.pipe()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=sink, timeout=60, check=True
        )
    finally:
        os.close(source)
        os.close(sink)
    assert ended.stdout == b"ended\n"
