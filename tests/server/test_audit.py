"""The audit of a real gateway: what is recorded of whom, and that nothing is answered that is not recorded."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.audit import events
from gateway.telemetry.audit.file_sink import FileRefused
from gateway.telemetry.audit.verify import Verifier
from gateway.tools.results import ERROR_KEY
from tests.telemetry.audit.support import SECRET, records
from tests.world import CONFIGURATION, Reply, World, envelope, open_world, routing

TOOLS: Final = """
  find:
    description: Finds customers.
    source: shop
    scopes: ["customers:read"]
    parameters:
      text: {type: string, optional: true}
      pin: {type: string, optional: true, sensitive: true}
      city: {type: string, optional: true, audit: clear}
      kind: {type: string, optional: true, enum: [gold, silver, jane@example.com]}
      active: {type: boolean, optional: true}
    statement: select :text as a, :pin as b, :city as c, :kind as d, :active as e
  rename:
    description: Renames a customer.
    source: shop_rw
    scopes: ["orders:write"]
    writes: true
    parameters: {id: {type: integer}, name: {type: string}}
    statement: update customers set name = :name where id = :id
  for_nobody:
    description: Denied by a rule.
    source: shop
    scopes: ["customers:read"]
    allow: [{claim: department, equals: finance}]
    statement: select 1 as one
"""
AUDIT: Final = """
audit:
  chain_key: ${env:CHAIN_KEY}
  on_failure: POLICY
  write_timeout: 500ms
  sinks: [{file: {path: "${env:AUDIT_FILE}"}}]
"""


@asynccontextmanager
async def audited_world(folder: Path, file: Path, policy: str = "refuse") -> AsyncIterator[World]:
    """A gateway that records into this file."""
    text = CONFIGURATION + TOOLS + AUDIT.replace("POLICY", policy)
    async with open_world(folder, text, {"CHAIN_KEY": SECRET, "AUDIT_FILE": str(file)}) as world:
        yield world


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, half of which is taken by `ballast`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    (folder / "ballast").write_bytes(bytes(32 << 10))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def code_of(reply: Reply) -> str:
    """The error's code; "" for a success."""
    return str(reply.result.get("_meta", {}).get(ERROR_KEY, {}).get("code", ""))


