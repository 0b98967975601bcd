"""One world for all clients."""

from tests.server.conftest import world

__all__ = ["world"]
