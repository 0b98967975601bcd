"""What a session says on its streams, kept for a while, so that a client can take up a stream where it broke.

An event's name is `tag-stream-number`: the tag is the session's, so that a name
from another session means nothing here, and numbers rise by one on each stream.
Nothing awaits in between: keeping an event, handing it to the reader and taking
a stream over are each one step, so no event is lost or doubled.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from gateway.config.features import FeatureSettings
from gateway.errors import Refused
from gateway.server.sessions_reader import Reader, frame

STANDALONE: Final = 0
"""The number of the stream that a GET without `Last-Event-ID` opens."""
MAX_UNHEARD: Final = 64
"""Events of one stream that wait for a reader; then notifications are no longer made, so that nothing is lost."""
_RETRY_MS: Final = 1000
_NAME: Final = re.compile(r"([0-9a-f]{8})-([0-9]{1,9})-([0-9]{1,9})", re.ASCII)
_GONE: Final = "The events after this Last-Event-ID are not kept here; send the request again."
_OCCUPIED: Final = "This session has an open GET stream; resume it with Last-Event-ID, or end it first."


@dataclass(slots=True)
class Stream:
    """One stream of a session.

    Attributes:
        number: which one.
        last: the number of its latest event; 0 before the first.
        dropped: the number of the latest event that is no longer kept.
        heard: the latest event that was handed to a reader.
        kept: its events, oldest first: number and message.
        reader: the one connection that reads it now.
        is_complete: whether its last event was the last of all.
    """

    number: int
    last: int = 0
    dropped: int = 0
    heard: int = 0
    kept: deque[tuple[int, bytes]] = field(default_factory=deque)
    reader: Reader | None = None
    is_complete: bool = False


class EventBudget:
    """The bytes of all sessions' events together; the oldest of all make room."""

    def __init__(self, settings: FeatureSettings) -> None:
        self.used = 0
        self._keys = itertools.count()
        self._order: OrderedDict[int, Log] = OrderedDict()
        self.configure(settings)

    def configure(self, settings: FeatureSettings) -> None:
        """Go by other bounds from the next event on."""
        self.session_events = settings.session_events
        self.session_bytes = min(settings.session_event_bytes, settings.total_event_bytes)
        self._limit = settings.total_event_bytes

    def enter(self, log: Log, size: int) -> int:
        """Count an event, after room was made for it; its key."""
        key = next(self._keys)
        while self.used + size > self._limit and self._order:
            next(iter(self._order.values())).drop_oldest()
        self._order[key] = log
        self.used += size
        return key

    def leave(self, key: int, size: int) -> None:
        """Count an event no more."""
        del self._order[key]
        self.used -= size


