"""Authorisation over real HTTP: rules, scopes, toolsets and audiences, and what strangers can tell apart."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.world import AUDIENCE, CONFIGURATION, Reply, World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")

BASE = "https://gateway.test"
FINANCE = f"{BASE}/mcp/finance"
SALES = f"{BASE}/mcp/sales"
TOOLS = """
  payroll:
    description: For finance alone.
    source: shop
    scopes: ["payroll:read"]
    allow: [{claim: department, equals: finance}, {claim: groups, contains: hr}]
    statement: select 1 as one
  regional:
    description: Customers of the caller's own region.
    source: shop
    scopes: ["customers:read"]
    allow: [{claim: region, equals_argument: country}]
    parameters: {country: {type: string, pattern: "[A-Z]{2}", x-mcp-header: Country}}
    statement: select count(*) as n from customers where country = :country
  own:
    description: What belongs to the caller's tenant.
    source: shop
    any_scopes: ["own:read", "own:all"]
    parameters:
      limit: {type: integer, minimum: 1, default: 1}
      tenant: {type: string, pattern: "[a-z]{1,8}", from_claim: app.tenant}
    statement: select :tenant as tenant, :limit as n
  hidden:
    description: Switched off.
    source: shop
    enabled: false
    statement: select 1 as one
toolsets:
  finance:
    title: Finance
    description: Figures for the finance department.
    tools: [payroll, orders_total, hidden]
    scopes: ["finance:use"]
  sales: {tools: [customers_in, regional]}
