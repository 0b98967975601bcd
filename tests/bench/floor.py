"""The measured statement and a pool of asyncpg's own, for contenders that are not the gateway. Needs asyncpg only."""

from __future__ import annotations

import json
import os
import ssl
from typing import Any, Final

import asyncpg

QUERY: Final = "select id, name, email, country, balance, since from customers where id = $1"


async def open_pool(size: int = 16) -> Any:
    """A pool that does not reset connections when they come back.

    The login is in BENCH_DATABASE (JSON of arguments for asyncpg), its authority in BENCH_CA.
    """
    return await asyncpg.create_pool(
        **json.loads(os.environ["BENCH_DATABASE"]),
        ssl=ssl.create_default_context(cafile=os.environ["BENCH_CA"]),
        min_size=size,
        max_size=size,
        reset=_nothing,
    )


async def _nothing(_: Any) -> None:
    """Nothing is left behind by these queries."""
