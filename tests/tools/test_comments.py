"""What a statement tells the database of its tool and, if asked, of its call."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.context import Call, Principal
from gateway.database.engine import Statement
from gateway.telemetry import tracing
from gateway.telemetry.tracing import Parent, Trace
from gateway.tools.comments import commented, told, user_hash

PLAIN = Statement("orders", "select 1 -- one", (), ())
CALLER = Principal("https://idp.example.com", "ada@example.com", "agent", frozenset())


def call(identifier: str = "c-1") -> Call:
    return Call(identifier, CALLER, 0.0)


def fields(text: str) -> dict[str, str]:
    comment = re.fullmatch(r"(?s).*/\*(.*)\*/", text)
    assert comment
    return {key: unquote(value) for key, value in re.findall(r"([\w.]+)='([^']*)'", comment[1])}


def run(text: str) -> list[Any]:
    with closing(sqlite3.connect(":memory:")) as database:
        return database.execute(text).fetchall()


@pytest.fixture
def trace() -> Trace:
    trace = Trace(0xABC, 0xDEF, None, is_sampled=True)
    tracing._current.set(trace)
    return trace


def test_off_leaves_the_statement_alone() -> None:
    assert commented(PLAIN, "off") is PLAIN
    assert told(PLAIN, "off", call()) is PLAIN


def test_static_names_the_tool_and_is_the_same_for_every_call(trace: Trace) -> None:
    statement = commented(PLAIN, "static")
    assert fields(statement.text) == {"action": "orders", "application": "mcp-database-gateway"}
    assert told(statement, "static", call()) is statement
    assert run(statement.text) == [(1,)]


def test_sampled_calls_tell_their_trace(trace: Trace) -> None:
    statement = commented(PLAIN, "sampled")
    found = fields(told(statement, "sampled", call()).text)
    assert found["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert found["correlation.id"] == "c-1"
    assert found["client.user.id"] == user_hash(CALLER)
    trace.is_sampled = False
    assert told(statement, "sampled", call()) is statement
    assert fields(told(statement, "always", call()).text)["traceparent"].endswith("-00")


def test_the_parent_of_the_database_is_the_tools_span(trace: Trace) -> None:
    trace.enter({"traceparent": f"00-{7:032x}-{8:016x}-01"})
    assert trace.tool_parent == Parent(7, 8, is_sampled=True)
    found = fields(told(commented(PLAIN, "always"), "always", call()).text)
    assert found["traceparent"] == f"00-{7:032x}-{trace.tool_span_id:016x}-01"


@given(st.text(max_size=80), st.text(max_size=80))
def test_nothing_breaks_out_of_the_comment(name: str, subject: str) -> None:
    statement = commented(Statement(name, "select 1", (), ()), "always")
    caller = Principal("https://idp.example.com", subject, "", frozenset())
    text = told(statement, "always", Call("c-2", caller, 0.0)).text
    assert text.count("/*") == text.count("*/") == 1
    assert "\n" not in text.partition("/*")[2]
    assert fields(text)["action"] == name
    assert run(text) == [(1,)]


async def test_ids_of_callers_are_hashes() -> None:
    assert "ada" not in user_hash(CALLER)
    assert user_hash(CALLER) != user_hash(Principal("https://other.example.com", CALLER.subject, "", frozenset()))
