"""Sessions of clients that keep one: who owns each, how many there may be, and how long they live.

A session is found by its owner at its own door only. Whoever else names it is
answered as if there were none, byte for byte.
"""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from gateway.config.features import FeatureSettings
from gateway.context import Principal
from gateway.errors import ProtocolError, RateLimited, Refused, ShuttingDown
from gateway.server.jsonrpc import INVALID_REQUEST, RequestId
from gateway.server.sessions_events import EventBudget, Log
from gateway.server.sessions_work import Work

MAX_RUNNING: Final = 32
"""Requests of one session that run at once."""
_AT_ONCE: Final = 100
_ID_BYTES: Final = 32
_BUSY_SECONDS: Final = 5.0
_UNKNOWN: Final = "There is no such session; start one with initialize."
_FULL: Final = "This gateway has no room for another session; try again later."
_TOO_MANY: Final = "All of your sessions are busy; end one with DELETE, or use one that is open."
_STOPPING: Final = "This gateway is stopping; start a session with another one."

Owner = tuple[str, str]


def owner_of(principal: Principal) -> Owner:
    """Whose session it is: issuer and subject, never a name."""
    return principal.issuer, principal.subject


class Session(ABC):
    """One client's session, whatever carries it.

    Attributes:
        id: 256 random bits.
        owner: issuer and subject.
        path: the door where it began, and where alone it is served.
        version: the revision that was agreed on.
        touched: the event loop's time when something last happened in it.
    """

    __slots__ = ("_running", "id", "owner", "path", "touched", "version")

    def __init__(self, owner: Owner, path: str, version: str) -> None:
        self.id = secrets.token_urlsafe(_ID_BYTES)
        self.owner = owner
        self.path = path
        self.version = version
        self.touched = asyncio.get_running_loop().time()
        self._running: dict[RequestId, Work] | None = None

    @property
    def running(self) -> Iterable[Work]:
        """Requests in the works."""
        return (self._running or {}).values()

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether a connection reads one of its streams."""

    @property
    def is_busy(self) -> bool:
        """Whether its life must not end by itself now."""
        return bool(self._running) or self.is_connected

    @abstractmethod
    def is_wanted(self, features: FeatureSettings) -> bool:
        """Whether its way in is open."""

    @abstractmethod
    def announce(self, message: bytes) -> None:
        """Tell the client something that belongs to no request."""

    @abstractmethod
    def end_streams(self) -> None:
        """End streams that wait for nothing that runs; they can be taken up again, where that is possible at all."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of what is kept."""

    def begin(self, identifier: RequestId, work: Work) -> None:
        """Run one request.

        Raises:
            ProtocolError: its id is that of a request that still runs.
            RateLimited: too many run.
        """
        running = self._running = self._running or {}
        if identifier in running:
            raise ProtocolError(INVALID_REQUEST, "A request with this id still runs; give each request its own id.")
        if len(running) >= MAX_RUNNING:
            raise RateLimited(1.0, "concurrency")
        running[identifier] = work
        work.start(lambda: self._finished(identifier))

    def cancel(self, identifier: object) -> None:
        """Stop one request, as far as it can be stopped; unknown ids are nothing to speak of."""
        if isinstance(identifier, str | int) and not isinstance(identifier, bool) and self._running is not None:
            work = self._running.get(identifier)
            if work is not None:
                work.cancel()

    def end(self) -> None:
        """Cancel what runs, and end every stream with its last word."""
        for work in list(self.running):
            work.cancel()
        self._close()

    def _finished(self, identifier: RequestId) -> None:
        self.touched = asyncio.get_running_loop().time()
        if self._running is not None:
            self._running.pop(identifier, None)
            self._running = self._running or None


class StreamableSession(Session):
    """A session of Streamable HTTP, 2025-03-26 to 2025-11-25.

    Attributes:
        log: its streams.
    """

    __slots__ = ("log",)

    def __init__(self, owner: Owner, path: str, version: str, budget: EventBudget) -> None:
        super().__init__(owner, path, version)
        # Clients of earlier revisions take an event without data for a broken message.
        self.log = Log(budget, is_primed=version >= "2025-11-25")

    @property
    def is_connected(self) -> bool:
        """Whether a connection reads one of its streams."""
        return self.log.has_readers

    def is_wanted(self, features: FeatureSettings) -> bool:
        """Whether sessions are on."""
        return features.sessions

    def announce(self, message: bytes) -> None:
        """Say it on the standalone stream."""
        self.log.announce(message)

    def end_streams(self) -> None:
        """End the standalone stream."""
        self.log.end_standalone()

    def _close(self) -> None:
        self.log.close()


