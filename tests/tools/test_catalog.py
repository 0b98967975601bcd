"""The catalog: what a configuration makes, who sees it, and every mistake at its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import Tool as WireTool

from gateway.config.problems import ConfigError
from gateway.config.rules import RuleSettings
from gateway.context import Principal
from gateway.database.engine import Column, Kind, Statement
from gateway.errors import InsufficientScope, ProtocolError
from gateway.telemetry.audit.redaction import plan
from gateway.tools.authorization import Access
from gateway.tools.catalog import Catalog, Tool, toolsets
from gateway.tools.parameters import compile_parameters
from gateway.tools.rules import compile_rules
from tests.tools.conftest import Make, built

BY_ID = {
    "title": "Customer by number",
    "scopes": ["customers:read"],
    "parameters": {"id": {"type": "integer", "minimum": 1}},
    "statement": "select id, name from customers where id = :id",
}


_Written = tuple[set[str], list[str], list[int]]
_TOOLS: st.SearchStrategy[_Written] = st.tuples(
    st.sets(st.sampled_from("xyz"), min_size=1),
    st.lists(st.sampled_from("xyz"), unique=True),
    st.lists(st.sampled_from([1, 2, 3]), unique=True),
)


def someone(*scopes: str, **claims: object) -> Principal:
    return Principal("https://idp.example.com", "someone", "", frozenset(scopes), claims)


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
    assert tool.bind({"a": 1}, {}) == [None, 1]


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
            catalog.require("t", someone("mcp:tools"), {})
        assert caught.value.scopes == ("mcp:tools", "more")
        assert catalog.require("t", someone("mcp:tools", "more", "other"), {}).name == "t"

    def test_an_unknown_tool(self, configure: Make) -> None:
        catalog = built(configure({"by_id": BY_ID}))
        with pytest.raises(ProtocolError) as caught:
            catalog.require("by_idd", someone("customers:read"), {})
        assert caught.value.code == -32602
        assert caught.value.message == 'There is no tool "by_idd" for this call; did you mean "by_id"?'

    def test_a_hint_names_no_tool_that_the_caller_may_not_call(self, configure: Make) -> None:
        catalog = built(configure({"by_id": BY_ID}))
        with pytest.raises(ProtocolError) as caught:
            catalog.require("by_idd", someone(), {})
        assert '"by_id"' not in caught.value.message

    @given(st.dictionaries(st.text("abc", min_size=1, max_size=3), _TOOLS), st.data())
    def test_listing_and_calling_agree(self, tools: dict[str, _Written], data: st.DataObject) -> None:
        catalog = Catalog([_tool(name, *written) for name, written in tools.items()])
        names, scopes = data.draw(st.sets(st.sampled_from("abcz"))), frozenset(data.draw(st.sets(st.sampled_from("z"))))
        for each, extra in ((catalog, frozenset[str]()), (catalog.behind(names, scopes), scopes)):
            caller = someone(
                *data.draw(st.sets(st.sampled_from("xyz"))), level=data.draw(st.sampled_from([None, 1, 2]))
            )
            listed = [tool.name for tool in each.visible(caller)]
            assert listed == sorted(listed)
            for name, (every, some, levels) in tools.items():
                if (each is not catalog and name not in names) or (levels and caller.claims["level"] not in levels):
                    expected: object = "unknown"
                elif every | extra <= caller.scopes and (not some or caller.scopes & set(some)):
                    expected = name
                else:
                    one = next((scope for scope in some if scope in caller.scopes), some[0] if some else None)
                    expected = tuple(sorted(every | extra | ({one} if one else set())))
                assert _outcome(each, name, caller) == expected
                assert (name in listed) is (expected == name)

    def test_the_scopes_that_are_named_would_do(self) -> None:
        access = Access(frozenset("x"), ("y", "z"))
        assert access.needed(someone()) == ("x", "y")
        assert access.needed(someone("z")) == ("x", "z")
        assert all(access.is_granted(someone(*access.needed(someone(*held)))) for held in ("", "x", "z", "yz", "xq"))

    def test_a_door_asks_for_its_own_scopes_too(self, configure: Make) -> None:
        tools = {
            "a": BY_ID,
            "b": {"statement": "select 1", "any_scopes": ["b:1", "b:2"]},
            "c": {"statement": "select 1"},
        }
        sets = {"few": {"tools": ["a", "b"], "scopes": ["few:use"]}, "open": {"tools": ["b"]}}
        configuration = configure(tools, toolsets=sets)
        made = toolsets(built(configuration), configuration.settings)
        assert {name: [tool.name for tool in each] for name, each in made.items()} == {"few": ["a", "b"], "open": ["b"]}
        assert made["few"].entry_scopes == ("b:1", "customers:read", "few:use")
        assert made["open"].entry_scopes == ("b:1",)

    def test_rules_alone_do_not_replace_scopes(self, configure: Make) -> None:
        rule = {"statement": "select 1", "allow": [{"claim": "level", "equals": 1}]}
        catalog = built(configure({"t": rule}))
        assert _outcome(catalog, "t", someone(level=1)) == ("mcp:tools",)
        assert _outcome(catalog, "t", someone("mcp:tools", level=1)) == "t"
        assert _outcome(catalog, "t", someone("mcp:tools", level=2)) == "unknown"

    def test_the_log_says_which_rule_it_was_and_the_caller_hears_nothing_of_it(self, configure: Make) -> None:
        catalog = built(configure({"t": {"statement": "select 1", "allow": [{"claim": "level", "equals": 1}]}}))
        with pytest.raises(ProtocolError) as denied:
            catalog.require("t", someone(level=2), {})
        with pytest.raises(ProtocolError) as absent:
            catalog.require("u", someone(level=2), {})
        assert denied.value.detail == "tool t denied by level is 1"
        assert denied.value.message == absent.value.message.replace('"u"', '"t"')
        assert denied.value.data is absent.value.data is None


def _outcome(catalog: Catalog, name: str, caller: Principal) -> object:
    """The tool's name, the scopes that are needed, or "unknown"."""
    try:
        return catalog.require(name, caller, {}).name
    except InsufficientScope as error:
        return error.scopes
    except ProtocolError:
        return "unknown"


