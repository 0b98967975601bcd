"""One world for all scenarios of a run (of a worker): the same gateway has every fault, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.backends import Backend, running_backends
from tests.faults.far import open_far_world
from tests.faults.world import World, open_world
from tests.servers.programs import MissingServer


@pytest.fixture(scope="session")
def fault_servers() -> None:
    """Says which servers the scenarios need."""


@pytest.fixture(scope="session")
def zones_wanted() -> None:
    """Says that network namespaces are needed."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def backends(fault_servers: None) -> AsyncIterator[dict[str, Backend]]:
    """The databases."""
    async with running_backends() as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(backends: dict[str, Backend]) -> AsyncIterator[World]:
    """Everything; the load waits for the first scenario."""
    async with open_world(backends) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def far_world(zones_wanted: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway in one network namespace and its database in another, with a firewall between."""
    try:
        async with open_far_world(tmp_path_factory.mktemp("zones")) as opened:
            yield opened
    except MissingServer as missing:
        pytest.fail(str(missing), pytrace=False)
