"""A line is a line whatever is in it, and the page on logs names every field."""

from __future__ import annotations

import ast
import contextvars
import io
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.server.record import Record
from gateway.telemetry import logs, tracing

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/reference/logs.md").read_text()
NASTY: Final = st.text(max_size=60) | st.sampled_from(
    ['"}\n{"level":"error"', "\r\n", "\u2028", "\x85", "\x1b[31m", "\x9b31m", "\x00", "\ud800"]
)
FORGED: Final = "9:00 ERROR   forged"
CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f\x80-\x9f\u2028\u2029\ud800-\udfff]")


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
    assert not CONTROL.search(text)
    first, second = lines(log)
    assert (first["level"], first["event"], first["outcome"]) == ("info", "request", "ok")
    assert (second["level"], second["logger"]) == ("warning", "gateway.test")


@given(method=NASTY, tool=NASTY, before=NASTY)
def test_no_value_begins_a_line_on_the_console(method: str, tool: str, before: str) -> None:
    """What is forged may be in a line, never at its beginning; what is no line of its own is indented."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.ConsoleFormatter())
    logger = logging.Logger("gateway.test")
    logger.addHandler(handler)
    forged = f"{before}\n{FORGED}"
    try:
        raise ValueError(forged) from KeyError(forged)
    except ValueError:
        logger.exception("%s", f"{method}\n{FORGED}", extra={"tool": f"{tool}\n{FORGED}"})
    text = stream.getvalue()
    assert not CONTROL.search(text.replace("\t", ""))
    first, *others = text.removesuffix("\n").split("\n")
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} ERROR   ", first)
    assert all(line.startswith("    ") for line in others)


def test_words_that_may_be_personal_are_withheld_and_the_stack_stays(log: io.StringIO) -> None:
    address, card = "jane@example.com", "4111 1111 1111 1111"
    try:
        try:
            int(address)
        except ValueError as error:
            raise ExceptionGroup("several", [RuntimeError(f"card {card}"), KeyError("id")]) from error
    except ExceptionGroup:
        logging.getLogger("gateway.test").exception("it broke")
    (line,) = lines(log)
    assert "jane" not in line["exception"]
    assert "4111" not in line["exception"]
    assert "test_logs.py" in line["exception"]
    assert "KeyError: 'id'" in line["exception"]


def test_a_stack_is_bounded(log: io.StringIO) -> None:
    try:
        raise ExceptionGroup("many", [ValueError("x" * 1_000_000), *(ValueError("y" * 1000) for _ in range(40))])
    except ExceptionGroup:
        logging.getLogger("gateway.test").exception("it broke")
    (line,) = lines(log)
    assert len(line["exception"]) < 25_000
    assert "test_a_stack_is_bounded" in line["exception"]


_FAULTS: Final = """
import asyncio, threading, uvloop, warnings
from gateway.telemetry import faults, logs
logs.configure()
faults.catch_all()
def broken(*_):
    raise ValueError("one\\ntwo")
class Falling:
    __del__ = broken
async def main():
    asyncio.get_running_loop().call_soon(broken)
    await asyncio.sleep(0.01)
thread = threading.Thread(target=broken, name="worker")
thread.start()
thread.join()
Falling()
warnings.warn("one\\ntwo", stacklevel=1)
asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
broken()
"""


def test_what_nobody_caught_is_one_line_with_its_stack() -> None:
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    told = [json.loads(line) for line in done.stderr.splitlines()]
    warnings = [each for each in told if each["level"] == "warning"]
    faults = [each for each in told if "exception" in each]
    assert len(told) == len(warnings) + len(faults)
    assert [each["logger"] for each in warnings] == ["py.warnings"]
    assert [each["level"] for each in faults] == ["error", "error", "error", "critical"]
    assert faults[0]["thread_name"] == "worker"
    assert all("ValueError: one\ntwo" in each["exception"] and "in broken" in each["exception"] for each in faults)


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


def documented(rows: str) -> set[str]:
    found = re.findall(r"^\| (`.*?`) \|", rows, flags=re.MULTILINE)
    return {name for row in found for name in re.findall("`(.*?)`", row)}


def test_the_page_names_every_field_of_every_line_and_of_requests(log: io.StringIO) -> None:
    context = contextvars.copy_context()
    context.run(_write_every_field)
    written = {key for line in lines(log) for key in line}
    assert written == documented(PAGE.partition("Other events tell")[0])


def _keys_of(given: ast.expr, function: ast.AST) -> set[str]:
    """The keys of a dictionary that is written here, or was given a name in the same function."""
    if isinstance(given, ast.Dict):
        return {str(key.value) for key in given.keys if isinstance(key, ast.Constant)}
    assert isinstance(given, ast.Name), ast.dump(given)
    named = [
        each
        for each in ast.walk(function)
        if isinstance(each, ast.Assign) and given.id in map(ast.unparse, each.targets)
    ]
    values = [each.value.elts if isinstance(each.value, ast.Tuple) else [each.value] for each in named]
    return {key for value in values for each in value if isinstance(each, ast.Dict) for key in _keys_of(each, function)}


def _told() -> set[str]:
    """Every field that the gateway's code gives to a line of its log beside those of requests."""
    found: set[str] = set()
    for file in (ROOT / "gateway").rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in (each for each in ast.walk(function) if isinstance(each, ast.Call)):
                found |= {
                    key for given in call.keywords if given.arg == "extra" for key in _keys_of(given.value, function)
                }
                if isinstance(call.func, ast.Attribute) and call.func.attr == "note":
                    found |= {given.arg for given in call.keywords if given.arg}
    return found


def test_the_page_names_every_field_of_other_events() -> None:
    assert _told() == documented(PAGE.partition("Other events tell")[2])
