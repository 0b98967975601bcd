"""Sessions over three replicas behind a real nginx: all requests of a session come to the process that keeps it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.config.loader import load
from gateway.server.app import Gateway, open_gateway
from tests.server.streams import Client, until
from tests.server.test_http_sse import connected
from tests.servers.balancing import with_affinity
from tests.servers.nginx import NginxServer, running_nginx
from tests.tally import Tally
from tests.world import CONFIGURATION, World, open_world

CLIENT_COUNT = 24
pytestmark = pytest.mark.usefixtures("nginx")


@dataclass
class Replicas:
    """Three gateways behind one balancer.

    Attributes:
        world: of the first; its clients' addresses are the balancer's.
        gateways: all of them.
        balancer: nginx.
        stack: closes the second and the third.
    """

    world: World
    gateways: list[Gateway]
    balancer: NginxServer
    stack: AsyncExitStack

    def held(self) -> list[int]:
        """How many sessions each keeps."""
        return [len(gateway.sessions) for gateway in self.gateways]

    def client(self) -> Client:
        client = Client(self.world)
        client.url = f"{self.balancer.url}/mcp"
        return client


@asynccontextmanager
async def opened(folder: Path, *, has_affinity: bool = True) -> AsyncIterator[Replicas]:
    text = CONFIGURATION + "features: {sessions: true, http_sse: true}\n"
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(folder, text))
        gateways = [world.gateway]
        others = await stack.enter_async_context(AsyncExitStack())
        for _ in range(2):
            variables = {"ISSUER": world.provider.issuer, "DATABASE": str(world.database)}
            configuration = load(folder / "gateway.yaml", environment=os.environ | variables)
            gateways.append(await others.enter_async_context(open_gateway(configuration)))
        for gateway in gateways:
            await gateway.until_ready()
        body = with_affinity([re.sub(r"^http://|/mcp$", "", gateway.url) for gateway in gateways])
        if not has_affinity:
            body = body.replace("    hash $key consistent;\n", "")
        balancer = stack.enter_context(running_nginx(body))
        front = replace(world.gateway, url=f"{balancer.url}/mcp")
        yield Replicas(World(front, world.provider, world.database, world.http), gateways, balancer, others)


async def test_a_session_stays_with_its_replica(tmp_path: Path, tally: Tally) -> None:
    async with opened(tmp_path) as replicas:
        clients = [replicas.client() for _ in range(CLIENT_COUNT)]
        await asyncio.gather(*(client.initialize() for client in clients))
        held = replicas.held()
        assert sum(held) == CLIENT_COUNT
        assert sum(count > 0 for count in held) > 1, "they are spread"
        tally(f"{held} sessions on three replicas")
        for client in clients:
            assert re.fullmatch(r"[0-9a-f]{32}\.[\w-]{43}", client.session or "")
            assert (await client.notify("notifications/initialized")).status == 202
        for _ in range(3):
            replies = await asyncio.gather(*(client.call("customer_by_id", id=1) for client in clients))
            assert {reply.status for reply in replies} == {200}
            assert all(reply.result["structuredContent"]["row_count"] == 1 for reply in replies)
        assert {(await client.send(None, method="DELETE")).status for client in clients} == {204}
        assert replicas.held() == [0, 0, 0]


async def test_streams_of_a_session_come_through(tmp_path: Path) -> None:
    async with opened(tmp_path) as replicas:
        client = replicas.client()
        await client.initialize()
        async with client.listen() as stream:
            first = await stream.event()
            for gateway in replicas.gateways:
                gateway.announcements.announce_tools_changed()
            told = await stream.event()
            assert told.message["method"] == "notifications/tools/list_changed"
        async with client.resume(first.id) as stream:
            assert told.id in {(await stream.event()).id for _ in range(2)}
        async with client.stream("count_slowly", n=300_000) as stream:
            assert (await stream.rest())[-1].message["result"]["structuredContent"]["rows"] == [{"counted": 300_000}]


async def test_without_affinity_a_session_is_lost(tmp_path: Path) -> None:
    async with opened(tmp_path, has_affinity=False) as replicas:
        client = replicas.client()
        await client.initialize()
        assert 404 in {(await client.request("ping")).status for _ in range(4)}


async def test_http_sse_stays_with_its_replica(tmp_path: Path) -> None:
    async with opened(tmp_path) as replicas, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(replicas.world)) for _ in range(16)]
        held = replicas.held()
        assert sum(held) == len(clients)
        assert sum(count > 0 for count in held) > 1
        for number, client in enumerate(clients):
            assert re.fullmatch(r"/messages\?sessionId=[0-9a-f]{32}\.[\w-]{43}", client.address)
            await client.call("customer_by_id", identifier=number, id=1)
        for number, client in enumerate(clients):
            answer = await client.message()
            while "id" not in answer:  # replicas tell of changed tools as they learn from their database
                answer = await client.message()
            assert (answer["id"], answer["result"]["structuredContent"]["row_count"]) == (number, 1)


async def test_sessions_of_a_replica_that_goes_begin_anew_elsewhere(tmp_path: Path) -> None:
    async with opened(tmp_path) as replicas:
        clients = [replicas.client() for _ in range(CLIENT_COUNT)]
        for client in clients:
            await client.initialize()
        held = replicas.held()
        await replicas.stack.aclose()  # the second and the third
        replies = [(await client.request("ping")).status for client in clients]
        assert sorted(replies) == [200] * held[0] + [404] * (held[1] + held[2])
        for client, status in zip(clients, replies, strict=True):
            if status == 404:
                client.session = None
                await client.initialize()
        assert {(await client.request("ping")).status for client in clients} == {200}
        await until(lambda: len(replicas.gateways[0].sessions) == CLIENT_COUNT, 5.0)
