"""What the gateway logs while a test runs."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

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