"""
SECTIONS = CONFIGURATION.replace("port: 0}", f"port: 0, public_url: {BASE}}}", 1).replace(
    "auth:\n", 'auth:\n  scope_wildcards: true\n  scope_hierarchy: {boss: ["payroll:*", "finance:use", "own:all"]}\n'
)
STAFF = {"department": "finance", "groups": ["hr", "all"], "region": "DE"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("authorization"), SECTIONS + TOOLS) as world:
        yield world


async def ask(
    world: World,
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    scopes: str = "",
    claims: Mapping[str, Any] | None = None,
    door: str = "",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    token = world.provider.issue("reader", scopes=scopes.split(), claims=claims)
    body = envelope(method, params)
    sent = {**routing(body), "Authorization": f"Bearer {token}", "X-Request-ID": "same", **(headers or {})}
    return await world.send(body, client=None, headers=sent, url=world.gateway.url + door)


async def call(world: World, tool: str, arguments: Mapping[str, Any] | None = None, **caller: Any) -> Reply:
    return await ask(world, "tools/call", {"name": tool, "arguments": dict(arguments or {})}, **caller)


async def listed(world: World, **caller: Any) -> list[str]:
    return [tool["name"] for tool in (await ask(world, "tools/list", **caller)).result["tools"]]


def rows(reply: Reply) -> Any:
    return reply.result["structuredContent"]["rows"]


def alike(reply: Reply, name: str) -> tuple[Any, ...]:
    """Everything that a caller can tell of an answer, the name that it sent aside."""
    headers = {key: value for key, value in reply.headers.items() if key not in ("Date", "Content-Length")}
    return reply.status, headers, reply.body.replace(name.encode(), b"NAME")


class TestWhoMay:
    async def test_rules_and_scopes_together(self, world: World) -> None:
        assert rows(await call(world, "payroll", scopes="payroll:read", claims=STAFF)) == [{"one": 1}]
        assert "payroll" in await listed(world, scopes="payroll:read", claims=STAFF)

    async def test_missing_scopes_are_403_for_who_passes_the_rules(self, world: World) -> None:
        reply = await call(world, "payroll", claims=STAFF)
        assert reply.status == 403
        assert reply.error["data"] == {"required_scopes": ["payroll:read"]}
        assert 'scope="payroll:read"' in reply.headers["WWW-Authenticate"]

    async def test_any_scopes_name_the_least_that_would_do(self, world: World) -> None:
        claims = {"app": {"tenant": "acme"}}
        assert (await call(world, "own", claims=claims)).error["data"] == {"required_scopes": ["own:read"]}
        for scopes in ("own:read", "own:all", "own:*", "boss"):
            assert rows(await call(world, "own", scopes=scopes, claims=claims)) == [{"tenant": "acme", "n": 1}]

    async def test_what_scopes_imply(self, world: World) -> None:
        for scopes in ("boss", "payroll:*"):
            assert (await call(world, "payroll", scopes=scopes, claims=STAFF)).status == 200
        for scopes in ("*", ":*", "payroll", "payroll:", "payrol*", "payroll:read:all", "customers:*"):
            assert (await call(world, "payroll", scopes=scopes, claims=STAFF)).status == 403

    @pytest.mark.parametrize(
        ("name", "scopes", "claims", "door"),
        [
            ("payroll", "payroll:read", {}, ""),
            ("payroll", "", {}, ""),
            ("payroll", "", STAFF | {"department": ["finance"]}, ""),
            ("payroll", "payroll:read", STAFF | {"groups": "hr"}, ""),
            ("payroll", "payroll:read", STAFF, "/sales"),
            ("payroll", "", STAFF, "/sales"),
            ("hidden", "mcp:tools", STAFF, ""),
            ("hidden", "mcp:tools finance:use", STAFF, "/finance"),
            ("regional", "customers:read", {}, ""),
        ],
    )
    async def test_what_is_denied_answers_as_what_is_not_there(
        self, world: World, name: str, scopes: str, claims: Mapping[str, Any], door: str
    ) -> None:
        absent = "nothere"
        for arguments in ({}, {"country": "DE"}, {"payroll": 1}):
            denied = await call(world, name, arguments, scopes=scopes, claims=claims, door=door)
            unknown = await call(world, absent, arguments, scopes=scopes, claims=claims, door=door)
            assert denied.status == 400
            assert denied.error["code"] == -32602
            assert alike(denied, name) == alike(unknown, absent)
        assert name not in await listed(world, scopes=scopes, claims=claims, door=door)

    async def test_clients_of_older_revisions_cannot_tell_either(self, world: World) -> None:
        headers = {"MCP-Protocol-Version": "2025-11-25", "X-Request-ID": "same"}
        for door in ("", "/sales", "/finance"):
            token = world.provider.issue("reader", scopes=["payroll:read"], claims=STAFF | {"groups": []})
            sent = {**headers, "Authorization": f"Bearer {token}"}
            replies = {}
            for name in ("payroll", "hidden", "nothere"):
                body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}}
                replies[name] = await world.send(body, client=None, headers=sent, url=world.gateway.url + door)
            assert replies["payroll"].error["code"] == -32602
            assert alike(replies["payroll"], "payroll") == alike(replies["nothere"], "nothere")
            assert alike(replies["hidden"], "hidden") == alike(replies["nothere"], "nothere")

    async def test_malformed_calls_do_not_tell_either(self, world: World) -> None:
        """What is wrong with a call is told before the tool is looked for, or not at all."""
        wrong: list[Any] = [[], "x", 7, {"a": "\ud800"}, {"n": "x" * 20_000}, {f"k{i}": i for i in range(11_000)}]
        for arguments in wrong:
            params = [{"name": name, "arguments": arguments} for name in ("payroll", "nothere")]
            denied, unknown = [await ask(world, "tools/call", each, claims={}) for each in params]
            assert denied.status >= 400
            assert alike(denied, "payroll") == alike(unknown, "nothere")

    async def test_a_hint_names_only_what_the_caller_may_call_here(self, world: World) -> None:
        hint = (await call(world, "payrol", scopes="payroll:read", claims=STAFF)).error["message"]
        assert hint == 'There is no tool "payrol" for this call; did you mean "payroll"?'
        for caller in ({"scopes": "payroll:read"}, {"claims": STAFF}, {"claims": STAFF, "door": "/sales"}):
            assert '"payroll"' not in (await call(world, "payrol", **caller)).error["message"]

    async def test_a_claim_beside_an_argument(self, world: World) -> None:
        caller: dict[str, Any] = {"scopes": "customers:read", "claims": STAFF}
        assert "regional" in await listed(world, **caller)
        fits = {"Mcp-Param-Country": "DE"}
        assert (await call(world, "regional", {"country": "DE"}, headers=fits, **caller)).status == 200
        other = await call(world, "regional", {"country": "FR"}, headers={"Mcp-Param-Country": "FR"}, **caller)
        absent = await call(world, "nothere1", {"country": "FR"}, headers={"Mcp-Param-Country": "FR"}, **caller)
        assert alike(other, "regional") == alike(absent, "nothere1")
        for arguments in ({}, {"country": None}, {"country": ["DE"]}, {"country": {"$eq": "DE"}}):
            assert (await call(world, "regional", arguments, **caller)).error["code"] == -32602


class TestParametersOfTheToken:
    async def test_they_are_not_published_and_cannot_be_given(self, world: World) -> None:
        caller: dict[str, Any] = {"scopes": "own:read", "claims": {"app": {"tenant": "acme"}}}
        tools = (await ask(world, "tools/list", **caller)).result["tools"]
        (own,) = [tool for tool in tools if tool["name"] == "own"]
        assert list(own["inputSchema"]["properties"]) == ["limit"]
        given = await call(world, "own", {"tenant": "globex"}, **caller)
        stranger = await call(world, "own", {"zzzzzz": "globex"}, **caller)
        assert given.result["isError"]
        assert _text(given).replace("tenant", "zzzzzz") == _text(stranger)
        assert "tenant" not in _text(await call(world, "own", {"tenent": 1}, **caller)).replace("tenent", "")

    @pytest.mark.parametrize("claims", [{}, {"app": {}}, {"app": {"tenant": None}}, {"app": ["tenant"]}])
    async def test_without_the_claim_nothing_runs(self, world: World, claims: Mapping[str, Any]) -> None:
        reply = await call(world, "own", scopes="own:read", claims=claims)
        assert _error(reply) == "access_denied"
        assert "app.tenant" in _text(reply)

    @pytest.mark.parametrize("value", ["SECRET", "", 7, True, ["acme"], {"a": "acme"}, "x" * 5000])
    async def test_a_claim_that_does_not_fit_is_not_repeated(self, world: World, value: Any) -> None:
        reply = await call(world, "own", scopes="own:read", claims={"app": {"tenant": value}})
        assert _error(reply) == "access_denied"
        assert "SECRET" not in reply.body.decode()
        assert "xxx" not in reply.body.decode()


class TestToolsets:
    async def test_only_its_tools_under_its_scopes_too(self, world: World) -> None:
        everything = "payroll:read orders:read customers:read finance:use"
        assert await listed(world, door="/finance", scopes=everything, claims=STAFF) == ["orders_total", "payroll"]
        assert await listed(world, door="/sales", scopes=everything, claims=STAFF) == ["customers_in", "regional"]
        assert await listed(world, door="/finance", scopes="orders:read", claims=STAFF) == []
        reply = await call(world, "orders_total", door="/finance", scopes="orders:read")
        assert reply.error["data"] == {"required_scopes": ["finance:use", "orders:read"]}
        assert (await call(world, "orders_total", scopes="orders:read")).status == 200
        assert (await call(world, "orders_total", door="/finance", scopes="orders:read finance:use")).status == 200

    async def test_its_metadata_and_its_challenge(self, world: World) -> None:
        where = "/.well-known/oauth-protected-resource/mcp/finance"
        reply = await world.send(None, raw=b"", client=None, method="GET", url=world.base + where)
        assert reply.message["resource"] == FINANCE
        assert reply.message["resource_name"] == "Finance"
        assert reply.message["scopes_supported"] == ["finance:use", "orders:read", "payroll:read"]
        stranger = await world.send({}, client=None, url=f"{world.gateway.url}/finance")
        assert stranger.status == 401
        assert f'resource_metadata="{BASE}{where}"' in stranger.headers["WWW-Authenticate"]
        assert re.search('scope="finance:use orders:read payroll:read"', stranger.headers["WWW-Authenticate"])

    async def test_it_says_what_it_is_for(self, world: World) -> None:
        found = (await ask(world, "server/discover", door="/finance")).result
        assert found["instructions"].startswith("Finance: Figures for the finance department. ")
        whole = (await ask(world, "server/discover")).result
        assert "Figures" not in whole["instructions"]

    @pytest.mark.parametrize(
        ("audience", "doors"),
        [
            (AUDIENCE, ["", "/finance", "/sales"]),
            (FINANCE, ["/finance"]),
            ([SALES], ["/sales"]),
            ([FINANCE, SALES], ["/finance", "/sales"]),
            ([FINANCE, AUDIENCE], ["", "/finance", "/sales"]),
            ([FINANCE, "https://elsewhere.example"], ["/finance"]),
            (f"{FINANCE}/", []),
            (f"{BASE}/mcp/nothere", []),
        ],
    )
    async def test_a_token_is_good_where_it_was_issued_for(self, world: World, audience: Any, doors: list[str]) -> None:
        # Twice, since the second time the verdict is remembered.
        for door in ("", "/finance", "/sales") * 2:
            reply = await ask(world, "tools/list", door=door, claims={"aud": audience})
            assert reply.status == (200 if door in doors else 401), door
            if reply.status == 401:
                assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]
                assert f'/mcp{door}"' in reply.headers["WWW-Authenticate"]

    @pytest.mark.parametrize("path", ["/mcp/nothere", "/mcp/", "/mcp/finance/", "/mcp/Finance", "/mcp/finance/payroll"])
    async def test_an_unknown_toolset_is_any_unknown_path(self, world: World, path: str) -> None:
        for client in ("reader", None):
            reply = await world.send(envelope("tools/list"), client=client, url=world.base + path)
            other = await world.send(envelope("tools/list"), client=client, url=world.base + "/nothing")
            assert reply.status == 404
            assert alike(reply, path) == alike(other, "/nothing")


async def test_wildcards_of_tokens_mean_nothing_unless_the_operator_says_so(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert (await call(world, "orders_total", scopes="orders:*")).status == 403
        assert (await call(world, "orders_total", scopes="orders:read")).status == 200


def _text(reply: Reply) -> str:
    return "".join(part["text"] for part in reply.result["content"])


def _error(reply: Reply) -> Any:
    assert reply.result["isError"]
    return reply.result["_meta"]["mcp-database-gateway/error"]["code"]
