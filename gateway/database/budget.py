"""The connections that several pools may have together, and who gives way to whom.

Nothing is counted twice: what the pools have is asked of them, so that no
cancellation can leak a place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

UNUSED: Final = 0.5
"""Seconds after which an idle connection is one that its pool can spare."""


class Sharer(Protocol):
    """A pool, as the others see it."""

    @property
    def size(self) -> int:
        """Connections that it has, those included that are opening or closing."""

    @property
    def leaving(self) -> int:
        """Those of them that are closing."""

    @property
    def wanting(self) -> int:
        """Connections that it lacks so much that another pool should give one up."""

    @property
    def idle_since(self) -> float | None:
        """When its longest idle connection came back, in loop time; None where none is idle."""

    def give_up(self) -> None:
        """Begin to close the longest idle connection."""

    def balance(self) -> None:
        """Look again whether a connection can be opened."""


class Budget:
    """A limit on the connections of all pools that joined.

    Args:
        limit: most connections at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sharers: list[Sharer] = []
        self._refused: dict[Sharer, None] = {}

    @property
    def taken(self) -> int:
        """Connections of all pools."""
        return sum(sharer.size for sharer in self._sharers)

    def join(self, sharer: Sharer) -> None:
        """Count this pool too."""
        self._sharers.append(sharer)

    def admits(self, sharer: Sharer) -> bool:
        """Whether this pool may open one more; else it is told when to ask again, and others make room.

        They give up what is idle for a while, and at once where this pool has none or clearly fewer.
        """
        if self.taken < self._limit:
            self._refused.pop(sharer, None)
            return True
        self._refused[sharer] = None
        for _ in range(self._shortage(self._refused)):
            idle = [(since, each) for each in self._sharers if (since := each.idle_since) is not None]
            fair = [(since, each) for since, each in idle if since <= self._long_ago or self._precedes(sharer, each)]
            if not fair:
                break
            min(fair, key=lambda item: item[0])[1].give_up()
        return False

    def claims(self, sharer: Sharer) -> bool:
        """Whether a connection that came back to this pool should be closed, for a pool that has clearly fewer."""
        if not self._refused:
            return False
        poorer = [each for each in self._refused if each is not sharer and self._precedes(each, sharer)]
        return self._shortage(poorer) > 0

    def _precedes(self, poor: Sharer, rich: Sharer) -> bool:
        """Whether a pool, counting what is on its way, has none or at least two fewer than another one."""
        coming = sum(each.leaving for each in self._sharers)
        return poor.size + coming <= max(0, rich.size - rich.leaving - 2)

    @property
    def _long_ago(self) -> float:
        return asyncio.get_running_loop().time() - UNUSED

    def freed(self) -> None:
        """A connection is gone: those that were refused look again, the smallest pool first."""
        # One that is refused again keeps its turn; one that is admitted has to queue for its next.
        for sharer in sorted(self._refused, key=lambda each: each.size):
            sharer.balance()

    def _shortage(self, sharers: Iterable[Sharer]) -> int:
        """Connections that these pools want and that nobody is giving up yet."""
        wanted = sum(sharer.wanting for sharer in sharers)
        coming = self._limit - self.taken + sum(sharer.leaving for sharer in self._sharers)
        return max(0, wanted - coming)
