"""From a tool's configuration to its result, on the stand-in for Oracle: statements, blocks and procedures."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.config.loader import Configuration
from gateway.config.models import GatewaySettings
from gateway.config.problems import ConfigError, KeyPath, Place
from gateway.database.sources import build_engine, open_sources
from gateway.tools.catalog import Catalog, build
from tests.database.support import until
from tests.servers.oracle.server import OracleServer
from tests.tools.test_execute import House, content

COUNT = {
    "kind": "procedure",
    "writes": True,
    "parameters": {"at_least": {"type": "integer"}},
    "statement": "shop.count_items",
    "outputs": {"how_many": {"type": "integer"}, "items": {"type": "rows"}},
}
TOOLS: dict[str, dict[str, Any]] = {
    "find": {
        "parameters": {"label": {"type": "string"}, "level": {"type": "integer", "optional": True}},
        "statement": "select id, ':label' as literal from item where label = :label and coalesce(:level, 1) > 0;",
    },
    "count_items": COUNT,
    "block": {
        "kind": "procedure",
        "writes": True,
        "parameters": {"n": {"type": "number"}, "what": {"type": "string"}},
        "statement": (
            "begin\n"
            "  :twice := :n * 2;\n"
            "  :loud := upper(:what); -- :n in a comment\n"
            "  :day := '2024-05-31 10:30:00';\n"
            "  :is_large := :n > 10;\n"
            "  :raw := x'00ff';\n"
            "  :nothing := null;\n"
            "end;"
        ),
        "outputs": {
            "twice": {"type": "number"},
            "loud": {"type": "string"},
            "day": {"type": "datetime"},
            "is_large": {"type": "boolean"},
            "raw": {"type": "bytes"},
            "nothing": {"type": "string"},
        },
    },
    "fraction": {
        "kind": "procedure",
        "writes": True,
        "statement": "begin :whole := 1.5; end;",
        "outputs": {"whole": {"type": "integer"}},
    },
}


def made(tools: Mapping[str, Mapping[str, Any]], **source: Any) -> tuple[Configuration, dict[str, Any]]:
    written = {
        "sources": {"shop": source},
        "tools": {name: {"description": "A tool.", "source": "shop", **tool} for name, tool in tools.items()},
    }
    settings = GatewaySettings.model_validate_json(json.dumps(written))
    places: dict[KeyPath, Place] = {("tools", name): Place(Path("gateway.yaml"), 1) for name in tools}
    engines = {name: build_engine(each) for name, each in settings.sources.items()}
    return Configuration(settings, places), engines


@asynccontextmanager
async def house(server: OracleServer) -> AsyncIterator[tuple[House, Catalog, Any]]:
    await server.execute(
        "drop table if exists item; create table item (id integer primary key, label varchar2(100) not null unique);"
        "insert into item values (1, 'one'), (2, 'two'), (3, 'three')"
    )
    source = {
        "engine": "oracle",
        "host": server.host,
        "port": server.port,
        "service": server.service,
        "user": server.user,
        "password": server.password,
        "access": "read-write",
    }
    configuration, engines = made(TOOLS, **source)
    catalog = build(configuration, engines)
    async with open_sources(configuration.settings, engines, catalog.statements()) as sources:
        await until(lambda: len(sources["shop"].shapes) + len(sources["shop"].broken) == len(TOOLS))
        yield House(catalog, sources), catalog, sources["shop"]


async def test_a_statement_with_words_that_oracle_reserves(oracle: OracleServer) -> None:
    async with house(oracle) as (tools, _, source):
        assert not source.broken
        assert content(await tools.call("find", label="two"))["rows"] == [{"ID": 2, "LITERAL": ":label"}]
        assert content(await tools.call("find", label="x' or 1=1 --"))["row_count"] == 0


async def test_a_procedure_by_its_name_gives_values_and_rows(oracle: OracleServer) -> None:
    async with house(oracle) as (tools, catalog, source):
        tool = next(each for each in catalog if each.name == "count_items")
        schema = tool.describe(source.shapes["count_items"])["outputSchema"]
        for least, expected in ((2, [{"ID": 2, "LABEL": "two"}, {"ID": 3, "LABEL": "three"}]), (9, [])):
            for _ in range(2):  # the second time by the cursor that the server kept
                given = content(await tools.call("count_items", at_least=least))
                assert given["rows"] == [{"how_many": len(expected), "items": expected}]
                assert not list(Draft202012Validator(schema).iter_errors(given))
        assert tool.statement.text == ("begin shop.count_items(at_least => :P1, how_many => :O1, items => :O2); end;")


async def test_a_block_gives_each_type(oracle: OracleServer) -> None:
    async with house(oracle) as (tools, _, _):
        given = await tools.call("block", n=7, what="ü")
        assert content(given)["rows"] == [
            {"twice": 14, "loud": "ü", "day": "2024-05-31T10:30:00", "is_large": False, "raw": "AP8=", "nothing": None}
        ]


async def test_an_output_that_is_not_what_was_declared_is_named(oracle: OracleServer) -> None:
    async with house(oracle) as (tools, _, _):
        failed = await tools.call("fraction")
        assert failed.is_error
        assert "The output is whole" in failed.text


async def test_rows_beyond_the_limit_are_cut_and_told(oracle: OracleServer) -> None:
    TOOLS["few"] = COUNT | {"max_rows": 1}
    try:
        async with house(oracle) as (tools, _, _):
            given = content(await tools.call("few", at_least=1))
            assert given["truncated"]
            assert given["rows"] == [{"how_many": 3, "items": [{"ID": 1, "LABEL": "one"}]}]
    finally:
        del TOOLS["few"]


ORACLE = {"engine": "oracle", "host": "localhost", "service": "S", "user": "u", "access": "read-write"}
SQLITE = {"engine": "sqlite", "path": "shop.db", "access": "read-write"}


@pytest.mark.parametrize(
    ("source", "tool", "expected"),
    [
        (ORACLE, COUNT | {"writes": False}, "writes: a procedure may change data: say writes: true"),
        (SQLITE, COUNT | {"statement": "select :at_least"}, "kind: procedures are called on Oracle only"),
        (
            ORACLE,
            {"statement": "select 1", "outputs": {"x": {"type": "string"}}},
            "outputs: outputs are for tools of kind",
        ),
        (ORACLE, COUNT | {"outputs": {"at_least": {"type": "string"}}}, "outputs.at_least: a parameter has this name"),
        (ORACLE, COUNT | {"outputs": {"a-b": {"type": "string"}}}, "outputs.a-b: expected a name of letters"),
        (ORACLE, COUNT | {"statement": "begin p(:at_least); end;"}, "outputs.how_many: the block has no placeholder"),
        (ORACLE, COUNT | {"statement": "begin p(:at_lest, :how_many, :items); end;"}, "did you mean :at_least?"),
        (ORACLE, {"statement": "begin null; end;"}, "a tool that reads cannot begin with BEGIN"),
    ],
)
def test_what_is_wrong_with_a_procedure_is_found_at_load(
    source: dict[str, Any], tool: dict[str, Any], expected: str
) -> None:
    configuration, engines = made({"bad": tool}, **source)
    with pytest.raises(ConfigError) as caught:
        build(configuration, engines)
    assert any(expected in str(problem) for problem in caught.value.problems), caught.value.problems
