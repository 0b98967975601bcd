"""The command line as a person or a script meets it: real processes, exit codes, streams."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.cli.call import ArgumentError, parse_arguments
from gateway.demo.sample import make_shop
from tests.servers.programs import programs
from tests.world import AUDIENCE, World, open_world

_GATEWAY = [sys.executable, "-m", "gateway.cli.main"]


async def _run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *_GATEWAY, *arguments, stdout=PIPE, stderr=PIPE, env=os.environ | environment
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def _serving(path: Path) -> AsyncIterator[tuple[Process, str]]:
    process = await asyncio.create_subprocess_exec(*_GATEWAY, "serve", "--config", str(path), stderr=PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while "url" not in (line := json.loads(await process.stderr.readline())):
                pass
        yield process, line["url"]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _configuration(folder: Path) -> Path:
    make_shop(folder / "shop.sqlite")
    path = folder / "gateway.yaml"
    path.write_text(
        """
server: {port: 0}
admin: {port: 0}
auth: {mode: none}
sources:
  shop: {engine: sqlite, path: shop.sqlite}
tools:
  customer_by_id:
    description: One customer.
    source: shop
    parameters: {id: {type: integer, minimum: 1}}
    statement: select id, name from customers where id = :id
  count_slowly:
    description: Counts.
    source: shop
    parameters: {n: {type: integer}}
    statement: |
      with recursive t(i) as (select 1 union all select i + 1 from t where i < :n) select count(*) as counted from t
