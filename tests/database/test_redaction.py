"""What a caller sent is not in what the operator reads, whatever the server makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import Code, ToolError
from tests.database.conftest import Database
from tests.database.support import reached, run, statement

PLANTED = "one"
"""A label that the table holds already, so that inserting it breaks a rule."""


async def _refused(database: Database, text: str, *values: Any, **types: str) -> ToolError:
    async with reached(database.settings(access="read-write")) as source:
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, text, writes=True, **types), *values)
    return caught.value


async def test_a_broken_rule_does_not_quote_the_row(database: Database) -> None:
    text = "insert into item (id, label) values (:id, :label)"
    error = await _refused(database, text, 987654321, PLANTED, id="integer", label="string")
    assert error.code is Code.CONSTRAINT_VIOLATION
    assert "withheld" in error.detail
    for quoted in (f"'{PLANTED}'", f"({PLANTED})", "987654321"):
        assert quoted not in error.detail + error.message


async def test_a_bad_cast_does_not_quote_the_value(database: Database) -> None:
    casts = {"sqlite": "select json(:v) as n", "mysql": "insert into item (id, label) select cast(:v as int), 'x'"}
    text = casts.get(database.name, "select :v::text::int as n")
    error = await _refused(database, text, "PLANTED-VALUE", v="string")
    assert "PLANTED-VALUE" not in error.detail + error.message
