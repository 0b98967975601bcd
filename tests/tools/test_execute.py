"""One call from arguments to result, over a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.context import Call, Principal
from gateway.database.sources import build_engine
from gateway.errors import InsufficientScope, ProtocolError
from gateway.tools.catalog import build
from gateway.tools.execute import execute
from gateway.tools.results import ERROR_KEY, ToolResult
from tests.database.support import open_sources
from tests.tools.conftest import Make

TOOLS: dict[str, dict[str, Any]] = {
    "by_id": {
        "parameters": {"id": {"type": "integer", "minimum": 1}},
        "statement": "select id, name, extra from customers where id = :id",
    },
    "all": {
        "parameters": {"after": {"type": "integer", "default": 0}},
        "statement": "select id from customers where id > :after order by id",
        "max_rows": 3,
    },
    "rename": {
        "source": "shop_rw",
        "writes": True,
        "parameters": {"id": {"type": "integer"}, "name": {"type": "string"}},
        "statement": "update customers set name = :name where id = :id",
    },
    "broken": {"parameters": {"x": {"type": "integer"}}, "statement": "select missing from customers where id = :x"},
    "secret": {"scopes": ["secret:read"], "statement": "select 1 as one"},
}


class House:
    """A catalog over open sources, and a caller."""

    def __init__(self, catalog: Any, sources: Any) -> None:
        self.catalog, self.sources = catalog, sources

    async def call(self, name: str, /, **arguments: Any) -> ToolResult:
        caller = Principal("issuer", "subject", "", frozenset({"mcp:tools"}))
        call = Call("correlation-1", caller, asyncio.get_running_loop().time() + 20)
        tool = self.catalog.require(name, call.principal, arguments)
        return await execute(call, tool, self.sources[tool.source], arguments)


@asynccontextmanager
async def open_house(configure: Make) -> AsyncIterator[House]:
    configuration = configure(TOOLS)
    engines = {name: build_engine(each) for name, each in configuration.settings.sources.items()}
    catalog = build(configuration, engines)
    async with open_sources(configuration.settings, engines, catalog.statements()) as sources:
        yield House(catalog, sources)


@pytest.fixture
async def house(configure: Make) -> AsyncIterator[House]:
    async with open_house(configure) as opened:
        yield opened


def content(result: ToolResult) -> Any:
    assert result.structured is not None
    assert not result.is_error
    return json.loads(result.structured)


async def test_rows(house: House) -> None:
    result = await house.call("by_id", id=Decimal("1.0"))
    assert content(result) == {
        "rows": [{"id": 1, "name": "Ada", "extra": {"vip": True}}],
        "row_count": 1,
        "truncated": False,
    }


async def test_what_is_published_fits_what_comes(house: House) -> None:
    calls: dict[str, dict[str, Any]] = {"by_id": {"id": 1}, "all": {}, "rename": {"id": 2, "name": "Bo"}}
    for name, arguments in calls.items():
        result = await house.call(name, **arguments)
        (tool,) = [tool for tool in house.catalog if tool.name == name]
        columns = house.sources[tool.source].shapes[name]
        jsonschema.validate(content(result), tool.describe(columns)["outputSchema"])


async def test_truncation(house: House) -> None:
    result = await house.call("all")
    assert [row["id"] for row in content(result)["rows"]] == [1, 2, 3]
    assert content(result)["truncated"] is True
    assert "after" in result.hints[0]
    assert content(await house.call("all", after=2))["truncated"] is False


async def test_a_write(house: House) -> None:
    assert content(await house.call("rename", id=2, name="Bo"))["affected_rows"] == 1
    assert content(await house.call("by_id", id=2))["rows"][0]["name"] == "Bo"


async def test_values_are_bound_and_never_text(house: House) -> None:
    hostile = "x'; drop table customers; --"
    assert content(await house.call("rename", id=2, name=hostile))["affected_rows"] == 1
    assert content(await house.call("by_id", id=2))["rows"][0]["name"] == hostile
    assert content(await house.call("all"))["row_count"] == 3


async def test_a_bad_argument_is_a_result_and_asks_no_database(house: House, database: Path) -> None:
    await asyncio.to_thread(database.unlink)
    result = await house.call("by_id", id=-1)
    assert result.is_error
    assert result.text == 'Argument "id": got -1; must be an integer of at least 1.'
    assert result.meta[ERROR_KEY] == {
        "code": "invalid_arguments",
        "retryable": False,
        "retry_after_ms": None,
        "correlation_id": "correlation-1",
    }


async def test_what_the_database_refuses_is_a_result(house: House) -> None:
    result = await house.call("rename", id=2, name="Ada")
    assert (result.is_error, result.code) == (True, "constraint_violation")
    assert "customers set" not in result.text


async def test_a_broken_statement_is_answered_without_asking_again(house: House) -> None:
    async with asyncio.timeout(10):
        while "broken" not in house.sources["shop"].broken:  # noqa: ASYNC110 - it prepares in the background
            await asyncio.sleep(0.005)
    refused = house.sources["shop"].broken["broken"]
    for _ in range(3):
        result = await house.call("broken", x=1)
        assert result.code == "statement_invalid"
        assert "missing" not in result.text
    assert refused.__traceback__ is None or _length(refused.__traceback__) < 20
    before = _length(refused.__traceback__)
    await house.call("broken", x=1)
    assert _length(refused.__traceback__) == before, "a stored error must not grow with every call"


async def test_a_source_that_is_down(configure: Make, database: Path) -> None:
    await asyncio.to_thread(database.rename, database.with_suffix(".away"))
    async with open_house(configure) as house:
        result = await house.call("by_id", id=1)
    assert result.is_error
    assert result.meta[ERROR_KEY]["retryable"] is True
    assert str(database) not in result.text


async def test_no_such_tool_and_not_allowed_are_no_results(house: House) -> None:
    with pytest.raises(ProtocolError):
        await house.call("nothing")
    with pytest.raises(InsufficientScope):
        await house.call("secret")


def _length(traceback: Any) -> int:
    length = 0
    while traceback is not None:
        length, traceback = length + 1, traceback.tb_next
    return length
