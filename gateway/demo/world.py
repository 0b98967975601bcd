"""The embedded default: a shop in SQLite, an identity provider and a gateway, in one process."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from gateway.demo.identity import IdentityProvider
from gateway.demo.sample import make_shop
from gateway.net.oauth import ClientCredentials
from gateway.server.app import open_gateway
from gateway.tools.loading import load_with_tools

CLIENT_ID: Final = "demo-agent"
CLIENT_SECRET: Final = "demo-secret"
SCOPES: Final = ("customers:read", "orders:read")


@dataclass(frozen=True, slots=True)
class World:
    """A demo under way: where it is reached."""

    url: str
    token_url: str

    def credentials(self) -> ClientCredentials:
        """The demo agent's token source."""
        return ClientCredentials(self.token_url, CLIENT_ID, CLIENT_SECRET, resource=self.url)


@asynccontextmanager
async def open_world(port: int) -> AsyncIterator[World]:
    """The whole embedded default: database, identity provider and gateway.

    Args:
        port: the gateway's; 0 takes a free one.
    """
    port = port or _free_port()
    audience = f"http://127.0.0.1:{port}/mcp"
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
        database = Path(folder) / "shop.sqlite"
        make_shop(database)
        async with IdentityProvider(clients={CLIENT_ID: (CLIENT_SECRET, SCOPES)}, audience=audience) as provider:
            environment = {
                "GATEWAY_DEMO_PORT": str(port),
                "GATEWAY_DEMO_ISSUER": provider.issuer,
                "GATEWAY_DEMO_AUDIENCE": audience,
                "GATEWAY_DEMO_DATABASE": str(database),
            }
            with resources.as_file(resources.files("gateway.demo") / "shop.yaml") as path:
                configuration = load_with_tools(path, environment=os.environ | environment)
            async with open_gateway(configuration) as gateway:
                await gateway.until_ready()
                yield World(gateway.url, provider.token_url)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
