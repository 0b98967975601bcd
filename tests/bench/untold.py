"""The gateway without its telemetry, but for the log line: `python -m tests.bench.untold serve --config ...`."""

from __future__ import annotations

import sys
from typing import Any

from gateway.cli.main import main
from gateway.context import Call
from gateway.server.record import Record
from gateway.server.watch import Watch
from gateway.telemetry import tracing


def _begin(*_: Any) -> tracing.Trace:
    return tracing.current()


def _end(_: Watch, record: Record, *__: Any) -> None:
    record.write()


def _mark(*_: Any, **__: Any) -> None:
    """Note nothing."""


if __name__ == "__main__":
    for owner, name, instead in ((Watch, "begin", _begin), (Watch, "end", _end), (Call, "mark", _mark)):
        setattr(owner, name, instead)
    sys.exit(main(sys.argv[1:]))
