"""The way back to a client over a pipe, which all of its requests share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.server.jsonrpc import RequestId
from gateway.server.pipe import Pipe
from gateway.server.stream import Owner


class Way:
    """The way back of one request: the pipe, which all of them share."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.notify = pipe.notify

    async def hold(self, owner: Owner, identifier: RequestId | None) -> _Line:
        """An answer that stays open for as long as its request does."""
        return _Line(self._pipe, owner)


class _Line:
    """What is said for a request that stays open; a pipe needs nothing to be kept alive."""

    def __init__(self, pipe: Pipe, owner: Owner) -> None:
        self.write = pipe.post
        self._pipe = pipe
        self._owner = owner
        self._result: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    @property
    def is_writable(self) -> bool:
        """Whether the client keeps up with what it is told."""
        return self._pipe.keeps_up

    def keep_alive(self) -> None:
        """Nothing."""

    def end(self, result: Mapping[str, Any]) -> None:
        """Let the request be answered."""
        if not self._result.done():
            self._result.set_result(dict(result))

    async def until_ended(self) -> dict[str, Any]:
        """The answer."""
        try:
            return await self._result
        finally:
            self._owner.lost()
