"""`gateway stdio` as clients start it: a process, two pipes, newline-delimited JSON."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from gateway.context import Principal
from gateway.demo.sample import make_shop
from gateway.server.local import ISSUER
from gateway.tools.comments import user_hash
from tests.servers.otlp import running_http_collector
from tests.world import CONFIGURATION, MODERN, envelope, open_world

USER: Final = pwd.getpwuid(os.geteuid()).pw_name
POLICY: Final = "stdio: {users: [USER], scopes: ['customers:read', 'orders:write'], claims: {team: sales}}\n"
SOURCES: Final = CONFIGURATION[CONFIGURATION.index("sources:") :]
LOCAL: Final = POLICY.replace("USER", USER) + SOURCES
LONG: Final = 10**9


@dataclass
class Child:
    """A running `gateway stdio`."""

    process: asyncio.subprocess.Process
    database: Path

    async def send(self, *messages: Mapping[str, Any] | bytes) -> None:
        assert self.process.stdin
        for message in messages:
            self.process.stdin.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")
        await self.process.stdin.drain()

    async def read(self) -> dict[str, Any]:
        assert self.process.stdout
        async with asyncio.timeout(60):
            line = await self.process.stdout.readline()
        assert line, await self.errors()
        found: dict[str, Any] = json.loads(line)
        return found

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        await self.send(message)
        while (answer := await self.read()).get("id") != message["id"]:
            pass
        return answer

    async def errors(self) -> str:
        assert self.process.stderr
        return (await self.process.stderr.read()).decode()

    async def close(self) -> tuple[list[dict[str, Any]], str]:
        """Close standard input; what still came, and what was logged."""
        async with asyncio.timeout(60):
            out, err = await self.process.communicate(b"")
        return [json.loads(line) for line in out.splitlines()], err.decode()


@asynccontextmanager
async def child(
    folder: Path, text: str = LOCAL, *flags: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    database, path = folder / "shop.sqlite", folder / "stdio.yaml"
    if not database.exists():
        make_shop(database)
    path.write_text(text)
    command = [sys.executable, "-m", "gateway.cli.main", "stdio", "--config", str(path), *flags]
    variables = {key: value for key, value in os.environ.items() if key != "GATEWAY_TOKEN"}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=variables | {"DATABASE": str(database), **(environment or {})},
    )
    try:
        yield Child(process, database)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def call(identifier: Any, tool: str, arguments: Mapping[str, Any], **meta: Any) -> dict[str, Any]:
    return envelope("tools/call", {"name": tool, "arguments": dict(arguments)}, meta=meta, identifier=identifier)


def legacy(identifier: Any, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": dict(params or {})}


HELLO: Final = legacy(
    0, "initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
)
INITIALIZED: Final = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def cancel(identifier: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": identifier}}


async def test_both_eras_on_one_pipe(tmp_path: Path) -> None:
    async with child(tmp_path, LOCAL, "--log-level", "info") as gateway:
        modern = await gateway.ask(call("a", "customer_by_id", {"id": 7}))
        assert modern["result"]["structuredContent"]["row_count"] == 1
        assert modern["result"]["resultType"] == "complete"
        hello = await gateway.ask(HELLO)
        assert hello["result"]["protocolVersion"] == "2025-06-18"
        assert hello["result"]["capabilities"]["tools"]["listChanged"] is True
        await gateway.send(INITIALIZED)
        old = await gateway.ask(legacy(1, "tools/call", {"name": "customer_by_id", "arguments": {"id": 7}}))
        assert "resultType" not in old["result"]
        assert old["result"]["structuredContent"] == modern["result"]["structuredContent"]
        listed = await gateway.ask(legacy(2, "tools/list"))
        assert "orders_total" not in [tool["name"] for tool in listed["result"]["tools"]]
        assert all("outputSchema" in tool for tool in listed["result"]["tools"])
        refused = await gateway.ask(call(3, "orders_total", {}))
        assert refused["error"]["code"] == -32004
        late, errors = await gateway.close()
        assert late == []
        assert gateway.process.returncode == 0
        lines = [json.loads(line) for line in errors.splitlines()]
        requests = [line for line in lines if line["event"] == "request"]
        assert [line["outcome"] for line in requests] == ["ok"] * 4 + ["-32004"]
        assert {line["client"] for line in requests} == {user_hash(Principal(ISSUER, USER, "", frozenset()))}


async def test_a_trace_begins_with_the_method_where_there_is_no_http(tmp_path: Path) -> None:
    caller = f"00-{7:032x}-{8:016x}-01"
    async with running_http_collector() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_SAMPLER": "always_on",
        }
        async with child(tmp_path, LOCAL, "--log-level", "info", environment=environment) as gateway:
            await gateway.ask(call(1, "customer_by_id", {"id": 7}))
            await gateway.ask(call(2, "customer_by_id", {"id": 7}, traceparent=caller))
            await gateway.ask(call(3, "customer_by_id", {"id": "seven"}))
            _, errors = await gateway.close()
    lines = [json.loads(line) for line in errors.splitlines()]
    ids = [line["correlation_id"] for line in lines if line["event"] == "request"]
    assert not any({"http_method", "status"} & line.keys() for line in lines)
    plain, called, failed = (
        {span.name: span for span in collector.spans if span.attributes["correlation.id"] == each} for each in ids
    )
    names = {"tools/call customer_by_id", "customer_by_id"}
    assert plain.keys() == called.keys() == names
    assert plain["tools/call customer_by_id"].parent_id == ""
    assert plain["tools/call customer_by_id"].attributes["network.transport"] == "pipe"
    assert not any(span.is_error or span.links for span in (*plain.values(), *called.values()))
    tool = called["tools/call customer_by_id"]
    assert (tool.trace_id, tool.parent_id) == (f"{7:032x}", f"{8:016x}")
    assert called["customer_by_id"].parent_id == tool.span_id
    assert failed["tools/call customer_by_id"].attributes["error.type"] == "tool_error"


async def test_what_is_malformed_is_answered_and_harms_nobody(tmp_path: Path) -> None:
    async with child(tmp_path, LOCAL.replace("tools:\n", "server: {max_request_bytes: 2KiB}\ntools:\n")) as gateway:
        await gateway.send(b"{", b"[]", b'{"jsonrpc":"2.0","id":1,"result":{}}', b"", b"x" * 5000)
        assert [(await gateway.read())["error"]["code"] for _ in range(4)] == [-32700, -32600, -32600, -32600]
        unknown = envelope("tools/list", meta={"io.modelcontextprotocol/protocolVersion": "2031-01-01"})
        assert (await gateway.ask(unknown))["error"]["code"] == -32022
        assert (await gateway.ask(legacy(5, "no/such")))["error"]["code"] == -32601
        assert (await gateway.ask(call(6, "customer_by_id", {"id": 1})))["result"]["isError"] is False


async def test_cancelling_reaches_the_database_and_gets_no_answer(tmp_path: Path) -> None:
    async with child(tmp_path, LOCAL, "--log-level", "info") as gateway:
        await gateway.send(call(1, "count_slowly", {"n": LONG}, progressToken="p"))
        while "running" not in (await gateway.read())["params"]["message"]:
            pass
        await gateway.send(call(1, "customer_by_id", {"id": 1}))
        assert "still running" in (await gateway.read())["error"]["message"]
        await gateway.send(cancel(True), cancel("1"), cancel(None), cancel(1))
        # The id is free again at once, and the one connection soon: the statement was stopped.
        assert (await gateway.ask(call(2, "customer_by_id", {"id": 1})))["result"]["isError"] is False
        assert (await gateway.ask(call(1, "customer_by_id", {"id": 1})))["result"]["isError"] is False
        late, errors = await gateway.close()
        assert late == []
        (line,) = [line for line in map(json.loads, errors.splitlines()) if line.get("outcome") == "cancelled"]
        assert line["mcp_method"] == "tools/call"


def _name_of(database: Path, customer: int) -> str:
    connection = sqlite3.connect(database)
    row = connection.execute("select name from customers where id = ?", (customer,)).fetchone()
    connection.close()
    return str(row[0])


async def test_a_cancelled_write_of_a_handshake_client_is_seen_through(tmp_path: Path) -> None:
    async with child(tmp_path) as gateway:
        await gateway.ask(HELLO)
        await gateway.send(INITIALIZED)
        arguments = {"id": 1, "name": "Finished", "n": 1_000_000}
        params = {"name": "rename_slowly", "arguments": arguments, "_meta": {"progressToken": 1}}
        await gateway.send(legacy(1, "tools/call", params))
        while "running" not in (await gateway.read())["params"]["message"]:
            pass
        await gateway.send(cancel(1))
        late, _ = await gateway.close()
        assert not [message for message in late if "id" in message]
        assert _name_of(gateway.database, 1) == "Finished"


async def test_the_end_of_input_waits_for_answers(tmp_path: Path) -> None:
    async with child(tmp_path) as gateway:
        await gateway.send(call(1, "count_slowly", {"n": 2_000_000}))
        late, _ = await gateway.close()
        assert [message["id"] for message in late] == [1]
        assert late[0]["result"]["structuredContent"]["rows"] == [{"counted": 2_000_000}]
        assert gateway.process.returncode == 0


async def test_a_client_that_is_gone_ends_what_runs(tmp_path: Path) -> None:
    """Both pipes closed, as when the client is killed: nobody waits for the answer any more."""
    source, sink = os.pipe()
    database, path = tmp_path / "shop.sqlite", tmp_path / "stdio.yaml"
    make_shop(database)
    path.write_text(LOCAL)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli.main", "stdio", "--config", str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=sink,
        env=os.environ | {"DATABASE": str(database)},
    )
    os.close(sink)
    assert process.stdin
    process.stdin.write(json.dumps(call(1, "count_slowly", {"n": LONG}, progressToken=1)).encode() + b"\n")
    await process.stdin.drain()
    assert b"running" in await asyncio.to_thread(_until_running, source)
    os.close(source)
    process.stdin.close()
    async with asyncio.timeout(30):
        assert await process.wait() == 0


def _until_running(source: int) -> bytes:
    seen = b""
    while b"running" not in seen:
        seen += os.read(source, 4096)
    return seen


async def test_sigterm_ends_it_although_a_call_runs(tmp_path: Path) -> None:
    async with child(tmp_path) as gateway:
        await gateway.send(call(1, "count_slowly", {"n": LONG}, progressToken=1))
        while "running" not in (await gateway.read())["params"]["message"]:
            pass
        gateway.process.send_signal(signal.SIGTERM)
        assert (await gateway.read())["error"]["code"] == -32008
        async with asyncio.timeout(30):
            assert await gateway.process.wait() == 0


async def test_what_outlasts_the_grace_is_answered(tmp_path: Path) -> None:
    text = LOCAL + "server: {shutdown_grace: 100ms}\n"
    async with child(tmp_path, text) as gateway:
        await gateway.send(
            call(1, "count_slowly", {"n": LONG}),
            call(2, "rename_slowly", {"id": 1, "name": "Lost", "n": LONG}, progressToken="w"),
        )
        while "running" not in (await gateway.read())["params"]["message"]:
            pass
        late, _ = await gateway.close()
        errors = {message["id"]: message["error"] for message in late if "id" in message}
        assert {error["code"] for error in errors.values()} == {-32008}
        assert "repeat it" in errors[1]["message"]
        assert "may or may not" in errors[2]["message"]
        assert gateway.process.returncode == 0


async def test_listening_and_its_end(tmp_path: Path) -> None:
    """A table that comes late changes what `tools/list` says: told to who listens, and to who shook hands."""
    text = LOCAL.replace("tools:\n", '  late: {engine: sqlite, path: "${env:LATE}"}\ntools:\n', 1)
    text += "  late: {description: Late., source: late, any_scopes: ['customers:read'], "
    text += "statement: select name from things}\n"
    late = tmp_path / "late.sqlite"
    async with child(tmp_path, text, environment={"LATE": str(late)}) as gateway:
        await gateway.ask(HELLO)
        await gateway.send(
            INITIALIZED, envelope("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, identifier="s")
        )
        first = await gateway.read()
        assert first["method"] == "notifications/subscriptions/acknowledged"
        connection = sqlite3.connect(late)
        connection.execute("create table things (name text)")
        connection.close()
        told = [await gateway.read(), await gateway.read()]
        assert {message["method"] for message in told} == {"notifications/tools/list_changed"}
        tags = [message["params"].get("_meta", {}).get(SUBSCRIPTION_ID_META_KEY) for message in told]
        assert sorted(tags, key=str) == [None, "s"]
        (last,), _ = await gateway.close()
        assert (last["id"], last["result"]["resultType"]) == ("s", "complete")


async def test_changed_files_are_read_and_told_of_once(tmp_path: Path) -> None:
    more = "  more: {description: More., source: shop, any_scopes: ['customers:read'], statement: select 1 as one}\n"
    async with child(tmp_path, LOCAL, "--log-level", "info") as gateway:
        await gateway.ask(HELLO)
        wanted = {"notifications": {"toolsListChanged": True}}
        await gateway.send(INITIALIZED, envelope("subscriptions/listen", wanted, identifier="s"))
        assert (await gateway.read())["method"] == "notifications/subscriptions/acknowledged"
        await gateway.send(call(1, "count_slowly", {"n": 3_000_000}))
        (tmp_path / "stdio.yaml").write_text(LOCAL + more)
        told: list[dict[str, Any]] = []
        answers: list[dict[str, Any]] = []
        while len(told) < 2 or not answers:
            message = await gateway.read()
            (answers if "id" in message else told).append(message)
        assert {message["method"] for message in told} == {"notifications/tools/list_changed"}
        assert sorted(SUBSCRIPTION_ID_META_KEY in message["params"].get("_meta", {}) for message in told) == [
            False,
            True,
        ]
        assert answers[0]["result"]["structuredContent"]["rows"] == [{"counted": 3_000_000}]
        assert (await gateway.ask(call(2, "more", {})))["result"]["structuredContent"]["rows"] == [{"one": 1}]
        (tmp_path / "stdio.yaml").write_text(LOCAL.replace("tools:", "tolls:"))
        late, errors = await gateway.close()
        assert [message["id"] for message in late] == ["s"]
        assert errors.count("configuration reloaded") == 1


async def test_a_toolset_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    named = LOCAL + "toolsets: {one: {tools: [customer_by_id]}}\n"
    async with child(tmp_path, named, "--toolset", "one") as gateway:
        listed = await gateway.ask(legacy(1, "tools/list"))
        assert [tool["name"] for tool in listed["result"]["tools"]] == ["customer_by_id"]
        await gateway.ask(HELLO)
        await gateway.send(INITIALIZED)
        (tmp_path / "stdio.yaml").write_text(LOCAL)
        assert (await gateway.read())["method"] == "notifications/tools/list_changed"
        answer = await gateway.ask(legacy(2, "tools/list"))
        assert answer["error"]["code"] == -32006
        assert "toolset" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (POLICY.replace("USER", "somebody_else") + SOURCES, "stdio.users"),
        (CONFIGURATION.replace("${env:ISSUER}", "https://issuer.example"), "GATEWAY_TOKEN"),
        (LOCAL.replace("scopes:", "scope:", 1), "stdio"),
    ],
)
async def test_who_may_not_come_in_is_told_why(tmp_path: Path, text: str, words: str) -> None:
    async with child(tmp_path, text) as gateway:
        late, errors = await gateway.close()
        assert late == []
        assert gateway.process.returncode == 1
        assert words in errors


async def test_a_token_is_verified_as_over_http(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        variables = {"ISSUER": world.provider.issuer, "GATEWAY_TOKEN": await world.credentials().token()}
        async with child(tmp_path, CONFIGURATION, environment=variables) as gateway:
            answer = await gateway.ask(call(1, "customer_by_id", {"id": 1}))
            assert answer["result"]["isError"] is False
            assert (await gateway.ask(call(2, "rename_slowly", {"id": 1, "name": "x", "n": 1})))["error"][
                "code"
            ] == -32004
            await gateway.close()
        bad = {**variables, "GATEWAY_TOKEN": variables["GATEWAY_TOKEN"][:-4] + "AAAA"}
        async with child(tmp_path, CONFIGURATION, environment=bad) as gateway:
            _, errors = await gateway.close()
            assert gateway.process.returncode == 1
            assert "token" in errors


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", MODERN), (MODERN, MODERN)])
async def test_the_sdk_s_client_over_stdio(tmp_path: Path, mode: str, version: str) -> None:
    path, database = tmp_path / "stdio.yaml", tmp_path / "shop.sqlite"
    path.write_text(LOCAL)
    make_shop(database)
    command = ["-m", "gateway.cli.main", "stdio", "--config", str(path)]
    server = StdioServerParameters(
        command=sys.executable, args=command, env={"DATABASE": str(database)}, cwd=Path(__file__).parents[2]
    )
    async with Client(stdio_client(server), mode=mode) as client:
        assert client.protocol_version == version
        assert "customer_by_id" in [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("customer_by_id", {"id": 3})
        assert result.structured_content["row_count"] == 1
