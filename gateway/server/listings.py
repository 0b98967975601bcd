"""What `tools/list` says, kept as bytes: a thousand tools are described once, not for each client."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

MAX_BYTES: Final = 16 << 20
"""Of all lists together; those asked for least recently leave first."""


class Listings:
    """The results of one door's `tools/list`, by whatever they depend on."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable) -> bytes | None:
        """The result, if it was made before."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, result: bytes) -> None:
        """Keep a result; one that is too large for all of the room is not kept."""
        self._size += len(result) - len(self._kept.pop(key, b""))
        self._kept[key] = result
        while self._size > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._size -= len(oldest)
