"""Which of several PostgreSQL hosts to use: the first that answers and is what was asked for.

As libpq does (PostgreSQL documentation, section 34.1.1): in the order given, on
to the next where one cannot be reached, is starting, or is of the wrong kind; a
refused login is final. Unlike libpq, one host that does not answer costs only
its share of the time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg

from gateway.config.sources import PostgresqlSettings
from gateway.database.failures import failure
from gateway.errors import Code

T = TypeVar("T")

Address = tuple[str, int]

_NEXT: Final = (OSError, TimeoutError, asyncpg.TargetServerAttributeNotMatched, asyncpg.CannotConnectNowError)
"""Failures that say nothing about the other hosts."""


def addresses(settings: PostgresqlSettings) -> tuple[Address, ...]:
    """Every host with its port, in the order in which they are tried."""
    if settings.host is not None:
        return ((settings.host, settings.port),)
    return tuple((each.host, each.port) for each in settings.hosts)


async def connect_to_first(settings: PostgresqlSettings, connect: Callable[[Address, str, float], Awaitable[T]]) -> T:
    """Connect to the first host that will do.

    Args:
        settings: the hosts, what they must be, and the time for all of them.
        connect: opens a connection to an address of a kind (`target_session_attrs`) within a time.

    Raises:
        ToolError: SOURCE_UNAVAILABLE naming what is wrong with each, where there are several.
        Exception: whatever `connect` raised that another host cannot cure, or for the only one.
    """
    places = addresses(settings)
    kind = settings.target_session_attrs
    kinds = ("standby", "any") if kind == "prefer-standby" else (kind,)
    tries = [(place, each) for each in kinds for place in places]
    share = settings.connect_timeout / len(tries)
    if len(tries) == 1:
        return await connect(places[0], kind, share)
    troubles: list[str] = []
    for (host, port), each in tries:
        try:
            return await connect((host, port), each, share)
        except _NEXT as error:
            troubles.append(f"{host}:{port} ({each}): {type(error).__name__}: {error}")
    raise failure(Code.SOURCE_UNAVAILABLE, "no host will do: " + "; ".join(troubles))
