"""The soaked gateway, once for all of its tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.world import open_world
from tests.soak.service import Service, serving


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    with open_world() as world, serving(world) as service:
        yield service
