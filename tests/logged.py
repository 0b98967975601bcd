"""What the gateway logs while a test runs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.telemetry import logs


@contextmanager
def logged(level: str = "INFO") -> Iterator[io.StringIO]:
    """The JSON lines that the gateway logs meanwhile.

    Args:
        level: the least that is told.
    """
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, before = root.handlers[:], root.level
    logs.configure(stream=stream, level=level)
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(before)


@dataclass
class Accounts:
    """Whether the log stays in proportion, and tells of nothing that went wrong inside.

    Attributes:
        log: looked at, and emptied, by `check`.
        requests: those sent so far, counted by whoever sends them.
        lines: those seen so far.
        few: lines that no request causes: the start, and summaries of what was malformed.
    """

    log: io.StringIO
    requests: int = 0
    lines: int = 0
    few: int = 20

    def check(self) -> None:
        """Every line is JSON, none has a stack trace, and there are no more of them than requests."""
        told = self.log.getvalue()
        self.log.seek(0)
        self.log.truncate()
        for line in told.split("\n")[:-1]:
            fields = json.loads(line)
            assert "exception" not in fields, line
            assert fields.get("outcome") != "internal", line
            self.lines += 1
        assert self.lines <= self.requests + self.few, told[-2000:]

    def __str__(self) -> str:
        return f"{self.requests} requests, {self.lines} lines of log"