class Sessions:
    """Every session of this process.

    Args:
        settings: how many there may be, and how long they live.

    Attributes:
        budget: the bytes of their events.
        settings: those in force.
        are_on: set while there is a way in for clients that keep a session.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        self.budget = EventBudget(settings)
        self.are_on = asyncio.Event()
        self._all: OrderedDict[str, Session] = OrderedDict()
        self._of_owner: dict[Owner, OrderedDict[str, Session]] = {}
        self._is_stopping = False
        self._deadline = 0.0
        self.configure(settings)

    def __len__(self) -> int:
        """Sessions alive now."""
        return len(self._all)

    def enter(self, session: Session) -> None:
        """Take in a new session; the longest idle one makes room where there is none.

        Raises:
            RateLimited: all of this owner's are busy.
            Refused: 503 when all of all owners are.
            ShuttingDown: the process stops.
        """
        if self._is_stopping:
            raise ShuttingDown(_STOPPING)
        owned = self._of_owner.get(session.owner)
        if owned and not self._make_room(owned, self.settings.max_sessions_per_client):
            raise RateLimited(_BUSY_SECONDS, "concurrency", _TOO_MANY)
        if not self._make_room(self._all, self.settings.max_sessions):
            raise Refused(503, _FULL)
        self._all[session.id] = session
        self._of_owner.setdefault(session.owner, OrderedDict())[session.id] = session

    def find(self, identifiers: list[str], principal: Principal, path: str) -> Session:
        """The caller's session at a door.

        Raises:
            Refused: 404, the same whether it is unknown, over, another's or another door's.
        """
        session = self._all.get(identifiers[0]) if len(identifiers) == 1 else None
        if session is None or session.owner != owner_of(principal) or session.path != path:
            raise Refused(404, _UNKNOWN)
        now = asyncio.get_running_loop().time()
        if self._is_over(session, now):
            self.end(session)
            raise Refused(404, _UNKNOWN)
        session.touched = now
        self._all.move_to_end(session.id)
        self._of_owner[session.owner].move_to_end(session.id)
        return session

    def end(self, session: Session) -> None:
        """End a session; harmless when it is over."""
        if self._all.pop(session.id, None) is not None:
            owned = self._of_owner[session.owner]
            del owned[session.id]
            if not owned:
                del self._of_owner[session.owner]
            session.end()

    async def announce(self, message: bytes) -> None:
        """Tell every client something that belongs to no request, a few at a time so that calls are not held up."""
        everyone = list(self._all.values())
        for start in range(0, len(everyone), _AT_ONCE):
            for session in everyone[start : start + _AT_ONCE]:
                session.announce(message)
            await asyncio.sleep(0)

    def configure(self, settings: FeatureSettings) -> None:
        """Go by other settings from now on, and end sessions that nobody can reach any more; what runs finishes."""
        self.settings = settings
        self.budget.configure(settings)
        if settings.sessions or settings.http_sse:
            self.are_on.set()
        else:
            self.are_on.clear()
        self.end_idle()
        self._make_room(self._all, settings.max_sessions + 1)

    def end_idle(self) -> None:
        """End sessions that have been idle for too long, and those whose way in is closed."""
        now = asyncio.get_running_loop().time()
        for session in [session for session in self._all.values() if self._is_over(session, now)]:
            self.end(session)

    def end_streams(self) -> None:
        """End every stream that waits for nothing that runs, so that clients come back and are judged anew."""
        for session in list(self._all.values()):
            session.end_streams()

    def stop(self, deadline: float) -> None:
        """Begin to stop: no new sessions, and no stream outlasts what runs.

        Args:
            deadline: the event loop's time until which that may go on.
        """
        self._is_stopping = True
        self._deadline = deadline
        self.end_streams()

    async def drain(self) -> None:
        """Wait for what still runs, client or no client, then end every session."""
        tasks = [task for session in self._all.values() for work in session.running if (task := work.task)]
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, self._deadline - asyncio.get_running_loop().time()))
        for session in list(self._all.values()):
            self.end(session)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_over(self, session: Session, now: float) -> bool:
        is_late = now - session.touched > self.settings.session_idle_timeout
        return (is_late or not session.is_wanted(self.settings)) and not session.is_busy

    def _make_room(self, sessions: OrderedDict[str, Session], most: int) -> bool:
        """Whether one more fits, after the longest idle ones made room."""
        while len(sessions) >= most:
            idle = next((session for session in sessions.values() if not session.is_busy), None)
            if idle is None:
                return False
            self.end(idle)
        return True
