"""The guarantee: what is waited for is written, what cannot be written is refused, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest

from gateway.telemetry.audit import events
from gateway.telemetry.audit.chain import Keys
from gateway.telemetry.audit.failures import MAX_ADDRESSES, OTHERS
from gateway.telemetry.audit.recorder import Audit, AuditUnavailable, Outlet, Policy, off
from gateway.telemetry.audit.verify import Verifier
from tests.tally import Tally
from tests.telemetry.audit.support import SECRET, Shelf, write


def audit_of(*outlets: Outlet, **policy: float | bool) -> Audit:
    return Audit(Keys(SECRET), outlets, Policy(**policy))  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the state of several tasks
            await asyncio.sleep(0.005)


async def test_what_was_waited_for_is_in_every_required_sink() -> None:
    first, second = Shelf("first"), Shelf("second")
    audit = audit_of(Outlet(first), Outlet(second))
    async with audit.running():
        await audit.write(events.TOOL_CALL, {"tool": "a"})
        assert first.events == second.events == [events.CHAIN_OPEN, events.TOOL_CALL]
    assert first.events[-2:] == [events.CHAIN_CLOSE, "chain.head"]
    assert first.is_closed


async def test_an_audit_that_is_off_does_nothing() -> None:
    audit = off()
    async with audit.running():
        assert not audit.is_on
        audit.require()
        audit.note(events.TOOL_CALL, {})
        await audit.write(events.TOOL_CALL, {})
    assert (audit.refused, audit.sinks) == (0, {})


async def test_records_of_many_callers_go_in_batches_and_in_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    shelf = Shelf()
    audit = audit_of(Outlet(shelf))
    async with audit.running():
        await until(lambda: len(shelf.lines) == 1)
        shelf.may_go.clear()
        calls = [asyncio.create_task(audit.write(events.TOOL_CALL, {"rows": number})) for number in range(300)]
        await asyncio.sleep(0)
        assert not any(call.done() for call in calls)
        shelf.may_go.set()
        await asyncio.gather(*calls)
        assert len(shelf.batches) < 5
    path = write(tmp_path_factory.mktemp("log") / "log", shelf.lines)
    assert Verifier([SECRET]).verify([path]).is_whole


async def test_with_refuse_a_failing_sink_fails_who_waits_and_who_comes() -> None:
    shelf = Shelf()
    audit = audit_of(Outlet(shelf))
    async with audit.running():
        await audit.write(events.TOOL_CALL, {"rows": 1})
        shelf.is_failing = True
        with pytest.raises(AuditUnavailable):
            await audit.write(events.TOOL_CALL, {"rows": 2})
        with pytest.raises(AuditUnavailable):
            audit.require()
        assert audit.troubles == {"shelf": "No space left on device"}
        shelf.is_failing = False
        await until(lambda: not audit.troubles)
        audit.require()
        await audit.write(events.TOOL_CALL, {"rows": 3})
    told = [event for event in shelf.events if event != "chain.head"]
    call, failed, recovered = events.TOOL_CALL, events.SINK_FAILED, events.SINK_RECOVERED
    assert told == [events.CHAIN_OPEN, call, call, failed, recovered, call, events.CHAIN_CLOSE]
    assert json.loads(shelf.lines[4])["refused"] == 2


async def test_with_continue_nobody_waits_and_nothing_fails() -> None:
    shelf = Shelf()
    shelf.is_failing = True
    audit = audit_of(Outlet(shelf), refuses=False)
    async with audit.running():
        await audit.write(events.TOOL_CALL, {})
        audit.require()
        shelf.is_failing = False
        await until(lambda: events.TOOL_CALL in shelf.events)


async def test_a_sink_that_is_not_required_is_not_waited_for() -> None:
    needed, other = Shelf("needed"), Shelf("other")
    other.may_go.clear()
    audit = audit_of(Outlet(needed), Outlet(other, is_required=False))
    async with audit.running():
        await audit.write(events.TOOL_CALL, {})
        assert other.lines == []
        other.may_go.set()
    assert other.events == needed.events


async def test_a_sink_for_heads_gets_nothing_else() -> None:
    log, heads = Shelf("log"), Shelf("heads")
    audit = audit_of(Outlet(log), Outlet(heads, takes_records=False), head_interval=0.01)
    async with audit.running():
        await audit.write(events.TOOL_CALL, {})
        await until(lambda: len(heads.lines) >= 1)
        quiet = len(heads.lines)
        await asyncio.sleep(0.05)
        assert len(heads.lines) <= quiet + 1, "a chain that has not grown has no new head"
    assert set(heads.events) == {"chain.head"}


async def test_a_sink_that_stalls_fails_its_callers_in_time_and_keeps_the_records() -> None:
    shelf = Shelf()
    audit = audit_of(Outlet(shelf), patience=0.05)
    async with audit.running():
        await audit.write(events.TOOL_CALL, {})
        shelf.may_go.clear()
        with pytest.raises(AuditUnavailable):
            await audit.write(events.TOOL_CALL, {"rows": 7})
        assert audit.troubles == {"shelf": "it does not answer"}
        shelf.may_go.set()
        await until(lambda: not audit.troubles)
    assert [json.loads(line).get("rows") for line in shelf.lines[:3]] == [None, None, 7]


async def test_a_full_queue_refuses_and_says_later_what_was_lost() -> None:
    shelf = Shelf()
    audit = audit_of(Outlet(shelf), queue=100, patience=30.0)
    async with audit.running():
        await until(lambda: len(shelf.lines) == 1)
        shelf.may_go.clear()
        for number in range(100):
            audit.note(events.TOOL_CALL, {"rows": number})
        with pytest.raises(AuditUnavailable):
            await audit.write(events.TOOL_CALL, {"rows": 100})
        assert audit.troubles == {"shelf": "its queue is full"}
        shelf.may_go.set()
        await until(lambda: not audit.troubles)
        await audit.write(events.TOOL_CALL, {"rows": 101})
    numbers = [json.loads(line)["seq"] for line in shelf.lines if json.loads(line)["event"] == events.TOOL_CALL]
    assert numbers[:-1] == list(range(2, 102))
    recovered = next(json.loads(line) for line in shelf.lines if b"sink.recovered" in line)
    assert recovered["lost"] == 2, "the call's record, and the one of the failure"
    assert recovered["seq"] > numbers[-2] + 1, "the gap is visible"


async def test_a_cancelled_wait_leaves_the_record() -> None:
    shelf = Shelf()
    audit = audit_of(Outlet(shelf))
    async with audit.running():
        shelf.may_go.clear()
        waiting = asyncio.create_task(audit.write(events.TOOL_CALL, {"rows": 1}))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        shelf.may_go.set()
        await audit.write(events.TOOL_CALL, {"rows": 2})
    assert shelf.events.count(events.TOOL_CALL) == 2


async def test_a_sink_whose_sync_fails_has_failed_and_comes_back() -> None:
    shelf = Shelf()
    audit = audit_of(Outlet(shelf))
    async with audit.running():
        await audit.write(events.TOOL_CALL, {})
        shelf.is_failing = True
        await until(lambda: bool(audit.troubles))
        shelf.is_failing = False
        await until(lambda: not audit.troubles)
    assert events.SINK_RECOVERED in shelf.events


async def test_closing_is_bounded_when_a_sink_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.telemetry.audit.recorder._DRAIN_SECONDS", 0.1)
    shelf = Shelf()
    audit = audit_of(Outlet(shelf), patience=0.05)
    started = time.monotonic()
    async with audit.running():
        shelf.may_go.clear()
        audit.note(events.TOOL_CALL, {})
    assert time.monotonic() - started < 5
    assert shelf.is_closed


async def test_failed_authentications_are_one_record_for_each_address_and_bounded() -> None:
    shelf = Shelf()
    audit = audit_of(Outlet(shelf))
    async with audit.running():
        for number in range(1000):
            audit.failures.count(f"10.0.{number // 250}.{number % 250}", "expired")
            audit.failures.count("10.9.9.9", "signature" if number % 2 else "expired")
        audit.failures.flush()
        audit.failures.flush()
    told = [json.loads(line) for line in shelf.lines if b"authentication.failure" in line]
    assert len(told) == MAX_ADDRESSES + 1
    by_address = {each["address"]: each for each in told}
    assert by_address["10.9.9.9"]["reasons"] == {"expired": 500, "signature": 500}
    assert by_address[OTHERS]["count"] == 1000 - (MAX_ADDRESSES - 1)
    assert sum(each["count"] for each in told) == 2000


async def test_cost(tally: Tally) -> None:
    """What a record costs on the loop's thread, without the wait for a sink."""
    shelf = Shelf()
    audit = audit_of(Outlet(shelf), queue=100_000)
    fields = dict.fromkeys(("correlation_id", "trace_id", "issuer", "subject", "client", "tool"), "x" * 24)
    fields |= {"statement": "0" * 64, "source": "shop", "account": "reader", "outcome": "ok"}
    rounds = 5000
    async with audit.running():
        started = time.thread_time()
        for _ in range(rounds):
            audit.note(events.TOOL_CALL, fields)
        cost = (time.thread_time() - started) / rounds * 1e6
    tally(f"{cost:.1f} us of CPU for a record")
    assert cost < 150
