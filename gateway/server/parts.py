"""What successive snapshots share: a part whose settings stay is handed over as it is, and closed by its last user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import groupby
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Part(Generic[T]):
    """One open thing, and how many snapshots use it."""

    def __init__(self, value: T, settings: object, stack: AsyncExitStack) -> None:
        self.value = value
        self.settings = settings
        self.users = 1
        self._stack = stack

    async def leave(self) -> None:
        self.users -= 1
        if not self.users:
            await self._stack.aclose()


class Parts:
    """The parts of one snapshot.

    Args:
        before: those of the snapshot before, which may be taken over.
    """

    def __init__(self, before: Parts | None = None) -> None:
        self._before: Mapping[tuple[str, str], _Part[Any]] = before.held if before is not None else {}
        self._held: dict[tuple[str, str], _Part[Any]] = {}

    @property
    def held(self) -> Mapping[tuple[str, str], _Part[Any]]:
        """What was taken, by kind and name."""
        return self._held

    async def take(
        self, kind: str, settings: object, opened: Callable[[], AbstractAsyncContextManager[T]], name: str = ""
    ) -> T:
        """The part of the snapshot before if it has the same settings, else a new one.

        Args:
            kind: what it is; parts of one kind are closed together.
            settings: all that it was made from.
            opened: opens a new one.
            name: which one of its kind.
        """
        known: _Part[T] | None = self._before.get((kind, name))
        if known is not None and known.users and known.settings == settings:
            known.users += 1
            part = known
        else:
            stack = AsyncExitStack()
            part = _Part(await stack.enter_async_context(opened()), settings, stack)
        self._held[kind, name] = part
        return part.value

    def settled(self) -> None:
        """Everything was taken: what the snapshot before had is no longer of interest."""
        self._before = {}

    async def close(self) -> None:
        """Let go of every part, the last kind first; the parts of one kind at once. One that fails stops no other."""
        self._before = {}
        held, self._held = self._held, {}
        failures: list[BaseException] = []
        for _, kind in groupby(reversed(held), key=lambda key: key[0]):
            results = await asyncio.gather(*(held[key].leave() for key in list(kind)), return_exceptions=True)
            failures += [each for each in results if each is not None]
        if failures:
            raise failures[0]
