"""JSON logs: one line an event, every line with the correlation id of its request.

A line is written whole by `orjson`, so nothing a caller sends can begin a new
line or forge a field; long values are cut.
"""

from __future__ import annotations

import contextvars
import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TextIO

import orjson

from gateway.telemetry import tracing
from gateway.telemetry.faults import stack
from gateway.telemetry.lines import Lines

correlation_id: contextvars.ContextVar[str] = contextvars.ContextVar("correlation_id", default="")
"""The id of the request being served; for log records only, never for decisions."""

_MAX_VALUE: Final = 2000
# JSON leaves them alone; readers may end a line there, and terminals take some for orders.
_UNSAFE: Final = re.compile("[\x80-\x9f\u2028\u2029]")
# The same for text that is shown as it is, but for its own line breaks and tabs.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def bounded(value: Any) -> Any:
    """The value, or the beginning of a text that is too long for a line."""
    if isinstance(value, str) and len(value) > _MAX_VALUE:
        return f"{value[:_MAX_VALUE]}... ({len(value)} characters)"
    return value


@lru_cache(maxsize=2)
def _second(moment: int) -> str:
    """A second of Unix time in UTC (RFC 3339); many lines share one."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _head(moment: float, level: str, logger: str, event: str) -> dict[str, Any]:
    """What every line begins with: time, level, logger, event, ids."""
    fields: dict[str, Any] = {
        "time": f"{_second(int(moment))}.{int(moment % 1 * 1000):03d}+00:00",
        "level": level,
        "logger": logger,
        "event": bounded(event),
    }
    if current := correlation_id.get():
        fields["correlation_id"] = current
    trace_id, span_id = tracing.current().innermost
    if trace_id:
        fields["trace_id"] = f"{trace_id:032x}"
        fields["span_id"] = f"{span_id:016x}"
    return fields


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The record as flat fields: the head, then whatever `extra` brought."""
    fields = _head(record.created, record.levelname.lower(), record.name, record.getMessage())
    fields.update((key, bounded(value)) for key, value in vars(record).items() if key not in _STANDARD)
    return fields


def _line(value: Any) -> str:
    try:
        line = orjson.dumps(value, default=str).decode()
    except TypeError:  # large integers and lone surrogates; a caller must not be able to keep a line from being written
        return json.dumps(value, default=str, separators=(",", ":"))
    return line if line.isascii() else _UNSAFE.sub(_escaped, line)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _shown(text: str) -> str:
    """Text as a person may see it: nothing in it moves the cursor, and what follows a line break is indented."""
    return _CONTROL.sub(_escaped, text).replace("\n", "\n    ")


def event(logger: logging.Logger, name: str, fields: dict[str, Any]) -> None:
    """Log one event at INFO, with its fields, which are short.

    Where JSON lines are the process's only log, the line is written straight to
    them: a record of the stdlib would cost more than all else in the line.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    handlers = logging.root.handlers
    if len(handlers) == 1 and isinstance(handler := handlers[0], _LineHandler):
        handler.write(_line(_head(time.time(), "info", logger.name, name) | fields))
    else:
        logger.info(name, extra=fields)


class _LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines of JSON: those of records, and those that are made already."""

    def write(self, line: str) -> None:
        """Write one line; a stream that fails is reported as the stdlib does."""
        try:
            with self.lock or nullcontext():
                self.stream.write(line + self.terminator)
                self.stream.flush()
        except Exception:  # noqa: BLE001 - as in `StreamHandler.emit`
            self.handleError(logging.makeLogRecord({"msg": line}))


class JsonFormatter(logging.Formatter):
    """One JSON object a line; an exception is one field, not many lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        fields = _fields(record)
        if record.exc_info:
            fields["exception"] = stack(self, record.exc_info)
        return _line(fields)


class ConsoleFormatter(logging.Formatter):
    """The same fields for people: time, level, event, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one readable line, the exception indented below it."""
        fields = _fields(record)
        head = f"{fields.pop('time')[11:23]} {fields.pop('level').upper():7} {_shown(fields.pop('event'))}"
        fields.pop("logger")
        pairs = " ".join(f"{_shown(str(key))}={_line(value)}" for key, value in fields.items())
        text = f"{head}  {pairs}" if pairs else head
        return f"{text}\n    {_shown(stack(self, record.exc_info))}" if record.exc_info else text


def configure(*, style: str = "json", level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every log record of the process to one stream.

    Args:
        style: "json" for machines, "console" for people.
        level: a level name of the stdlib.
        stream: standard error by default, so that standard output stays free for answers.
    """
    is_json = style == "json"
    handler = _LineHandler(stream or sys.stderr) if is_json else logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if is_json else ConsoleFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("mcp", "httpx", "httpx2", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@contextmanager
def in_background() -> Iterator[None]:
    """Have lines written by a thread while the block runs; a reader that stops reading then stops nothing else."""
    match logging.getLogger().handlers:
        case [logging.StreamHandler() as handler]:
            pass
        case _:
            raise RuntimeError("configure the log first")

    def lost(count: int) -> str:
        fields = {"name": __name__, "levelname": "WARNING", "msg": "log lines left out", "count": count}
        return handler.format(logging.makeLogRecord(fields)) + handler.terminator

    before = handler.stream
    before.flush()
    lines = Lines(before.fileno(), lost)
    handler.setStream(lines)
    try:
        yield
    finally:
        handler.setStream(before)
        lines.finish()


def missed() -> int:
    """Lines that were left out since the start, since their reader was too slow."""
    match logging.getLogger().handlers:
        case [logging.StreamHandler(stream=Lines() as lines)]:
            return lines.missed
        case _:
            return 0