"""
    )
    return path


async def test_the_demo_goes_round_once() -> None:
    code, out, err = await _run("demo", "--once", "--port", "0")
    assert (code, err) == (0, "")
    for step in range(1, 8):
        assert f"\n{step}. " in out
    assert "HTTP 403" in out
    assert 'Argument "id"' in out


async def test_the_demo_invites_with_commands_that_work() -> None:
    programs("curl")
    # Unbuffered by being read line by line: the process flushes at the end of its tour.
    process = await asyncio.create_subprocess_exec(
        *_GATEWAY, "demo", "--port", "0", stdout=PIPE, stderr=PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(30):
            while "Serving until Ctrl-C." not in (lines or [""])[-1]:
                lines.append((await process.stdout.readline()).decode())
        invitation = "".join(lines).split("Now you.")[1]
        curl = invitation[invitation.index("  TOKEN=") : invitation.index("The same by")]
        shell = await asyncio.create_subprocess_exec("bash", "-ec", curl, stdout=PIPE)
        answer, _ = await asyncio.wait_for(shell.communicate(), 30)
        assert json.loads(answer)["result"]["structuredContent"]["rows"][0]["id"] == 42
        call = invitation[invitation.index(" call customer") : invitation.index("For an MCP client")]
        code, out, _ = await _run(*call.replace("\\\n", " ").split())
        assert code == 0
        assert "42" in out
        client = json.loads(invitation[invitation.index("{\n") : invitation.rindex("}") + 1])
        assert client["mcpServers"]["shop"]["url"].startswith("http://127.0.0.1:")
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_serve_finishes_what_runs_and_exits_0_on_sigterm(tmp_path: Path) -> None:
    async with _serving(_configuration(tmp_path)) as (process, url), aiohttp.ClientSession() as http:
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "count_slowly", "arguments": {"n": 6_000_000}, "_meta": {"progressToken": 1}},
        }
        async with http.post(url, json=body, headers={"Accept": "text/event-stream"}) as response:
            async for line in response.content:
                if b"running" in line:
                    process.send_signal(signal.SIGTERM)
                    break
            rest = await response.read()
        assert b'"counted":6000000' in rest
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_serve_refuses_a_broken_configuration_with_every_problem(tmp_path: Path) -> None:
    path = _configuration(tmp_path)
    path.write_text(path.read_text().replace("source: shop\n", "source: shpo\n").replace("port: 0", "port: many"))
    code, _, err = await _run("serve", "--config", str(path))
    assert code == 1
    assert re.search(r"gateway\.yaml:\d+: tools\.customer_by_id\.source: ", err)
    assert re.search(r"gateway\.yaml:\d+: server\.port: ", err)
    assert "problems in the configuration" in err


async def test_check_prepares_every_statement(tmp_path: Path) -> None:
    path = _configuration(tmp_path)
    assert await _run("check", "--config", str(path)) == (
        0,
        "OK: 2 tools, 1 source, every statement prepared.\n",
        "",
    )
    path.write_text(path.read_text().replace("select id, name from", "select id, nmae from"))
    code, _, err = await _run("check", "--config", str(path))
    assert code == 1
    line = path.read_text().splitlines().index("    statement: select id, nmae from customers where id = :id") + 1
    assert f"gateway.yaml:{line}: tools.customer_by_id.statement: " in err
    assert "nmae" in err
    assert (await _run("check", "--offline", "--config", str(path)))[0] == 0
    code, out, _ = await _run("check", "--json", "--config", str(path))
    assert code == 1
    assert json.loads(out)["problems"][0]["line"] == line


async def test_check_says_what_cannot_be_reached(tmp_path: Path) -> None:
    path = _configuration(tmp_path)
    (tmp_path / "shop.sqlite").unlink()
    code, _, err = await _run("check", "--config", str(path))
    assert code == 1
    assert "sources.shop: cannot connect" in err


async def test_check_does_not_connect_to_a_source_that_is_not_enabled(tmp_path: Path) -> None:
    path = _configuration(tmp_path)
    (tmp_path / "shop.sqlite").unlink()
    path.write_text(path.read_text().replace("engine: sqlite", "engine: sqlite, enabled: false", 1))
    code, out, _ = await _run("check", "--config", str(path))
    assert (code, out) == (0, "OK: 0 tools, 1 source, every statement prepared.\n")
    path.write_text(path.read_text().replace(":id", ":ident"))
    assert (await _run("check", "--config", str(path)))[0] == 1


async def test_wrong_usage_is_2_and_goes_to_stderr() -> None:
    for arguments in (["serve"], ["no-such"], ["call"], []):
        code, out, err = await _run(*arguments)
        assert (code, out) == (2, "")
        assert "usage:" in err


async def test_schema_is_json() -> None:
    code, out, _ = await _run("schema")
    assert code == 0
    assert json.loads(out)["properties"]["tools"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def test_call_and_tools_with_client_credentials(world: World) -> None:
    flags = ["--url", world.gateway.url, "--token-url", world.provider.token_url]
    flags += ["--client-id", "reader", "--client-secret", "reader-secret", "--resource", AUDIENCE]
    code, out, err = await _run("call", "customer_by_id", "id=42", *flags)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["id", "name", "email"]
    assert out.splitlines()[2].startswith("42 ")
    code, out, _ = await _run("call", "customer_by_id", "id:=42", "--json", *flags)
    assert json.loads(out)["rows"][0]["id"] == 42
    code, out, _ = await _run("tools", *flags)
    assert code == 0
    assert "customer_by_id(id: integer)" in out
    code, out, err = await _run("call", "customer_by_id", "id=-1", *flags)
    assert (code, out) == (1, "")
    assert 'Argument "id"' in err
    code, _, err = await _run("call", "rename_slowly", "id=1", "name=x", "n=1", *flags)
    assert code == 1
    assert "403" in err
    assert "orders:write" in err


async def test_call_with_a_token_from_the_environment(world: World) -> None:
    token = await world.credentials().token()
    code, out, _ = await _run("call", "orders_total", "--url", world.gateway.url, "--json", GATEWAY_TOKEN=token)
    assert code == 0
    assert json.loads(out)["rows"] == [{"total": 5000}]
    code, _, err = await _run("tools", "--url", world.gateway.url)
    assert code == 1
    assert "401" in err
    code, _, err = await _run("tools", "--url", "http://127.0.0.1:9/mcp")
    assert code == 1
    assert "cannot be reached" in err


def test_arguments_are_read_by_their_declared_type() -> None:
    schema = {
        "properties": {"n": {"type": "integer"}, "s": {"type": "string"}, "o": {"type": ["integer", "null"]}, "any": {}}
    }
    pairs = ["n=5", "s=5", "o=null", "any=7", "x:=[1,2]", "e=a=b", "n2=text"]
    assert parse_arguments(pairs, schema) == {
        "n": 5,
        "s": "5",
        "o": None,
        "any": "7",
        "x": [1, 2],
        "e": "a=b",
        "n2": "text",
    }
    for bad in ("novalue", "=x", "j:={"):
        with pytest.raises(ArgumentError):
            parse_arguments([bad], schema)