class Log:
    """The streams of one session.

    Args:
        budget: shared by all sessions.
        is_primed: whether its client understands an event that has only a name (2025-11-25 and later).
    """

    __slots__ = ("_budget", "_is_closed", "_is_primed", "_next", "_order", "_size", "_tag", "streams")

    def __init__(self, budget: EventBudget, *, is_primed: bool) -> None:
        self.streams: dict[int, Stream] = {}
        self._budget = budget
        self._is_primed = is_primed
        self._is_closed = False
        self._tag = secrets.token_hex(4)
        self._next = STANDALONE + 1
        self._order: deque[tuple[int, Stream, int]] | None = None
        self._size = 0

    @property
    def has_readers(self) -> bool:
        """Whether any connection reads."""
        return any(stream.reader is not None for stream in self.streams.values())

    def open(self) -> tuple[Stream, Reader]:
        """A new stream for the answer to one request, and its reader: there from the first event on."""
        stream = Stream(self._next)
        self._next += 1
        self.streams[stream.number] = stream
        return stream, self._attach(stream, 0)

    def listen(self) -> Reader:
        """The reader of the standalone stream.

        Raises:
            Refused: 409 while another connection reads it.
        """
        stream = self._standalone()
        if stream.reader is not None:
            raise Refused(409, _OCCUPIED)
        return self._attach(stream, max(stream.heard, stream.dropped))

    def resume(self, last_event_id: str) -> Reader:
        """A reader of a stream after one of its events; a connection that still reads it is cut.

        Raises:
            Refused: 400 when what followed that event is not kept here.
        """
        match = _NAME.fullmatch(last_event_id)
        stream = self.streams.get(int(match[2])) if match and match[1] == self._tag else None
        after = int(match[3]) if match else 0
        if stream is None or not stream.dropped <= after <= stream.last:
            raise Refused(400, _GONE)
        if stream.reader is not None:
            stream.reader.cut("replaced")
        return self._attach(stream, after)

    def is_resumable(self, stream: Stream) -> bool:
        """Whether its client may know the name of an event to resume after."""
        return self._is_primed or stream.heard > 0

    def detach(self, reader: Reader) -> None:
        """A reader's connection is over."""
        for stream in list(self.streams.values()):
            if stream.reader is reader:
                stream.reader = None
                self._forget_if_spent(stream)

    def notify(self, stream: Stream, message: bytes) -> None:
        """Say something of no great weight: not said at all while nobody keeps up."""
        if stream.last - stream.heard < MAX_UNHEARD and not (stream.reader and stream.reader.is_behind):
            self._publish(stream, message)

    def announce(self, message: bytes) -> None:
        """Say something on the standalone stream; what waits there already is not said twice."""
        stream = self._standalone()
        is_waiting = stream.heard < stream.last and bool(stream.kept) and stream.kept[-1][1] == message
        if not is_waiting:
            self.notify(stream, message)

    def complete(self, stream: Stream, message: bytes) -> None:
        """Say the last word on a stream."""
        self._publish(stream, message)
        stream.is_complete = True
        if stream.reader is not None:
            stream.reader.end()
        self._forget_if_spent(stream)

    def end_standalone(self) -> None:
        """End the connection of the standalone stream after what waits for it; it can be resumed."""
        stream = self.streams.get(STANDALONE)
        if stream is not None and stream.reader is not None:
            stream.reader.end()

    def close(self) -> None:
        """Keep nothing any more; who reads is still told the last word."""
        while self._order:
            self.drop_oldest()
        self._is_closed = True
        self.end_standalone()

    def drop_oldest(self) -> None:
        """Keep one event less."""
        if self._order:
            key, stream, size = self._order.popleft()
            stream.dropped, _ = stream.kept.popleft()
            self._size -= size
            self._budget.leave(key, size)
            self._forget_if_spent(stream)

    def _standalone(self) -> Stream:
        return self.streams.setdefault(STANDALONE, Stream(STANDALONE))

    def _publish(self, stream: Stream, message: bytes) -> None:
        stream.last += 1
        self._keep(stream, message)
        if stream.reader is not None and stream.reader.push(frame(message, self._name(stream, stream.last))):
            stream.heard = stream.last

    def _keep(self, stream: Stream, message: bytes) -> None:
        size, budget = len(message), self._budget
        if size > budget.session_bytes or self._is_closed:
            # Everything before it goes, too: after a gap there is nothing to resume.
            stream.dropped = stream.last
            self._order = deque(self._without(stream))
            return
        if self._order is None:
            self._order = deque()
        while self._order and (len(self._order) >= budget.session_events or self._size + size > budget.session_bytes):
            self.drop_oldest()
        key = budget.enter(self, size)
        self._order.append((key, stream, size))
        stream.kept.append((stream.last, message))
        self._size += size

    def _without(self, stream: Stream) -> list[tuple[int, Stream, int]]:
        """The order without a stream's events, which are kept no more."""
        stream.kept.clear()
        rest = []
        for key, other, size in self._order or ():
            if other is stream:
                self._budget.leave(key, size)
                self._size -= size
            else:
                rest.append((key, other, size))
        return rest

    def _attach(self, stream: Stream, after: int) -> Reader:
        """Hand what is kept after an event to a new reader, and to it from now on what follows."""
        reader = Reader()
        if self._is_primed and not stream.is_complete:
            reader.push(f"id: {self._name(stream, after)}\nretry: {_RETRY_MS}\ndata: \n\n".encode())
        for number, message in stream.kept:
            if number > after:
                reader.push(frame(message, self._name(stream, number)), again=True)
        stream.heard = stream.last
        stream.reader = reader
        if stream.is_complete:
            reader.end()
        return reader

    def _forget_if_spent(self, stream: Stream) -> None:
        if stream.is_complete and not stream.kept and stream.reader is None:
            self.streams.pop(stream.number, None)

    def _name(self, stream: Stream, number: int) -> str:
        return f"{self._tag}-{stream.number}-{number}"
