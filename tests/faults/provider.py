"""The development identity provider as a process of its own, to kill, freeze, slow down and confuse.

Run as a program it serves until its standard input ends: the first line is its settings, each further one an
order, all of them JSON; it answers `ok`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from gateway.demo.identity import IdentityProvider, _Key
from gateway.net.oauth import ClientCredentials
from tests.servers import tree
from tests.servers.local import HOST, Guardian, free_port

_ROOT: Final = Path(__file__).parents[2]
AUDIENCE: Final = "https://gateway.faults/mcp"
SCOPES: Final = ("data:read", "data:write")
SLOW: Final = 10.0
GARBAGE: Final = b"<html>\xff\xfe<h1>502 Bad Gateway</h1>" + b"\0" * 64
"""What a broken load balancer may answer with, under status 200."""


class Provider:
    """The provider as the tests see it; its keys and its port stay over restarts.

    Args:
        clients: name -> secret; each may have all scopes.
    """

    def __init__(self, clients: Mapping[str, str]) -> None:
        self.clients = dict(clients)
        self.port = free_port()
        self.issuer = f"http://{HOST}:{self.port}"
        self.keys = [_told(_Key.generate())]
        self._process: subprocess.Popen[bytes] | None = None
        self._guardian: Guardian | None = None

    def start(self, prefix: Sequence[str] = ()) -> None:
        """Start, and wait until it serves.

        Args:
            prefix: words before the command, such as faketime's.
        """
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.faults.provider"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._guardian = Guardian(self._process.pid)
        self._order({"clients": self.clients, "port": self.port, "keys": self.keys})

    def behave(self, how: str) -> None:
        """Be `honest`, `slow` (10 s) or answer with `garbage` from now on."""
        self._order({"how": how})

    def rotate(self, *, keep_old: bool) -> None:
        """Sign with a new key; the old one stays published, or vanishes as after a leak."""
        self.keys = [_told(_Key.generate()), *(self.keys if keep_old else ())]
        self._order({"keys": self.keys})

    def _order(self, order: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"ok\n"

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP freezes it, SIGCONT thaws it."""
        assert self._process is not None
        tree.send([self._process.pid], number)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)
            self._process = None
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None

    @staticmethod
    def new_key() -> dict[str, str]:
        """A key that nobody has published."""
        return _told(_Key.generate())

    def mint(self, client: str, *, key: Mapping[str, str] | None = None, **how: Any) -> str:
        """A new access token without asking, as the provider would sign it; see `IdentityProvider.issue`.

        Args:
            key: to sign with, instead of the current one.
        """
        twin = _Moody({name: (secret, SCOPES) for name, secret in self.clients.items()}, AUDIENCE)
        twin.issuer = self.issuer
        twin.obey({"keys": [key or self.keys[0]]})
        return twin.issue(client, **how)

    async def token(self, client: str) -> str:
        """A new access token, by client credentials."""
        return await ClientCredentials(f"{self.issuer}/token", client, self.clients[client]).token()


def _told(key: _Key) -> dict[str, str]:
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"kid": key.kid, "pem": pem.decode()}


def _heard(told: Mapping[str, str]) -> _Key:
    private = serialization.load_pem_private_key(told["pem"].encode(), None)
    assert isinstance(private, RSAPrivateKey)
    return _Key(told["kid"], private)


class _Moody(IdentityProvider):
    """The development provider, with bad days."""

    how = "honest"

    def application(self) -> web.Application:
        app = super().application()
        app.middlewares.append(self._behave)
        return app

    @web.middleware
    async def _behave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.how == "garbage":
            return web.Response(body=GARBAGE, content_type="application/json")
        if self.how == "slow":
            await asyncio.sleep(SLOW)
        return await handler(request)

    def obey(self, order: Mapping[str, Any]) -> None:
        self.how = order.get("how", self.how)
        if "keys" in order:
            self._keys = [_heard(told) for told in order["keys"]]


async def _serve() -> None:
    first = json.loads(sys.stdin.buffer.readline())
    clients = {name: (secret, SCOPES) for name, secret in first["clients"].items()}
    async with _Moody(clients, AUDIENCE, first["port"]) as provider:
        provider.obey(first)
        print("ok", flush=True)
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            provider.obey(json.loads(line))
            print("ok", flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
