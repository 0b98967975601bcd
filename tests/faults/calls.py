"""One call as its caller saw it: sent, and answered rightly, wrongly, with a code, or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from gateway.tools.results import ERROR_KEY
from tests.world import envelope, routing

OK: Final = "ok"
WRONG: Final = "wrong answer"
LOST: Final = "no answer"
"""The connection to the gateway ended without one."""
HUNG: Final = "hung"
"""There was none long after the deadline."""


@dataclass(slots=True)
class Outcome:
    """How a call ended.

    Attributes:
        tool: what was called, source included.
        began: by `time.monotonic()`.
        took: seconds.
        word: one of the above, a tool error's code, or HTTP status and JSON-RPC code.
        message: what the agent read of a failure.
        details: the failure's other fields.
        key: what a write wrote.
    """

    tool: str
    began: float
    took: float = 0.0
    word: str = ""
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    @property
    def source(self) -> str:
        return self.tool.rpartition("_")[0]

    @property
    def ended(self) -> float:
        return self.began + self.took


def headers(token: str) -> dict[str, str]:
    """What every request carries."""
    accept = "application/json, text/event-stream"
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": accept}


def request(tool: str, arguments: Mapping[str, Any], identifier: Any = 1) -> tuple[bytes, dict[str, str]]:
    """The body of a `tools/call` of 2026-07-28, and the headers beside it."""
    body = envelope("tools/call", {"name": tool, "arguments": dict(arguments)}, identifier=identifier)
    return json.dumps(body).encode(), routing(body)


class Agent:
    """Calls tools with one token, over connections of its own.

    Args:
        url: the gateway's.
        token: what it brings; it may be replaced.
        patience: seconds after which an answer is not waited for any more.
    """

    def __init__(self, url: str, token: str, patience: float, **connector: Any) -> None:
        self.url = url
        self.token = token
        timeout = aiohttp.ClientTimeout(total=patience)
        self.http = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0, **connector))

    async def close(self) -> None:
        await self.http.close()

    async def call(self, tool: str, arguments: Mapping[str, Any], expected: Any = None) -> Outcome:
        """Call once; nothing is raised, and nothing is tried again.

        Args:
            expected: the rows of a right answer, or what judges them; None for a write of one row.
        """
        outcome = Outcome(tool, time.monotonic(), key=str(arguments.get("key", "")))
        body, more = request(tool, arguments)
        try:
            async with self.http.post(self.url, data=body, headers=headers(self.token) | more) as response:
                status, raw = response.status, await response.read()
        except TimeoutError:
            outcome.word = HUNG
        except (aiohttp.ClientError, OSError):
            outcome.word = LOST
        else:
            _judge(outcome, status, _message(raw), expected)
        outcome.took = time.monotonic() - outcome.began
        return outcome


def _message(raw: bytes) -> dict[str, Any]:
    """The JSON-RPC message: the body, or the last event of a stream."""
    if raw.startswith(b"{"):
        found: dict[str, Any] = json.loads(raw)
        return found
    events = [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]
    return json.loads(events[-1]) if events else {}


def _judge(outcome: Outcome, status: int, message: Mapping[str, Any], expected: Any) -> None:
    if error := message.get("error"):
        outcome.word, outcome.message, outcome.details = f"{status} {error['code']}", error["message"], error
        return
    result = message.get("result", {})
    if result.get("isError"):
        outcome.details = result["_meta"][ERROR_KEY]
        outcome.word, outcome.message = outcome.details["code"], result["content"][0]["text"]
        return
    found = result.get("structuredContent", {})
    if expected is None:
        is_right = "affected_rows" in found
    else:
        is_right = expected(found["rows"]) if callable(expected) else found.get("rows") == expected
    outcome.word = OK if is_right else WRONG
    if not is_right:
        outcome.message = json.dumps(message)[:500]
