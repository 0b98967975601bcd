"""One world for each test module of the server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.world import World, open_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A running gateway, shared by the tests of one module."""
    folder: Path = tmp_path_factory.mktemp("world")
    async with open_world(folder) as world:
        yield world
