"""One world for all scenarios of a run (of a worker): the same gateway has every fault, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.world import World, open_world


@pytest.fixture(scope="session")
def fault_servers() -> None:
    """Says which servers the scenarios need."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(fault_servers: None) -> AsyncIterator[World]:
    """Everything; the load waits for the first scenario."""
    async with open_world() as opened:
        yield opened
