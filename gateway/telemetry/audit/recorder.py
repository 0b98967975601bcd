"""The audit as the house uses it: note a record, or wait until it is written."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from gateway import __version__
from gateway.errors import GatewayError
from gateway.telemetry.audit import events
from gateway.telemetry.audit.chain import Chain, Keys, Previous
from gateway.telemetry.audit.channel import Channel, Sink, SinkCounts
from gateway.telemetry.audit.failures import Failures
from gateway.telemetry.audit.redaction import Redactor

_log: Final = logging.getLogger("gateway.audit")
_FAILURE_MINUTE: Final = 60.0
_DRAIN_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 1.0


class AuditUnavailable(GatewayError):
    """A record that must be written cannot be."""


@dataclass(frozen=True, slots=True)
class Outlet:
    """A sink and what is expected of it.

    Attributes:
        sink: where lines go.
        is_required: whether records count as written only once they are there.
        takes_records: whether it gets every record, or heads only.
    """

    sink: Sink
    is_required: bool = True
    takes_records: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """The guarantee.

    Attributes:
        refuses: whether what is not recorded must not happen or not be told.
        queue: most records that wait for one sink.
        patience: seconds a sink may take.
        head_interval: seconds between heads.
    """

    refuses: bool = True
    queue: int = 10_000
    patience: float = 5.0
    head_interval: float = 60.0


class Audit:
    """Chains records and brings them to every sink. Without outlets it is off, and everything is a no-op.

    Args:
        keys: of the chain and of the arguments' hashes.
        outlets: where lines go.
        policy: the guarantee.

    Attributes:
        redactor: makes arguments fit to be recorded.
        failures: counts failed authentications.
        refused: calls refused and answers withheld, ever.
    """

    def __init__(self, keys: Keys, outlets: Sequence[Outlet] = (), policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._keys = keys
        self._chain = Chain(keys)
        self._channels = [self._channel(outlet) for outlet in outlets]
        self._required = [each for each in self._channels if each.is_required and each.takes_records]
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._failed: set[str] = set()
        self.refused = self._refused_before = 0
        self._told = 0
        self.redactor = Redactor(keys.arguments)
        self.failures = Failures(self.note)

    @property
    def is_on(self) -> bool:
        """Whether anything is recorded."""
        return bool(self._channels)

    @property
    def sinks(self) -> Mapping[str, SinkCounts]:
        """What became of the records, for each sink by its name."""
        found: dict[str, SinkCounts] = {}
        for channel in self._channels:
            name, counts = channel.sink.name, channel.counts
            found[name] = found[name] + counts if name in found else counts
        return found

    @property
    def troubles(self) -> Mapping[str, str]:
        """For each failed sink what is wrong, in the operator's words."""
        return {channel.sink.name: channel.trouble for channel in self._channels if channel.trouble}

    def note(self, event: str, fields: Mapping[str, Any]) -> int:
        """Record without waiting.

        Returns:
            the record's number in the chain; 0 while the audit is off.
        """
        if not self._channels:
            return 0
        line = self._chain.append(event, fields)
        seq = self._chain.seq
        for channel in self._channels:
            if channel.takes_records:
                channel.offer(seq, line)
        return seq

    @property
    def is_refusing(self) -> bool:
        """Whether a required sink has failed, and the policy is to refuse."""
        return self._policy.refuses and any(channel.trouble for channel in self._required)

    def require(self) -> None:
        """Make sure that records can be written, as far as is known.

        Raises:
            AuditUnavailable: a required sink has failed, and the policy is to refuse.
        """
        if self.is_refusing:
            self.refused += 1
            raise AuditUnavailable("A required audit sink has failed.")

    async def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Record, and wait until every required sink has it, if the policy is to refuse.

        Raises:
            AuditUnavailable: one does not take it; it stays queued for when it does again.
        """
        seq = self.note(event, fields)
        if not self._policy.refuses or not self._required:
            return
        self.require()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((seq, waiter))
        await waiter

    @asynccontextmanager
    async def running(self, previous: Previous | None = None) -> AsyncIterator[None]:
        """Write while the block runs: the chain is opened before it, and closed, drained and signed after it.

        Args:
            previous: what the log ended with, so that the chains are tied to each other.
        """
        if not self._channels:
            yield
            return
        tasks = [asyncio.create_task(channel.run()) for channel in self._channels]
        tasks += [asyncio.create_task(_every(_TICK_SECONDS, channel.tick)) for channel in self._channels]
        tasks.append(asyncio.create_task(_every(self._policy.head_interval, self._tell_head)))
        tasks.append(asyncio.create_task(_every(_FAILURE_MINUTE, self._flush_failures)))
        self._open(previous or Previous())
        try:
            yield
        finally:
            self.failures.flush()
            self.note(events.CHAIN_CLOSE, {})
            await self._tell_head()
            await asyncio.gather(*(channel.drain(_DRAIN_SECONDS) for channel in self._channels))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for _, waiter in self._waiters:
                waiter.cancel()
            await asyncio.gather(*(channel.sink.close() for channel in self._channels))

    def _open(self, previous: Previous) -> None:
        last = previous.link
        self.note(
            events.CHAIN_OPEN,
            {
                "algorithm": self._keys.algorithm,
                "key": self._keys.identity,
                "previous": {"chain": last.chain, "seq": last.seq, "hash": last.hash} if last else None,
                "torn_bytes": previous.torn,
                "version": __version__,
                "host": socket.gethostname(),
                "pid": os.getpid(),
            },
        )

    def _channel(self, outlet: Outlet) -> Channel:
        return Channel(
            outlet.sink,
            is_required=outlet.is_required,
            takes_records=outlet.takes_records,
            limit=self._policy.queue,
            patience=self._policy.patience,
            on_change=self._changed,
        )

    def _changed(self, channel: Channel) -> None:
        name = channel.sink.name
        if channel.trouble:
            if channel in self._required:
                self._refuse_waiters()
            if name not in self._failed:
                self._failed.add(name)
                self.note(events.SINK_FAILED, {"sink": name, "trouble": channel.trouble})
            return
        if name in self._failed:
            self._failed.discard(name)
            meanwhile, self._refused_before = self.refused - self._refused_before, self.refused
            self.note(events.SINK_RECOVERED, {"sink": name, "lost": channel.lost, "refused": meanwhile})
        written = min((each.written for each in self._required), default=self._chain.seq)
        while self._waiters and self._waiters[0][0] <= written:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _refuse_waiters(self) -> None:
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                self.refused += 1
                waiter.set_exception(AuditUnavailable("A required audit sink has failed."))

    async def _tell_head(self) -> None:
        if self._chain.seq > self._told:
            self._told = self._chain.seq
            line = self._chain.head()
            for channel in self._channels:
                channel.offer(self._chain.seq, line)

    async def _flush_failures(self) -> None:
        self.failures.flush()


async def _every(seconds: float, work: Any) -> None:
    while True:
        await asyncio.sleep(seconds)
        await work()


def off() -> Audit:
    """An audit that records nothing."""
    return Audit(Keys(None))
