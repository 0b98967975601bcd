"""PostgreSQL in another network zone, behind a real firewall: faults of packets instead of connections."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.faults.backends import Postgresql
from tests.faults.process import Place
from tests.faults.world import World, open_world
from tests.servers.programs import programs
from tests.servers.zones import DATABASE, OPEN, running_zones

_CHAINS: Final = (
    "table inet faults { chain arriving { type filter hook input priority -10; };"
    " chain leaving { type filter hook output priority -10; }; }"
)
_ESTABLISHED: Final = "01"
_PORT: Final = f":{OPEN:04X}"


class FarPostgresql(Postgresql):
    """The server as the gateway sees it from the pod network.

    Attributes:
        nft: changes the firewall.
        gateway: the process, once it runs: whose connections are counted.
    """

    nft: Any
    gateway: int = 0

    def login(self) -> dict[str, Any]:
        place = {"host": DATABASE, "port": OPEN, "database": "postgres"}
        return {**self.account, **place}

    @property
    def connections(self) -> int:
        return len(self.ports)

    @property
    def ports(self) -> list[int]:
        """The gateway's ends of its connections (proc(5): /proc/net/tcp)."""
        lines = [line.split() for line in Path(f"/proc/{self.gateway}/net/tcp").read_text().splitlines()[1:]]
        return [int(line[1][-4:], 16) for line in lines if line[2].endswith(_PORT) and line[3] == _ESTABLISHED]

    def fault(self, chain: str, rule: str) -> None:
        """Treat packets so, until `heal`."""
        self.nft(f"add rule inet faults {chain} {rule}")

    async def heal(self) -> None:
        self.nft("flush table inet faults")


@asynccontextmanager
async def open_far_world(folder: Path) -> AsyncIterator[World]:
    """The gateway and the provider in the pod, the database in the data zone.

    Raises:
        MissingServer: namespaces cannot be made here.
    """
    backend = FarPostgresql()
    try:
        await backend.start()
        with running_zones(folder) as zones:
            zones.carry(backend.server.folder / f".s.PGSQL.{backend.server.port}")
            backend.nft = zones.nft
            backend.nft(_CHAINS)
            await backend.fill()
            make = partial(
                zones.call, partial(socket.socket, socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            )
            inside = (str(programs("network")["ip"]), "netns", "exec", zones.pod)
            place = Place(inside, {"socket_factory": lambda _: make()})
            async with open_world({backend.name: backend}, place) as world:
                backend.gateway = world.gateway.pid
                yield world
    finally:
        backend.server.close()
