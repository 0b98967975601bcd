"""A line is a line whatever is in it, and the page on logs names every field."""

from __future__ import annotations

import contextvars
import io
import json
import logging
import re
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.server.record import Record
from gateway.telemetry import logs, tracing

PAGE: Final = (Path(__file__).parents[2] / "docs/reference/logs.md").read_text()
NASTY: Final = st.text(max_size=60) | st.sampled_from(
    ['"}\n{"level":"error"', "\r\n", "\u2028", "\x1b[31m", "\x00", "\ud800"]
)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    text = stream.getvalue()
    stream.seek(0)
    stream.truncate()
    return [json.loads(line) for line in text.split("\n") if line]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=NASTY, tool=NASTY, client=NASTY, detail=NASTY, address=NASTY)
def test_no_value_begins_a_line_or_forges_a_field(
    log: io.StringIO, method: str, tool: str, client: str, detail: str, address: str
) -> None:
    record = Record("POST", address, method=method, tool=tool, client=client, detail=detail)
    record.write()
    logging.getLogger("gateway.test").warning("%s", method, extra={"tool": tool})
    text = log.getvalue()
    assert "\x1b" not in text
    assert "\x00" not in text
    first, second = lines(log)
    assert (first["level"], first["event"], first["outcome"]) == ("info", "request", "ok")
    assert (second["level"], second["logger"]) == ("warning", "gateway.test")


def _write_every_field() -> None:
    logs.correlation_id.set("an-id")
    tracing._current.set(tracing.Trace(1, 2, None, is_sampled=True))
    record = Record(
        "POST", "192.0.2.1", method="tools/call", tool="t", client="c", detail="d", rows=1, certificate="CN=c"
    )
    record.write()
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("gateway.test").exception("it broke")


def test_the_page_names_every_field(log: io.StringIO) -> None:
    context = contextvars.copy_context()
    context.run(_write_every_field)
    written = {key for line in lines(log) for key in line}
    documented = {
        name for row in re.findall(r"^\| (`.*?`) \|", PAGE, flags=re.MULTILINE) for name in re.findall("`(.*?)`", row)
    }
    assert written == documented
