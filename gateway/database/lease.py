"""Borrowing a connection for the length of a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from gateway.context import Call
from gateway.database.care import Member
from gateway.resilience.retry import Patience

T = TypeVar("T")


class Lender(Protocol):
    """What a lease needs of a pool."""

    def take(self, call: Call) -> Member | None:
        """An idle connection, if one may be lent without waiting."""

    async def wait(self, call: Call, patience: Patience | None) -> Member:
        """A connection, after waiting for it."""

    def release(self, member: Member) -> None:
        """Take a connection back."""


class Lease(Generic[T]):
    """`async with`: one connection until the block ends, however it ends.

    A class and no generator: borrowing is part of every call.

    Args:
        pool: lends the connection.
        call: who asks, and until when.
        patience: how long it may take; the pool's own limit when absent.
        give: what the block gets to see of the connection.
    """

    __slots__ = ("_call", "_give", "_member", "_patience", "_pool")

    def __init__(self, pool: Lender, call: Call, patience: Patience | None, give: Callable[[Member], T]) -> None:
        self._pool = pool
        self._call = call
        self._patience = patience
        self._give = give

    async def __aenter__(self) -> T:
        self._member = self._pool.take(self._call) or await self._pool.wait(self._call, self._patience)
        return self._give(self._member)

    async def __aexit__(self, *_: object) -> None:
        self._pool.release(self._member)
