"""A rolling restart under load loses no call: real processes behind a real balancer, by the documented values."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml

from gateway.demo.identity import IdentityProvider
from gateway.net.oauth import ClientCredentials
from tests.k8s.tools import ROOT
from tests.servers.balancing import NAME, by_name
from tests.servers.names import NameServer, running_names
from tests.servers.nginx import NginxServer, running_nginx
from tests.servers.postgresql import PostgresqlServer
from tests.servers.replicas import Network, Replica
from tests.tally import Tally
from tests.world import AUDIENCE, CLIENTS, envelope, routing

SCALE: Final = 10
"""How much shorter than in a cluster the pauses are; limits are as they are there."""
REPLICAS: Final = 3
CLIENT_COUNT: Final = 8
LEAST_CALLS: Final = 2000
CONFIGURATION: Final = """
server:
  host: ${{env:HOST}}
  port: ${{env:PORT}}
  public_url: ${{env:PUBLIC_URL}}
  trusted_proxies: [127.0.0.0/8]
  call_timeout: {call_timeout}
  shutdown_grace: {shutdown_grace}
admin: {{host: "${{env:HOST}}", port: "${{env:ADMIN_PORT}}"}}
limits: {{requests_per_minute: 1000000, burst: 100000, concurrency_per_client: 100}}
auth: {{issuers: [{{issuer: "${{env:ISSUER}}", audiences: ["https://gateway.test/mcp"]}}]}}
sources:
  shop:
    engine: postgresql
    host: ${{env:DB_HOST}}
    port: ${{env:DB_PORT}}
    database: ${{env:DB_NAME}}
    user: ${{env:DB_USER}}
    password: ${{env:DB_PASSWORD}}
    tls: {{mode: disable}}
    pool: {{min: 1, max: 6}}
tools:
  wait:
    description: Waits in the database.
    source: shop
    scopes: ["customers:read"]
    parameters: {{seconds: {{type: number}}}}
    statement: "select cast(pg_sleep(:seconds) as text) as done, cast(:seconds as float8) as seconds"
  wait_for_the_test:
    description: Waits until the test lets it go on.
    source: shop
    scopes: ["customers:read"]
    statement: select cast(pg_advisory_xact_lock_shared(4711) as text) as done
"""


@dataclass(frozen=True, slots=True)
class Values:
    """What the manifests say about the life of a pod: three pauses and a limit, in seconds as they pass here."""

    probe_period: float
    min_ready: float
    pre_stop: float
    grace: float


def documented() -> Values:
    """The values of k8s/base."""
    deployment = yaml.safe_load((ROOT / "k8s/base/deployment.yaml").read_text())["spec"]
    assert deployment["replicas"] == REPLICAS
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": "admin"}
    _, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    return Values(
        probe_period=container["readinessProbe"]["periodSeconds"] / SCALE,
        min_ready=deployment["minReadySeconds"] / SCALE,
        pre_stop=int(seconds) / SCALE,
        grace=pod["terminationGracePeriodSeconds"],
    )


@dataclass
class Cluster:
    """What Kubernetes does with the Deployment, and the clients of its pods."""

    values: Values
    http: aiohttp.ClientSession
    names: NameServer
    balancer: NginxServer
    token: str
    database: PostgresqlServer
    network: Network
    configuration: Path
    environment: Mapping[str, str]
    stack: AsyncExitStack
    pods: list[Replica] = field(default_factory=list)
    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    async def add(self, count: int = 1) -> list[Replica]:
        """Start pods, and let them have calls once they are ready."""
        new = [Replica(self.network, self.configuration, self.environment) for _ in range(count)]
        for pod in new:
            self.stack.callback(pod.kill)
        await asyncio.gather(*(pod.until_ready(self.http, self.values.probe_period) for pod in new))
        self.pods += new
        await self.publish()
        return new

    async def publish(self) -> None:
        """Let the balancer know which pods there are."""
        addresses = [pod.address for pod in self.pods]
        self.names.tell(NAME, addresses)
        async with asyncio.timeout(30):
            while True:  # it asks when a request comes
                await self.call(0)
                try:
                    async with asyncio.timeout(0.1):
                        return await self.names.until_told(NAME, addresses)
                except TimeoutError:
                    continue

    async def remove(self, pod: Replica) -> None:
        """End a pod as a kubelet does: preStop while the balancer learns of it, SIGTERM, and at the end a limit."""
        began = asyncio.get_running_loop().time()
        self.pods.remove(pod)
        await asyncio.gather(asyncio.sleep(self.values.pre_stop), self.publish())
        async with self.late_call(pod):
            pod.terminate()
            await self.until_unready(pod)
        left = self.values.grace - (asyncio.get_running_loop().time() - began)
        assert await pod.until_ended(left) == 0, pod.log.read_text()

    @asynccontextmanager
    async def late_call(self, pod: Replica) -> AsyncIterator[None]:
        """A call that came at the last moment: it runs while the block does, and is finished after it."""
        admin = await self.database.admin()
        try:
            await admin.execute("select pg_advisory_lock(4711)")
            late = asyncio.create_task(self.call(None, pod.url))
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            async with asyncio.timeout(30):
                while not await admin.fetchval(waiting):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
            yield
            assert not late.done(), "the pod was unready before its last call ended"
            await admin.execute("select pg_advisory_unlock(4711)")
            await late
        finally:
            await admin.close()

    async def until_unready(self, pod: Replica) -> None:
        """Wait until its readiness is 503, which the operators' listener still answers while calls are finished."""
        async with asyncio.timeout(30):
            while (status := await pod.probe(self.http)) != 503:
                assert status == 200, f"it ended without saying that it is unready: {pod.log.read_text()[-2000:]}"
                await asyncio.sleep(0.04)

    async def call(self, seconds: float | None, url: str = "") -> None:
        """One call, through the balancer unless told otherwise; whatever is not its right answer is counted."""
        if seconds is None:
            name, arguments = "wait_for_the_test", {}
        else:
            name, arguments = "wait", {"seconds": seconds}
        body = envelope("tools/call", {"name": name, "arguments": arguments})
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json, text/event-stream"}
        self.calls += 1
        try:
            async with self.http.post(
                url or f"{self.balancer.url}/mcp", json=body, headers=headers | routing(body)
            ) as response:
                told = await response.text()
            if response.status != 200:
                self.failures[f"HTTP {response.status}: {told[:200]}"] += 1
            elif _rows(told) != [{"done": "", **arguments}]:
                self.failures[f"wrong: {told[:200]}"] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures[repr(error)] += 1


