"""Replicas of the gateway as processes of their own, each with an address of its own, as pods have."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.servers.local import Guardian, free_port

_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 60.0


class Network:
    """Where replicas are: one port for calls and one for operators, on loopback addresses that nobody else uses."""

    def __init__(self) -> None:
        chance = random.SystemRandom()
        self._prefix = f"127.{chance.randrange(1, 255)}.{chance.randrange(1, 255)}"
        self.port = free_port()
        self.admin_port = free_port()
        self._next = 1

    def address(self) -> str:
        """The next address."""
        self._next += 1
        return f"{self._prefix}.{self._next}"


class Replica:
    """One process; its configuration takes HOST, PORT and ADMIN_PORT from the environment.

    Args:
        network: where it is.
        configuration: its file.
        environment: more variables.
    """

    def __init__(self, network: Network, configuration: Path, environment: Mapping[str, str]) -> None:
        self.address = network.address()
        self.url = f"http://{self.address}:{network.port}/mcp"
        self.probe_url = f"http://{self.address}:{network.admin_port}/healthz/ready"
        self.log = configuration.parent / f"{self.address}.log"
        place = {"HOST": self.address, "PORT": str(network.port), "ADMIN_PORT": str(network.admin_port)}
        command = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(configuration)]
        with self.log.open("wb") as log:
            self.process: subprocess.Popen[Any] = subprocess.Popen(
                command, cwd=_ROOT, env=os.environ | environment | place, stdout=log, stderr=log
            )
        self._guardian: Guardian | None = Guardian(self.process.pid)

    async def probe(self, http: aiohttp.ClientSession) -> int:
        """What the readiness probe is answered; 0 when nobody answers."""
        try:
            async with http.get(self.probe_url, timeout=aiohttp.ClientTimeout(total=5)) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def until_ready(self, http: aiohttp.ClientSession, period: float) -> None:
        """Probe it, a period apart, until it is ready."""
        async with asyncio.timeout(_PATIENCE):
            while await self.probe(http) != 200:
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(period)

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)

    async def until_ended(self, limit: float) -> int:
        """Its exit code; TimeoutError when it still runs after so many seconds."""
        async with asyncio.timeout(limit):
            while (code := self.process.poll()) is None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        return code

    def kill(self) -> None:
        """End it, in whatever state it is; harmless when it was ended."""
        self.process.kill()
        self.process.wait(10)
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None
