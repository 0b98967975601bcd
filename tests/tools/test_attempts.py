"""Which failures are tried again, for which tools, and what is said of it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.context import Call, Principal
from gateway.errors import Code, ToolError
from gateway.resilience.retry import Patience
from gateway.tools.attempts import may_retry, persistently
from gateway.tools.catalog import Tool
from tests.database.fakes import in_virtual_time
from tests.tools.conftest import Make, built

KINDS: dict[str, dict[str, Any]] = {
    "read": {"statement": "select 1 as one"},
    "write": {"source": "shop_rw", "writes": True, "statement": "delete from customers"},
    "idempotent": {"source": "shop_rw", "writes": True, "idempotent": True, "statement": "delete from customers"},
}
PASSING = {Code.CONNECT_TIMEOUT, Code.SOURCE_UNAVAILABLE, Code.CONNECTION_LOST, Code.CONFLICT, Code.OUTCOME_UNKNOWN}


@pytest.fixture
def tools(configure: Make) -> dict[str, Tool]:
    return {tool.name: tool for tool in built(configure(KINDS))}


def test_the_whole_table(tools: dict[str, Tool]) -> None:
    for name, code, is_sent in itertools.product(tools, Code, (True, False)):
        expected = code in PASSING and (name != "write" or not is_sent)
        assert may_retry(tools[name], ToolError(code, "", is_sent=is_sent)) is expected, (name, code, is_sent)


class Script:
    """Fails as written, then succeeds; counts what reached the database."""

    def __init__(self, failures: Iterable[ToolError]) -> None:
        self.failures = list(failures)
        self.attempts = 0
        self.sent = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if not self.failures:
            self.sent += 1
            return "done"
        error = self.failures.pop(0)
        self.sent += error.is_sent
        raise error


def lost(code: Code = Code.CONNECTION_LOST) -> ToolError:
    return ToolError(code, "lost", is_sent=True)


def down(retry_after: float | None = None) -> ToolError:
    return ToolError(Code.SOURCE_UNAVAILABLE, "down", retry_after=retry_after)


def play(tool: Tool, script: Script, *, seconds: float = 60.0, patience: float = 10.0) -> tuple[str, list[str], float]:
    """The outcome, what was reported, and how long it took."""
    lines: list[str] = []

    async def scene() -> tuple[str, list[str], float]:
        call = Call("id", Principal("issuer", "subject", "", frozenset()), seconds, lines.append)
        try:
            outcome = await persistently(call, tool, Patience(patience), script)
        except ToolError as error:
            outcome = error.code.value
        return outcome, lines, asyncio.get_running_loop().time()

    return in_virtual_time(scene())


def test_a_read_is_made_again_and_says_so(tools: dict[str, Tool], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gateway.tools"):
        outcome, lines, _ = play(tools["read"], Script([lost(), lost(Code.CONFLICT)]))
    assert outcome == "done"
    assert [line.split()[0:3] for line in lines] == [["trying", "again", "after"]] * 2
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["connection_lost", "conflict"]
    seen = [(vars(record)["code"], vars(record)["attempt"], vars(record)["tool"]) for record in caplog.records]
    assert seen == [("connection_lost", 1, "read"), ("conflict", 2, "read")]
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_five_attempts_are_all(tools: dict[str, Tool]) -> None:
    script = Script([lost()] * 20)
    assert play(tools["read"], script)[0] == "connection_lost"
    assert script.attempts == 5


@pytest.mark.parametrize("code", [Code.CONNECTION_LOST, Code.CONFLICT, Code.OUTCOME_UNKNOWN, Code.SOURCE_UNAVAILABLE])
def test_a_plain_write_is_never_sent_twice(tools: dict[str, Tool], code: Code) -> None:
    script = Script([down(), down(), lost(code)])
    assert play(tools["write"], script)[0] == code.value
    assert (script.attempts, script.sent) == (3, 1)


def test_an_idempotent_write_is_sent_again(tools: dict[str, Tool]) -> None:
    script = Script([lost(Code.OUTCOME_UNKNOWN)])
    assert play(tools["idempotent"], script)[0] == "done"
    assert script.sent == 2


def test_an_unknown_outcome_stays_unknown_whatever_follows(tools: dict[str, Tool]) -> None:
    later = [down(), ToolError(Code.STATEMENT_TIMEOUT, "", is_sent=True), ToolError(Code.LOGIN_FAILED, "")]
    for last in later:
        assert play(tools["idempotent"], Script([lost(Code.OUTCOME_UNKNOWN), last] + [down()] * 9))[0] == (
            "outcome_unknown"
        )


@pytest.mark.parametrize("code", [Code.POOL_EXHAUSTED, Code.POOL_TIMEOUT])
def test_a_full_pool_is_not_hammered(tools: dict[str, Tool], code: Code) -> None:
    script = Script([ToolError(code, "full", retry_after=1.0)])
    assert play(tools["read"], script) == (code.value, [], 0.0)
    assert script.attempts == 1


def test_the_time_to_retry_is_waited_for(tools: dict[str, Tool]) -> None:
    outcome, _, seconds = play(tools["read"], Script([down(2.0), down(3.0)]))
    assert outcome == "done"
    assert 5.0 <= seconds <= 5.3


def test_patience_and_deadline_bound_all_attempts_together(tools: dict[str, Tool]) -> None:
    script = Script([down(2.0)] * 9)
    outcome, _, seconds = play(tools["read"], script, patience=3.0)
    assert (outcome, script.attempts) == ("source_unavailable", 2)
    assert seconds <= 3.0
    script = Script([down(2.0)] * 9)
    outcome, _, seconds = play(tools["read"], script, seconds=5.0)
    assert (outcome, script.attempts) == ("source_unavailable", 3)
    assert seconds <= 5.0