def _tool(name: str, scopes: set[str], any_scopes: list[str], levels: list[int]) -> Tool:
    parameters, _ = compile_parameters(None, None)
    assert parameters is not None
    rules, _ = compile_rules(
        [RuleSettings.model_validate({"claim": "level", "in": tuple(levels)})] if levels else [], parameters
    )
    statement = Statement(name, "select 1", (), ())
    access = Access(frozenset(scopes), tuple(any_scopes), rules)
    return Tool(
        name,
        None,
        "",
        "s",
        access,
        statement,
        1,
        1024,
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

    def test_rules_at_their_keys(self, configure: Make) -> None:
        rules = [{"claim": "a", "equals_argument": "idd"}, {"claim": "a", "equals": 1}, {"claim": "b", "matches": "("}]
        found = problems_of(configure, {"a": {**BY_ID, "allow": rules}})
        assert set(found) == {"tools.a.allow.0.equals_argument", "tools.a.allow.2.matches"}
        assert found["tools.a.allow.0.equals_argument"].endswith("did you mean id?")

    def test_a_parameter_of_the_token_is_a_placeholder_like_any_other(self, configure: Make) -> None:
        parameters = {"t": {"type": "string", "from_claim": "tenant"}}
        found = problems_of(configure, {"a": {"statement": "select 1", "parameters": parameters}})
        assert found == {"tools.a.parameters.t": "the statement has no placeholder :t; use it or remove it"}
        (tool,) = built(configure({"a": {"statement": "select :t", "parameters": parameters}}))
        assert tool.bind({}, {"tenant": "acme"}) == ["acme"]
        assert tool.narrowing == ()
