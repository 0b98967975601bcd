"""What the tests of this room share: calls, statements, sources that are up, conditions that come true."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from gateway.config.models import GatewaySettings
from gateway.config.sources import AnySource
from gateway.context import Call, Principal
from gateway.database.engine import Engine, Statement, Table
from gateway.database.sources import Source, build_engine, open_pools

ROUNDS = int(os.environ.get("GATEWAY_TEST_ROUNDS", "50"))
NOBODY = Principal(issuer="https://idp.test", subject="tester", client_id="tests", scopes=frozenset())


def call(seconds: float = 20.0, report: Callable[[str], None] = lambda _: None) -> Call:
    """A call with a deadline that many seconds from now."""
    return Call("test", NOBODY, asyncio.get_running_loop().time() + seconds, report)


def call_of(client: str, seconds: float = 1000.0) -> Call:
    """A call of one of several clients."""
    mine = call(seconds)
    return replace(mine, principal=replace(mine.principal, client_id=client))


def statement(engine: Engine, text: str, *, name: str = "tool", writes: bool = False, **types: str) -> Statement:
    """A statement from `:name` placeholders; good enough for the SQL of tests."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in types:
            return match[0]
        if match[1] not in names:
            names.append(match[1])
        return engine.placeholder(names.index(match[1]) + 1, match[1])

    rendered = re.sub(r"(?<!:):([a-z_]+)", number, text)
    return Statement(name, rendered, tuple(names), tuple(types[name] for name in names), writes)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition, not for luck."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a condition outside this process has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def started(
    settings: AnySource, statements: Sequence[Statement] = (), name: str = "test"
) -> AsyncIterator[Source]:
    """A source that was started, and is closed at the end; not necessarily up."""
    async with open_pools(name, settings, build_engine(settings, name)) as pools:
        source = Source(name, settings, pools, statements)
        source.start()
        try:
            yield source
        finally:
            await source.stop()


@asynccontextmanager
async def reached(
    settings: AnySource, statements: Sequence[Statement] = (), name: str = "test"
) -> AsyncIterator[Source]:
    """A source that is up and has prepared its statements."""
    async with started(settings, statements, name) as source:
        await until(lambda: source.is_up)
        await until(lambda: all(item.name in source.shapes or item.name in source.broken for item in statements))
        yield source


async def run(source: Source, item: Statement, *values: Any, max_rows: int = 100, seconds: float = 20.0) -> Table:
    """Run once on a leased connection."""
    asked = call(seconds)
    async with source.lease(asked) as session:
        return await session.run(item, values, max_rows, asked)


@asynccontextmanager
async def open_sources(
    settings: GatewaySettings, engines: Mapping[str, Engine], statements: Mapping[str, Sequence[Statement]]
) -> AsyncIterator[Mapping[str, Source]]:
    """Every source of a configuration, connecting in the background."""
    async with AsyncExitStack() as stack:
        sources: dict[str, Source] = {}
        for name, each in settings.sources.items():
            pools = await stack.enter_async_context(open_pools(name, each, engines[name]))
            sources[name] = Source(name, each, pools, statements.get(name, ()))
            stack.push_async_callback(sources[name].stop)
            sources[name].start()
        yield sources