def _rows(told: str) -> Any:
    answer = json.loads(told if told.startswith("{") else told.rpartition("data: ")[2])
    return answer.get("result", {}).get("structuredContent", {}).get("rows")


@asynccontextmanager
async def opened(folder: Path, database: PostgresqlServer, connections: Counter[str]) -> AsyncIterator[Cluster]:
    """Everything but the pods."""
    trace = aiohttp.TraceConfig()

    async def count(*_: object) -> None:
        connections["opened"] += 1

    trace.on_connection_create_end.append(count)
    async with AsyncExitStack() as stack:
        names = stack.enter_context(running_names())
        network = Network()
        balancer = stack.enter_context(running_nginx(by_name(f"127.0.0.1:{names.port}", network.port)))
        provider = await stack.enter_async_context(IdentityProvider(clients=CLIENTS, audience=AUDIENCE))
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, trace_configs=[trace]))
        token = await ClientCredentials(provider.token_url, "reader", CLIENTS["reader"][0]).token()
        server = yaml.safe_load((ROOT / "k8s/base/config/gateway.yaml").read_text())["server"]
        configuration = folder / "gateway.yaml"
        configuration.write_text(CONFIGURATION.format(**server))
        environment = {
            "ISSUER": provider.issuer,
            "PUBLIC_URL": balancer.url,
            "DB_HOST": database.host,
            "DB_PORT": str(database.port),
            "DB_NAME": database.database,
            "DB_USER": database.user,
            "DB_PASSWORD": database.password,
        }
        yield Cluster(documented(), http, names, balancer, token, database, network, configuration, environment, stack)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("rolling_world")
async def test_a_rolling_restart_loses_no_call(postgresql: PostgresqlServer, tmp_path: Path, tally: Tally) -> None:
    connections: Counter[str] = Counter()
    async with opened(tmp_path, postgresql, connections) as cluster:
        old = await cluster.add(REPLICAS)
        is_rolling = True

        async def client(seconds: float) -> None:
            """Calls one after the other, on a connection that is kept."""
            while is_rolling or cluster.calls < LEAST_CALLS:
                await cluster.call(seconds)
                await asyncio.sleep(0.04)

        # Until now there was nobody to answer.
        for counted in (connections, cluster.failures):
            counted.clear()
        asked_before = len(cluster.balancer.served())
        clients = [asyncio.create_task(client(0.5 if number < 3 else 0)) for number in range(CLIENT_COUNT)]
        for pod in old:
            await cluster.add()
            await asyncio.sleep(cluster.values.min_ready)
            await cluster.remove(pod)
        is_rolling = False
        await asyncio.gather(*clients)
        assert not cluster.failures, (cluster.failures, cluster.balancer.errors())
        served = cluster.balancer.served()[asked_before:]
        assert {status for status, _, _ in served} == {200}
        who = Counter(address for _, address, _ in served)
        assert len(who) == 2 * REPLICAS, "every pod, old and new, had calls, and none was sent twice"
        # One for each client, and a few for what the test itself asks; nginx ends one after a thousand requests.
        assert connections["opened"] < 4 * CLIENT_COUNT, "connections were kept"
        assert max(count for _, _, count in served) > 20
        tally(f"{cluster.calls} calls while {REPLICAS} replicas were replaced, none failed: {dict(who)}")
        # One that dies without notice is still in DNS: nginx asks another where nobody answers.
        cluster.pods.pop().kill()
        await asyncio.gather(*(cluster.call(0) for _ in range(60)))
        assert not cluster.failures, (cluster.failures, cluster.balancer.errors())
