"""All connections of one listener: how many there may be, which of them are idle, and which are late."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

SEND_TIMEOUT: Final = 60.0
"""Seconds in which a client must have read some of an answer that waits for it."""
_LEAST_PROGRESS: Final = 64 * 1024
_RESERVED_FILES: Final = 256
_log: Final = logging.getLogger("gateway.server")


class Peer(Protocol):
    """What the crowd asks of a connection."""

    is_timed: bool

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to read."""

    def expire(self) -> None:
        """The head did not come in time."""

    def abort(self) -> None:
        """Close at once."""


@dataclass(slots=True)
class _Event:
    next_time: float = 0.0
    count: int = 0
    fields: dict[str, str] = field(default_factory=dict)


class Noise:
    """What strangers cause, in the log: at most one line for each event and interval, with a count.

    Args:
        interval: seconds.
    """

    def __init__(self, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._events: dict[str, _Event] = {}

    def note(self, event: str, **fields: str) -> None:
        """Count an event; `fields` are of the latest."""
        entry = self._events.setdefault(event, _Event())
        entry.count += 1
        entry.fields = fields
        self._write(event, entry)

    def flush(self) -> None:
        """Write what was counted and is due."""
        for event, entry in self._events.items():
            if entry.count:
                self._write(event, entry)

    def _write(self, event: str, entry: _Event) -> None:
        now = self._clock()
        if now >= entry.next_time:
            _log.warning(event, extra={"count": entry.count, **entry.fields})
            entry.next_time, entry.count = now + self._interval, 0


class Crowd:
    """Counts connections and keeps them in the order in which they fell idle, began a head, or stopped reading.

    Args:
        limit: most connections at once.
        header_timeout: seconds for a whole head.
    """

    def __init__(self, limit: int, header_timeout: float) -> None:
        self.limit = limit
        self.noise = Noise()
        self._full = Noise(60.0)
        self._header_timeout = header_timeout
        self._grace = min(1.0, header_timeout / 2)
        self._members: set[Peer] = set()
        self._silent: dict[object, tuple[Callable[[], object], float]] = {}
        self._idle: dict[object, Callable[[], object]] = {}
        self._expected: dict[Peer, float] = {}
        self._stalled: dict[Peer, tuple[float, int]] = {}
        self._emptied: asyncio.Event | None = None

    @property
    def open(self) -> int:
        """Connections that are open, those in their handshake included."""
        return len(self._members)

    def has_room(self) -> bool:
        """Whether one more may come; where there are too many, one that is idle makes room, or else this one goes."""
        if len(self._members) < self.limit:
            return True
        self._full.note("too many connections", limit=str(self.limit))
        return self.make_room()

    def make_room(self) -> bool:
        """Close one that is idle: who never asked anything goes first, unless it has only just come."""
        silent, idle = next(iter(self._silent), None), next(iter(self._idle), None)
        # What is closed is counted until it has gone; the newcomer takes its place a moment earlier.
        if silent is not None and (idle is None or time.monotonic() - self._silent[silent][1] > self._grace):
            self._silent.pop(silent)[0]()
        elif idle is not None:
            self._idle.pop(idle)()
        return silent is not None or idle is not None

    def enter(self, peer: Peer) -> None:
        """Count a connection, from before its handshake on."""
        self._members.add(peer)

    def wait(self, key: object, abort: Callable[[], object]) -> None:
        """Know a newcomer, who has not asked anything yet."""
        self._silent[key] = (abort, time.monotonic())

    def no_longer_wait(self, key: object) -> None:
        """The newcomer has become a connection, or has gone."""
        self._silent.pop(key, None)

    def rest(self, peer: Peer) -> None:
        """A connection is between requests."""
        self._idle[peer] = peer.abort

    def expect(self, peer: Peer) -> None:
        """A head is due of it from now on, unless one was due already."""
        if not peer.is_timed:
            peer.is_timed = True
            self._expected[peer] = time.monotonic()

    def work(self, peer: Peer) -> None:
        """Its head is complete."""
        self._idle.pop(peer, None)
        self._silent.pop(peer, None)
        self._expected.pop(peer, None)
        peer.is_timed = False

    def stall(self, peer: Peer, unsent: int) -> None:
        """Its client does not read."""
        self._stalled[peer] = (time.monotonic(), unsent)

    def flow(self, peer: Peer) -> None:
        """Its client reads again."""
        self._stalled.pop(peer, None)

    def leave(self, peer: Peer) -> None:
        """It is closed, or was never made."""
        self.work(peer)
        self.flow(peer)
        self._members.discard(peer)
        if self._emptied is not None and not self._members:
            self._emptied.set()

    async def until_empty(self, deadline: float) -> None:
        """Wait until nobody is left; at the event loop's time `deadline`, whoever is left is closed."""
        self._emptied = asyncio.Event()
        try:
            async with asyncio.timeout_at(deadline):
                if self._members:
                    await self._emptied.wait()
        except TimeoutError:
            for peer in list(self._members):
                peer.abort()

    async def watch(self) -> None:
        """Close what is late, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._header_timeout / 4))
            now = time.monotonic()
            for late in _older(self._expected, now - self._header_timeout):
                self._expected.pop(late)
                late.expire()
            for late, (since, unsent) in list(self._stalled.items()):
                if now - since > SEND_TIMEOUT:
                    if unsent - late.unsent < _LEAST_PROGRESS:
                        self.noise.note("slow readers dropped")
                        late.abort()
                    else:
                        self._stalled[late] = (now, late.unsent)
            self.noise.flush()
            self._full.flush()


def _older(times: dict[Peer, float], bound: float) -> list[Peer]:
    """Those since before the bound; a dict keeps the order in which they began."""
    late: list[Peer] = []
    for peer, since in times.items():
        if since > bound:
            break
        late.append(peer)
    return late


def connections_that_fit(wanted: int) -> int:
    """The wanted number, or what the process's open-file limit leaves beside databases and files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft - _RESERVED_FILES >= wanted:
        return wanted
    fitting = max(1, soft - min(_RESERVED_FILES, soft // 2))
    _log.warning("fewer connections than server.max_connections", extra={"limit": fitting, "open_files": soft})
    return fitting
