"""A session's streams against a model: whatever is kept, dropped, broken, resumed, nobody gets a gap or a double."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.features import FeatureSettings
from gateway.errors import Refused
from gateway.server.sessions import StreamableSession
from gateway.server.sessions_events import EventBudget, Log, Stream
from gateway.server.sessions_http import STREAM_AFTER, Reply
from gateway.server.sessions_reader import MAX_WAITING_BYTES, Reader
from gateway.server.transport import Outcome
from tests.database.fakes import in_virtual_time

SETTINGS = {"session_events": 4, "session_event_bytes": "1024B", "total_event_bytes": "1024B"}
SMALL = FeatureSettings.model_validate(SETTINGS)
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["open", "notify", "notify", "complete", "announce", "listen", "read", "break", "resume"]),
        st.integers(0, 1),
        st.integers(0, 3),
        st.integers(1, 1200),
    ),
    max_size=60,
)


def _budget(**settings: Any) -> EventBudget:
    return EventBudget(FeatureSettings.model_validate(settings))


def _taken(reader: Reader) -> list[tuple[str, bytes]]:
    """What a connection was sent, as name and data; the names without data are those it is told to begin with."""
    found = []
    while reader._waiting:
        lines = reader._next().decode().split("\n")
        fields = dict(line.split(": ", 1) for line in lines if line)
        found.append((fields.get("id", ""), fields["data"].encode()))
    return found


class _Client:
    """One that reads a stream and remembers the last name it saw."""

    def __init__(self, log: Log, stream: Stream, reader: Reader) -> None:
        self.log = log
        self.stream = stream
        self.reader: Reader | None = reader
        self.numbers: list[int] = []
        self.last_id = ""

    def read(self) -> None:
        if self.reader is not None:
            for name, data in _taken(self.reader):
                self.last_id = name
                if data:
                    number = int(name.rpartition("-")[2])
                    assert not self.numbers or number == self.numbers[-1] + 1, "a gap or a double"
                    self.numbers.append(number)

    def leave(self) -> None:
        if self.reader is not None:
            self.log.detach(self.reader)
            self.reader = None

    def resume(self) -> None:
        """Come back; 400 only where something is really gone."""
        if not self.last_id:
            return
        after, is_known = int(self.last_id.rpartition("-")[2]), self.log.streams.get(self.stream.number) is self.stream
        try:
            reader = self.log.resume(self.last_id)
        except Refused:
            assert not is_known or after < self.stream.dropped
            self.last_id = ""
            return
        assert is_known
        self.leave()
        self.reader = reader


@given(ACTIONS)
def test_no_gap_and_no_double(actions: list[tuple[str, int, int, int]]) -> None:
    asyncio.run(_play(actions))


async def _play(actions: list[tuple[str, int, int, int]]) -> None:
    budget = EventBudget(SMALL)
    logs = [Log(budget, is_primed=True), Log(budget, is_primed=True)]
    clients: list[list[_Client]] = [[], []]
    for action, which, index, size in actions:
        log, known = logs[which], clients[which]
        client = known[index % len(known)] if known else None
        match action:
            case "open" if len(known) < 4:
                known.append(_Client(log, *log.open()))
            case "announce":
                log.announce(b"a" * size)
            case "listen" if not any(one.stream.number == 0 for one in known):
                reader = log.listen()
                known.append(_Client(log, log.streams[0], reader))
            case "notify" if client and client.stream.number and not client.stream.is_complete:
                log.notify(client.stream, b"n" * size)
            case "complete" if client and client.stream.number and not client.stream.is_complete:
                log.complete(client.stream, b"c" * size)
            case "read" if client:
                client.read()
            case "break" if client:
                client.leave()
            case "resume" if client:
                client.resume()
        assert budget.used == sum(log._size for log in logs) <= 1024
        for each in logs:
            kept = [event for stream in each.streams.values() for event in stream.kept]
            assert len(kept) == len(each._order or ()) <= 4
            assert each._size == sum(len(message) for _, message in kept)
    for each in logs:
        each.close()
    assert (budget.used, len(budget._order)) == (0, 0)


async def test_the_oldest_of_all_make_room_for_the_newest() -> None:
    budget = _budget(total_event_bytes="2048B", session_event_bytes="1024B")
    logs = [Log(budget, is_primed=True) for _ in range(4)]
    for log in logs:
        log.announce(b"x" * 1000)
    assert [len(log.streams[0].kept) for log in logs] == [0, 0, 1, 1]
    assert budget.used == 2000


async def test_an_event_too_large_to_keep_reaches_who_is_there_and_ends_what_could_be_resumed() -> None:
    log = Log(_budget(session_event_bytes="1024B"), is_primed=True)
    stream, reader = log.open()
    log.notify(stream, b"small")
    names = [name for name, _ in _taken(reader)]
    log.complete(stream, b"x" * 5000)
    assert [len(data) for _, data in _taken(reader)] == [5000]
    with pytest.raises(Refused, match="not kept here"):
        log.resume(names[-1])
    log.detach(reader)
    assert log.streams == {}


async def test_too_much_that_waits_cuts_the_connection_but_one_message_always_may() -> None:
    reader = Reader()
    assert reader.push(b"x" * (3 * MAX_WAITING_BYTES))
    assert not reader.push(b"y")
    assert (reader.reason, reader.waiting_bytes) == ("slow_reader", 0)
    assert not reader.push(b"z")


async def test_notifications_are_no_longer_made_while_nobody_keeps_up() -> None:
    log = Log(_budget(), is_primed=True)
    stream, reader = log.open()
    for _ in range(1000):
        log.notify(stream, b"step")
    log.complete(stream, b"result")
    assert len(log._order or ()) <= 65
    taken = _taken(reader)
    assert taken[-1][1] == b"result"
    assert len(taken) <= 67


async def test_where_a_client_left_before_the_first_name_there_is_nothing_to_resume() -> None:
    log = Log(_budget(), is_primed=False)
    stream, reader = log.open()
    assert not log.is_resumable(stream)
    log.notify(stream, b"step")
    assert log.is_resumable(stream)
    assert [name.rpartition("-")[2] for name, _ in _taken(reader)] == ["1"]


def test_an_answer_that_comes_in_the_moment_of_the_decision_is_not_lost() -> None:
    """Where the loop was held up, the answer and the time limit of the decision are due in one round."""

    async def scene() -> None:
        session = StreamableSession(("issuer", "subject"), "/mcp", "2025-11-25", _budget())
        reply, loop = Reply(session, may_stream=True), asyncio.get_running_loop()
        loop.call_at(loop.time() + STREAM_AFTER, reply.deliver, Outcome(b"{}", 200))
        await reply.until_decided()
        assert reply.reader is None
        assert reply.response({}).body == b"{}"

    in_virtual_time(scene())
