"""The surroundings of the scenarios: databases behind proxies, an identity provider, and a gateway that is served."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults.backends import Backend
from tests.faults.calls import Agent
from tests.faults.load import Load
from tests.faults.process import HERE, GatewayProcess, Held, Place
from tests.faults.provider import AUDIENCE, Provider

IS_LONG: Final = os.environ.get("GATEWAY_FAULTS") == "long"
DEADLINE: Final = 6.0
"""`server.call_timeout`, in seconds."""
SLACK: Final = 4.0
"""What a call may take beyond its deadline on a busy machine."""
_SECRET: Final = (("redis", "password"), ("redis", "key"), ("audit", "chain_key"))
_PATIENCE: Final = {"header_timeout": "4s", "body_timeout": "4s"}
_LIFE: Final = 10 * 86_400
"""Seconds that tokens of the load live: clocks are moved by days."""
LIMITS: Final = {
    **dict.fromkeys(("requests_per_minute", "burst", "failed_logins_per_minute", "failed_logins_burst"), 1_000_000),
    "concurrency_per_client": 100,
}
"""All callers come from one address, and none is to be held back by a limit."""
CLIENTS: Final = {f"agent-{number}": f"agent-s3cret-{number}" for number in range(5)}
"""The first three make up the load; the others are there for scenarios."""


def seconds(long: float, short: float) -> float:
    """How long a fault lasts, in the form that runs."""
    return long if IS_LONG else short


@dataclass
class World:
    """Everything that runs.

    Attributes:
        folder: for files.
        backends: the databases by name.
        provider: the identity provider.
        gateway: the process.
        agents: one for each client of the provider.
        load: what they do.
        files: that a scenario changes, by name.
    """

    folder: Path
    backends: dict[str, Backend]
    provider: Provider
    gateway: GatewayProcess
    agents: list[Agent] = field(default_factory=list)
    load: Load = field(default_factory=lambda: Load([], ()))
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def secrets(self) -> set[str]:
        """What may stand in no message and no log."""
        tokens = {agent.token for agent in self.agents}
        keys = {key["pem"].splitlines()[1] for key in self.provider.keys}
        passwords = {str(backend.login().get("password", "")) for backend in self.backends.values()} - {""}
        return tokens | keys | passwords | set(CLIENTS.values())

    @property
    def addresses(self) -> set[str]:
        """What may stand in no message."""
        logins = [backend.login() for backend in self.backends.values()]
        return {str(login[name]) for login in logins for name in ("host", "port")} | {str(self.provider.port)}

    @asynccontextmanager
    async def agent(self, client: str = "agent-0", **connector: Any) -> AsyncIterator[Agent]:
        """A caller with a new token."""
        patience, connector = DEADLINE + SLACK, {**self.gateway.place.connector, **connector}
        agent = Agent(self.gateway.url, self.provider.mint(client, lifetime=_LIFE), patience, **connector)
        try:
            yield agent
        finally:
            await agent.close()

    async def restart(self) -> None:
        """Another process of the same gateway, warm."""
        self.gateway.kill()
        self.gateway.start()
        await self.warm()

    async def warm(self) -> None:
        """Have everything called: what is opened or imported at first use is no leak."""
        await self.gateway.until_ready()
        async with self.load.running():
            await self.load.until_well(time.monotonic(), self.backends, 30.0)

    async def held(self) -> Held:
        """What the gateway holds now."""
        return await self.gateway.held({name: each.connections for name, each in self.backends.items()})


def configuration(backends: Mapping[str, Backend], provider: Provider, admin_port: int, **more: Any) -> dict[str, Any]:
    """The gateway's settings; `more` replaces whole sections, and adds to `server`."""
    settings: dict[str, Any] = {
        "admin": {"port": admin_port},
        "server": {"call_timeout": f"{DEADLINE}s", "shutdown_grace": "6s", **_PATIENCE, **more.pop("server", {})},
        "limits": LIMITS,
        "auth": {"issuers": [{"issuer": provider.issuer, "audiences": [AUDIENCE]}]},
        "sources": {name: backend.source() for name, backend in backends.items()},
        "tools": {name: tool for backend in backends.values() for name, tool in backend.tools().items()},
    }
    return settings | more


def write(settings: Mapping[str, Any], path: Path) -> Path:
    """A configuration file whose secrets are files beside it, as in a cluster."""
    settings = json.loads(json.dumps(settings))
    secret = [(f"{name}.password", source, "password") for name, source in settings["sources"].items()]
    secret += [(f"{name}.{key}", settings.get(name, {}), key) for name, key in _SECRET]
    for name, section, key in secret:
        if key in section:
            (path.parent / name).write_text(section[key])
            section[key] = f"${{file:{path.parent / name}}}"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(settings))  # JSON is YAML
    partial.rename(path)
    return path


@asynccontextmanager
async def open_world(backends: Mapping[str, Backend], place: Place = HERE, **more: Any) -> AsyncIterator[World]:
    """Start everything else; the load waits until a scenario begins.

    Args:
        backends: the databases.
        place: where the provider and the gateway run.
        more: sections of the configuration.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-faults-")))
        provider = Provider(CLIENTS)
        stack.callback(provider.kill)
        provider.start(place.prefix)
        gateway = GatewayProcess(folder, folder / "gateway.yaml", place)
        write(configuration(backends, provider, gateway.admin_port, **more), gateway.configuration)
        world = World(folder, dict(backends), provider, gateway)
        stack.callback(gateway.kill)
        gateway.start()
        for client in list(CLIENTS)[:3]:
            world.agents.append(await stack.enter_async_context(world.agent(client)))
        world.load = Load(world.agents, backends)
        world.load.start()
        stack.push_async_callback(world.load.stop)
        await world.warm()
        yield world