def of(told: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [each for each in told if each["event"] == event]


async def test_every_event_has_the_fields_that_it_is_said_to_have(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with audited_world(tmp_path, file) as world:
        ok = await world.call("find", {"text": "a", "kind": "gold", "active": True})
        await world.call("find", {"stranger": 1})
        await world.call("rename", {"id": 1, "name": "Bob"}, client="clerk")
        assert (await world.call("rename", {"id": 1, "name": "Eve"})).status == 403
        assert (await world.call("for_nobody")).error["code"] == -32602
        assert (await world.send({}, client=None)).status == 401
        await world.send({}, client=None, headers={"Authorization": "Bearer garbage"})
    told = records(file)
    for each in told:
        known = events.COMMON.keys() | events.EVENTS[each["event"]].fields.keys()
        assert each.keys() <= known, each["event"]
    kinds = {each["event"] for each in told}
    rare = {events.SINK_FAILED, events.SINK_RECOVERED, events.TOOL_WITHHELD}
    assert kinds == events.EVENTS.keys() - rare - {events.CONFIGURATION_CHANGED, events.OPERATOR_COMMAND}
    call = of(told, events.TOOL_CALL)[0]
    assert call["correlation_id"] == ok.headers["X-Request-ID"]
    assert (call["issuer"], call["subject"], call["client"]) == (world.provider.issuer, "reader", "reader")
    assert (call["outcome"], call["rows"], call["address"]) == ("ok", 1, "127.0.0.1")
    assert call["arguments"]["kind"] == "gold"
    assert call["arguments"]["active"] is True
    assert of(told, events.TOOL_CALL)[1]["unknown_arguments"] == 1
    scope, rule = of(told, events.AUTHORIZATION_DENIED)
    assert (scope["tool"], scope["scopes"]) == ("rename", ["orders:write"])
    assert (rule["tool"], rule["rules"]) == ("for_nobody", 'tool for_nobody denied by department is "finance"')
    assert of(told, events.AUTHENTICATION_FAILURE)[0]["reasons"] == {"no_token": 1, "malformed": 1}
    assert Verifier([SECRET]).verify([file]).is_whole


async def test_a_verdict_is_recorded_once_and_a_write_twice(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with audited_world(tmp_path, file) as world:
        for _ in range(5):
            await world.call("find", {"text": "a"})
        await world.call("rename", {"id": 1, "name": "Bob"}, client="clerk")
    told = records(file)
    assert [each["subject"] for each in of(told, events.AUTHENTICATION_SUCCESS)] == ["reader", "clerk"]
    intent, outcome = of(told, events.TOOL_INTENT)[0], of(told, events.TOOL_CALL)[-1]
    assert intent["seq"] < outcome["seq"]
    assert intent["arguments"] == outcome["arguments"]
    assert outcome["affected"] == 1
    assert of(told, events.TOOL_CALL)[0]["arguments"] == of(told, events.TOOL_CALL)[4]["arguments"]


IDENTIFIERS: Final = (
    "jane.doe@example.com",
    "4111 1111 1111 1111",
    "4111111111111111",
    "+49 30 901820",
    "(212) 555-0123",
    "078-05-1120",
    "DE89 3704 0044 0532 0130 00",
    "GB82WEST12345698765432",
    "QQ 12 34 56 C".replace("QQ", "AB"),
    "12345678Z",
)


async def test_no_planted_secret_or_identifier_is_in_any_record(tmp_path: Path) -> None:
    """Whatever is put where, by a caller who tries: in values, in names, in what should be an enumeration."""
    file = tmp_path / "audit.jsonl"
    text = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=20)
    plan: list[tuple[dict[str, Any], str]] = []

    @given(st.sampled_from(IDENTIFIERS), text, text, st.sampled_from(["text", "pin", "city", "kind", "active", "new"]))
    def plant(identifier: str, before: str, after: str, name: str) -> None:
        plan.append(({name: f"{before} {identifier} {after}"}, identifier))

    plant()
    plan += [({identifier: 1}, identifier) for identifier in IDENTIFIERS]
    plan += [({"pin": "hunter2-hunter2"}, "hunter2"), ({"kind": "jane@example.com"}, "jane@")]
    async with audited_world(tmp_path, file) as world:
        for arguments, _ in plan:
            await world.call("find", arguments)
        token = await world.credentials().token()
    content = file.read_text()
    assert content.count(events.TOOL_CALL) == len(plan)
    for _, planted in plan:
        assert planted not in content
    assert token not in content
    assert SECRET not in content


async def test_a_cancelled_call_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with audited_world(tmp_path, file) as world:
        await world.call("count_slowly", {"n": 1})
        async with asyncio.timeout(10):
            while world.gateway.snapshot.sources["shop"].stats.active:  # noqa: ASYNC110 - statements are prepared
                await asyncio.sleep(0.01)
        call = asyncio.create_task(world.call("count_slowly", {"n": 100_000_000}))
        async with asyncio.timeout(10):
            while not world.gateway.snapshot.sources["shop"].stats.active:  # noqa: ASYNC110 - the database's own pace
                await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait({call})
    assert of(records(file), events.TOOL_CALL)[1]["outcome"] == "cancelled"


async def test_with_a_full_disk_reads_are_withheld_and_writes_do_not_happen(small_disk: Path, tmp_path: Path) -> None:
    file = small_disk / "audit.jsonl"
    async with audited_world(tmp_path, file) as world:
        assert code_of(await world.call("find", {"text": "a"})) == ""
        size = file.stat().st_size
        # What is left holds no record.
        room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (small_disk / "more").write_bytes(bytes(room))
        replies = [await world.call("find", {"text": "b" * 20}) for _ in range(12)]
        codes = {code_of(reply) for reply in replies[-3:]}
        assert codes == {"audit_unavailable"}
        assert "structuredContent" not in replies[-1].result
        for url, words in ((world.base, "down"), (world.gateway.admin_url, f"file {file}: No space left on device")):
            health = await world.send(None, client=None, method="GET", url=f"{url}/healthz/ready")
            assert (health.status, json.loads(health.body)["audit"]) == (503, words)
        before = await world.call("customer_by_id", {"id": 1})
        assert code_of(before) == "audit_unavailable"
        write = await world.call("rename", {"id": 1, "name": "Mallory"}, client="clerk")
        assert "was not run" in write.result["content"][0]["text"]
        assert code_of(write) == "audit_unavailable"
        (small_disk / "ballast").unlink()
        async with asyncio.timeout(10):
            while world.gateway.snapshot.audit.troubles:  # noqa: ASYNC110 - the sink's own pace
                await asyncio.sleep(0.02)
        found = await world.call("customer_by_id", {"id": 1})
        assert found.result["structuredContent"]["rows"][0]["name"] != "Mallory"
    assert file.stat().st_size > size
    told = records(file)
    assert of(told, events.TOOL_WITHHELD)
    assert of(told, events.SINK_RECOVERED)[0]["refused"] >= 3
    assert Verifier([SECRET]).verify([file]).is_whole


async def test_a_write_whose_outcome_cannot_be_recorded_is_unknown(tmp_path: Path) -> None:
    """The file's folder goes away between the intent and the outcome."""
    folder = tmp_path / "log"
    folder.mkdir()
    file = folder / "audit.jsonl"
    async with audited_world(tmp_path, file) as world:
        body = {"id": 1, "name": "Bob", "n": 3_000_000}
        call = asyncio.create_task(world.call("rename_slowly", body, client="clerk"))
        async with asyncio.timeout(10):
            while events.TOOL_INTENT not in file.read_text():  # noqa: ASYNC110 - the sink's own pace
                await asyncio.sleep(0.005)
        folder.rename(tmp_path / "moved")
        assert code_of(await call) == "outcome_unknown"
        (tmp_path / "moved").rename(folder)
        async with asyncio.timeout(10):
            while world.gateway.snapshot.audit.troubles:  # noqa: ASYNC110 - the sink's own pace
                await asyncio.sleep(0.02)
        found = await world.call("customer_by_id", {"id": 1})
        assert found.result["structuredContent"]["rows"][0]["name"] == "Bob"
    told = records(file)
    assert [each["event"] for each in told if each.get("tool") == "rename_slowly"] == [
        events.TOOL_INTENT,
        events.TOOL_CALL,
        events.TOOL_WITHHELD,
    ]


async def test_a_write_whose_intent_cannot_be_recorded_does_not_run(tmp_path: Path) -> None:
    """The file goes away while nobody has noticed yet: the intent is the first to fail."""
    folder = tmp_path / "log"
    folder.mkdir()
    file = folder / "audit.jsonl"
    async with audited_world(tmp_path, file) as world:
        before = await world.call("customer_by_id", {"id": 1})
        await world.call("rename", {"id": 2, "name": "Bob"}, client="clerk")
        folder.rename(tmp_path / "moved")
        assert code_of(await world.call("rename", {"id": 1, "name": "Mallory"}, client="clerk")) == "audit_unavailable"
        (tmp_path / "moved").rename(folder)
        async with asyncio.timeout(10):
            while world.gateway.snapshot.audit.troubles:  # noqa: ASYNC110 - the sink's own pace
                await asyncio.sleep(0.02)
        after = await world.call("customer_by_id", {"id": 1})
        assert after.result["structuredContent"] == before.result["structuredContent"]
    told = [each for each in records(file) if each.get("tool") == "rename"]
    assert [each["event"] for each in told[2:]] == [events.TOOL_INTENT, events.TOOL_CALL]
    assert told[-1]["code"] == "audit_unavailable"


async def test_with_continue_calls_are_served_without_their_record(small_disk: Path, tmp_path: Path) -> None:
    file = small_disk / "audit.jsonl"
    async with audited_world(tmp_path, file, "continue") as world:
        room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (small_disk / "more").write_bytes(bytes(room))
        for _ in range(20):
            assert code_of(await world.call("find", {"text": "a"})) == ""
        assert world.gateway.snapshot.audit.troubles
        (small_disk / "ballast").unlink()


async def test_records_end_up_in_order_under_load_and_across_restarts(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    for _ in range(2):
        async with audited_world(tmp_path, file) as world:
            replies = await asyncio.gather(*(world.call("find", {"text": str(number)}) for number in range(60)))
            assert {code_of(reply) for reply in replies} == {""}
    report = Verifier([SECRET]).verify([file])
    assert report.is_whole
    assert report.chains == 2
    assert len(of(records(file), events.TOOL_CALL)) == 120


async def test_a_gateway_without_a_place_for_its_records_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="cannot be opened"):
        async with audited_world(tmp_path, tmp_path / "nowhere" / "audit.jsonl"):
            raise AssertionError("it started")


async def test_the_trace_of_the_caller_is_in_the_record(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with audited_world(tmp_path, file) as world:
        body = envelope("tools/call", {"name": "find", "arguments": {}})
        headers = {**routing(body), "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        await world.send(body, headers=headers)
    assert of(records(file), events.TOOL_CALL)[0]["trace_id"] == trace


async def test_without_sinks_nothing_is_recorded_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_world(tmp_path) as world:
        await world.call("customer_by_id", {"id": 1})
        assert not world.gateway.snapshot.audit.is_on
    assert capfd.readouterr().out == ""


async def test_stdout_gets_lines_of_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = CONFIGURATION + "audit: {sinks: [{stdout: {}}], chain_key: '${env:CHAIN_KEY}'}\n"
    async with open_world(tmp_path, text, {"CHAIN_KEY": SECRET}) as world:
        await world.call("customer_by_id", {"id": 1})
    told = [json.loads(line)["event"] for line in capfd.readouterr().out.splitlines()]
    assert events.TOOL_CALL in told
    assert told[-1] == "chain.head"
