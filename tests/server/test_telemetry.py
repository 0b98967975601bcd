"""One correlation id: on the response, in every log line."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.world import open_world


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_one_id_on_the_response_and_in_the_log(tmp_path: Path, log: io.StringIO) -> None:
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with open_world(tmp_path) as world:
        reply = await world.modern(
            "tools/call",
            {"name": "customer_by_id", "arguments": {"id": 5}},
            headers={"X-Request-ID": "trace-me", "traceparent": caller},
        )
        assert reply.headers["X-Request-ID"] == "trace-me"
    line = next(line for line in _lines(log) if line["event"] == "request" and line.get("tool"))
    assert line["correlation_id"] == "trace-me"
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert line["mcp_method"] == "tools/call"
    assert (line["tool"], line["outcome"], line["rows"], line["client"]) == ("customer_by_id", "ok", 1, "reader")
    assert line["duration_ms"] > 0


async def test_failures_are_one_line_with_a_reason_and_no_secret(tmp_path: Path, log: io.StringIO) -> None:
    async with open_world(tmp_path) as world:
        token = await world.credentials().token()
        await world.send({}, client=None)
        await world.send({}, client=None, headers={"Authorization": "Bearer x.y.z"})
        await world.call("customer_by_id", {"id": "PLANTED-VALUE"})
        await world.send(None, raw=b"{")
        await world.modern("tools/list", headers={"X-Request-ID": 'forged"\\n{"level":"error"}'})
        await world.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    requests = [line for line in _lines(log) if line["event"] == "request"]
    outcomes = [line["outcome"] for line in requests]
    assert outcomes[0] == "unauthenticated:no_token"
    assert outcomes[1].startswith("unauthenticated:")
    assert outcomes[2:] == ["invalid_arguments", "refused", "ok", "ok"]
    assert [line["status"] for line in requests] == [401, 401, 200, 400, 200, 202]
    text = log.getvalue()
    assert token not in text
    assert "PLANTED-VALUE" not in text
    assert "forged" not in text


def test_an_exception_is_one_line(log: io.StringIO) -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        logging.getLogger("gateway.test").exception("it broke", extra={"long": "x" * 5000})
    lines = _lines(log)
    assert len(lines) == 1
    assert "line two" in lines[0]["exception"]
    assert len(lines[0]["long"]) < 2100


@pytest.mark.parametrize("place", ["before the message is read", "while the call runs"])
async def test_a_fault_of_ours_is_one_line_with_its_stack(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Whatever breaks, the client learns the id and nothing else, and the id finds the stack."""

    def break_down(*_: object) -> None:
        raise ZeroDivisionError("of jane@example.com")

    async with open_world(tmp_path) as world:
        if place == "while the call runs":
            monkeypatch.setattr(type(world.gateway.snapshot.sources["shop"]), "lease", break_down)
        else:
            await world.call("customer_by_id", {"id": 5})
            monkeypatch.setattr(type(world.gateway.snapshot.verifier), "known", break_down)
        reply = await world.modern(
            "tools/call", {"name": "customer_by_id", "arguments": {"id": 5}}, headers={"X-Request-ID": "broken"}
        )
    assert reply.status == 500
    assert reply.error["code"] == -32603
    assert reply.headers["X-Request-ID"] == "broken"
    assert reply.headers["Server"] == "mcp-database-gateway"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert b"Zero" not in reply.body
    lines = [line for line in _lines(log) if line.get("correlation_id") == "broken" or "exception" in line]
    (fault,) = [line for line in lines if "exception" in line]
    assert fault["level"] == "error"
    assert "in break_down" in fault["exception"]
    assert "jane" not in fault["exception"]
    assert fault["correlation_id"] == "broken"
    (request,) = [line for line in lines if line["event"] == "request"]
    assert request["outcome"] in {"internal", "-32603"}
    assert request["status"] == 500
    assert len(lines) == 2
