"""The catalog: what a configuration makes, who sees it, and every mistake at its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import Tool as WireTool

from gateway.config.problems import ConfigError
from gateway.context import Principal
from gateway.database.engine import Column, Kind, Statement
from gateway.errors import InsufficientScope, ProtocolError
from gateway.telemetry.audit.redaction import plan
from gateway.tools.catalog import Catalog, Tool
from gateway.tools.parameters import compile_parameters
from tests.tools.conftest import Make, built

BY_ID = {
    "title": "Customer by number",
    "scopes": ["customers:read"],
    "parameters": {"id": {"type": "integer", "minimum": 1}},
    "statement": "select id, name from customers where id = :id",
}


def someone(*scopes: str) -> Principal:
    return Principal("https://idp.example.com", "someone", "", frozenset(scopes))


def problems_of(configure: Make, tools: dict[str, dict[str, object]]) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        built(configure(tools))
    return {".".join(map(str, problem.path)): problem.message for problem in caught.value.problems}


def test_a_tool_as_clients_see_it(configure: Make) -> None:
    (tool,) = built(configure({"by_id": BY_ID}))
    described = tool.describe((Column("id", Kind.INTEGER), Column("name", Kind.TEXT)))
    assert described["name"] == "by_id"
    assert described["title"] == "Customer by number"
    assert described["description"] == "A tool."
    assert described["inputSchema"]["properties"] == {"id": {"type": "integer", "minimum": 1}}
    assert list(described["outputSchema"]["properties"]["rows"]["items"]["properties"]) == ["id", "name"]
    assert described["annotations"] == {"readOnlyHint": True, "openWorldHint": False}
    assert WireTool.model_validate(described).output_schema == described["outputSchema"]


def test_without_columns_there_is_no_output_schema(configure: Make) -> None:
    (tool,) = built(configure({"by_id": BY_ID}))
    assert "outputSchema" not in tool.describe(None)
    assert "outputSchema" not in tool.describe((Column("a", Kind.TEXT), Column("a", Kind.TEXT)))


def test_a_write_says_what_it_is(configure: Make) -> None:
    write = {"source": "shop_rw", "writes": True, "statement": "delete from customers"}
    (tool,) = built(configure({"clear": write}))
    described = tool.describe(())
    assert described["annotations"] == {
        "readOnlyHint": False,
        "destructiveHint": True,
        "idempotentHint": False,
        "openWorldHint": False,
    }
    assert "affected_rows" in described["outputSchema"]["properties"]
    assert tool.statement.writes
    (tool,) = built(configure({"clear": write | {"idempotent": True}}))
    assert tool.describe(())["annotations"]["idempotentHint"] is True


def test_statements_carry_the_engines_placeholders(configure: Make) -> None:
    catalog = built(configure({"by_id": BY_ID, "all": {"statement": "select 1;"}}))
    by_name = {statement.name: statement for statement in catalog.statements()["shop"]}
    assert by_name["by_id"].text == "select id, name from customers where id = ?1"
    assert (by_name["by_id"].parameters, by_name["by_id"].types) == (("id",), ("integer",))
    assert by_name["all"].text == "select 1"
    assert set(catalog.statements()) == {"shop"}


def test_values_are_bound_in_the_statements_order(configure: Make) -> None:
    parameters = {"a": {"type": "integer"}, "b": {"type": "string", "optional": True}}
    (tool,) = built(configure({"t": {"parameters": parameters, "statement": "select :b, :a, :b"}}))
    assert tool.bind({"a": 1}) == [None, 1]


def test_numbers_come_from_the_tool_else_the_server(configure: Make) -> None:
    tools = {"a": {"statement": "select 1"}, "b": {"statement": "select 1", "numbers": "exact"}}
    catalog = built(configure(tools, server={"numbers": "string"}))
    assert {tool.name: tool.numbers for tool in catalog} == {"a": "string", "b": "exact"}


def test_a_disabled_tool_does_not_exist_but_is_checked(configure: Make) -> None:
    assert len(built(configure({"by_id": {**BY_ID, "enabled": False}}))) == 0
    assert "tools.by_id.statement" in problems_of(configure, {"by_id": {"statement": ";", "enabled": False}})


class TestWhoMay:
    def test_absent_scopes_are_the_default_ones_and_not_none(self, configure: Make) -> None:
        catalog = built(configure({"t": {"statement": "select 1"}}, auth={"default_scopes": ["mcp:tools", "more"]}))
        with pytest.raises(InsufficientScope) as caught:
            catalog.require("t", someone("mcp:tools"))
        assert caught.value.scopes == ("mcp:tools", "more")
        assert catalog.require("t", someone("mcp:tools", "more", "other")).name == "t"

    def test_an_unknown_tool(self, configure: Make) -> None:
        catalog = built(configure({"by_id": BY_ID}))
        with pytest.raises(ProtocolError) as caught:
            catalog.require("by_idd", someone("customers:read"))
        assert caught.value.code == -32602
        assert caught.value.message == 'There is no tool "by_idd"; did you mean "by_id"?'

    def test_a_hint_names_no_tool_that_the_caller_may_not_call(self, configure: Make) -> None:
        catalog = built(configure({"by_id": BY_ID}))
        with pytest.raises(ProtocolError) as caught:
            catalog.require("by_idd", someone())
        assert '"by_id"' not in caught.value.message

    @given(
        st.dictionaries(st.text("abc", min_size=1, max_size=3), st.sets(st.sampled_from("xyz"), min_size=1)), st.data()
    )
    def test_listing_and_calling_agree(self, tools: dict[str, set[str]], data: st.DataObject) -> None:
        catalog = Catalog([_tool(name, scopes) for name, scopes in tools.items()])
        caller = someone(*data.draw(st.sets(st.sampled_from("xyz"))))
        listed = [tool.name for tool in catalog.visible(caller)]
        assert listed == sorted(listed)
        for name in tools:
            if name in listed:
                assert catalog.require(name, caller).name == name
            else:
                with pytest.raises(InsufficientScope):
                    catalog.require(name, caller)


def _tool(name: str, scopes: set[str]) -> Tool:
    parameters, _ = compile_parameters(None, None)
    assert parameters is not None
    statement = Statement(name, "select 1", (), ())
    return Tool(
        name,
        None,
        "",
        "s",
        frozenset(scopes),
        statement,
        1,
        "exact",
        parameters,
        is_idempotent=True,
        audit=plan("", {}, (), ()),
    )


class TestMistakes:
    def test_all_of_all_tools_are_told_at_once(self, configure: Make) -> None:
        found = problems_of(
            configure,
            {
                "a": {"source": "shpo", "statement": "select 1"},
                "b": {"statement": "select :x", "parameters": {"y": {"type": "integer"}}},
                "c": {"statement": "select 1; select 2", "parameters": {"n": {"type": "intger"}}},
                "d": {"statement": "delete from customers", "writes": True},
            },
        )
        assert set(found) == {
            *("tools.a.source", "tools.b.statement", "tools.b.parameters.y"),
            *("tools.c.parameters.n.type", "tools.d.writes"),
        }
        assert found["tools.a.source"] == "there is no source shpo; did you mean shop?"
        assert "is read-only" in found["tools.d.writes"]

    def test_each_is_placed_in_the_file(self, configure: Make) -> None:
        with pytest.raises(ConfigError) as caught:
            built(configure({"a": BY_ID, "b": {"statement": "select\n :x"}}))
        (problem,) = caught.value.problems
        assert str(problem.place) == f"{Path('gateway.yaml')}:20"
        assert "line 2, column 2" in problem.message

    def test_a_parameter_whose_name_is_no_placeholder(self, configure: Make) -> None:
        found = problems_of(configure, {"a": {"statement": "select :a-b", "parameters": {"a-b": {"type": "integer"}}}})
        assert "letters, digits and _" in found["tools.a.parameters.a-b"]

    def test_an_unused_property_of_a_whole_schema(self, configure: Make) -> None:
        schema = {"type": "object", "properties": {"x": {"type": "string"}}}
        found = problems_of(configure, {"a": {"statement": "select 1", "input_schema": schema}})
        assert found == {
            "tools.a.input_schema.properties.x": "the statement has no placeholder :x; use it or remove it"
        }
