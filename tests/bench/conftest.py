"""The bench's surroundings, once for all of its tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.world import World, open_world


@pytest.fixture(scope="session")
def bench_world() -> Iterator[World]:
    with open_world() as world:
        yield world
