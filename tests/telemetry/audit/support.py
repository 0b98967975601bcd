"""Logs as gateways write them, and sinks that can be told to fail."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway.telemetry.audit import events
from gateway.telemetry.audit.chain import Chain, Keys, Previous
from gateway.telemetry.audit.reading import last_link

SECRET: Final = "0123456789abcdef0123456789abcdef"


def chain_lines(count: int, secret: str | None = SECRET, previous: Previous | None = None) -> list[bytes]:
    """The records of one process: an opening, `count` calls, a closing."""
    keys = Keys(secret)
    chain = Chain(keys)
    link = previous.link if previous else None
    opening = {
        "algorithm": keys.algorithm,
        "key": keys.identity,
        "previous": {"chain": link.chain, "seq": link.seq, "hash": link.hash} if link else None,
        "torn_bytes": previous.torn if previous else 0,
    }
    lines = [chain.append(events.CHAIN_OPEN, opening)]
    lines += [chain.append(events.TOOL_CALL, {"tool": "t", "rows": number}) for number in range(count)]
    return [*lines, chain.append(events.CHAIN_CLOSE, {})]


def two_chains(first: int = 5, second: int = 3, secret: str | None = SECRET) -> list[bytes]:
    """A log of two processes, the second of which knows the end of the first."""
    lines = chain_lines(first, secret)
    return lines + chain_lines(second, secret, Previous(last_link(lines[-1].rstrip())))


def head_of(line: bytes, secret: str | None = SECRET) -> bytes:
    """The head that a gateway tells after this record."""
    keys = Keys(secret)
    link = last_link(line.rstrip())
    assert link is not None
    chain = Chain(keys)
    chain.seq, chain._name, chain._hash = link.seq, link.chain.encode(), link.hash.encode()
    return chain.head()


def write(path: Path, lines: Sequence[bytes]) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def records(path: Path) -> list[dict[str, Any]]:
    """Everything in a file, heads left out."""
    every = [json.loads(line) for line in path.read_text().splitlines()]
    return [each for each in every if each["event"] != "chain.head"]


class Shelf:
    """A sink in memory: it keeps lines, fails or stalls as it is told."""

    def __init__(self, name: str = "shelf") -> None:
        self.name = name
        self.lines: list[bytes] = []
        self.batches: list[int] = []
        self.is_failing = False
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.is_closed = False

    async def write(self, lines: Sequence[bytes]) -> None:
        await self.may_go.wait()
        if self.is_failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.lines += lines
        self.batches.append(len(lines))

    async def tick(self) -> None:
        if self.is_failing:
            raise OSError(errno.EIO, "Input/output error")

    async def close(self) -> None:
        self.is_closed = True

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.lines]
