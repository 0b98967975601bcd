"""A PostgreSQL table as a sink of the audit: over a connection of its own, by an account that may only insert."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

from gateway.config.sources import AnySource
from gateway.context import Call, Principal
from gateway.database.engine import Statement
from gateway.database.sources import Source, build_engine

_INSERT: Final = """\
insert into {table} (chain, seq, event, time, record)
select each->>0, (each->>1)::bigint, each->>2, (each->>3)::timestamptz, each->>4
from json_array_elements($1::text::json) as each
on conflict do nothing"""
_ITSELF: Final = Principal(issuer="gateway", subject="audit", client_id="", scopes=frozenset())


class TableSink:
    """Inserts each batch in one statement; what was sent before and is there already stays as it is.

    Args:
        source: where the table is.
        table: its name, with its schema if need be.
        limit: seconds for one batch.
    """

    def __init__(self, source: Source, table: str, limit: float) -> None:
        self.name = f"postgresql {source.name} {table}"
        self._source = source
        self._limit = limit
        self._statement = Statement("audit", _INSERT.format(table=table), ("lines",), ("string",), writes=True)

    async def write(self, lines: Sequence[bytes]) -> None:
        """Insert and commit."""
        rows = [_row(line) for line in lines]
        call = Call("", _ITSELF, asyncio.get_running_loop().time() + self._limit)
        async with self._source.lease(call) as session:
            await session.run(self._statement, [json.dumps(rows)], 1, call)

    async def tick(self) -> None:
        """There is nothing to do."""

    async def close(self) -> None:
        """The source is closed by whoever opened it."""


def _row(line: bytes) -> list[object]:
    text = line.rstrip(b"\n").decode()
    fields = json.loads(text)
    return [fields["chain"], fields["seq"], fields["event"], fields["time"], text]


@asynccontextmanager
async def open_source(name: str, settings: AnySource) -> AsyncIterator[Source]:
    """The source once more, with one connection of its own that no caller can take away."""
    pool = settings.pool.model_copy(update={"min": 0, "max": 1})
    own = settings.model_copy(update={"pool": pool, "session": MappingProxyType({}), "credentials": ()})
    source = Source(name, own, build_engine(own, name), ())
    source.start()
    try:
        yield source
    finally:
        await source.close()
