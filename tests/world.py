"""A real gateway for tests: sample shop, development identity provider, real verification, real HTTP."""

from __future__ import annotations

import io
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from gateway.config.loader import load
from gateway.demo.identity import IdentityProvider
from gateway.demo.sample import make_shop
from gateway.net.oauth import ClientCredentials
from gateway.server.app import Gateway, open_gateway

AUDIENCE: Final = "https://gateway.test/mcp"
MODERN: Final = "2026-07-28"
CLIENTS: Final = {
    "reader": ("reader-secret", ("customers:read", "orders:read")),
    "clerk": ("clerk-secret", ("customers:read", "orders:write")),
    "stranger": ("stranger-secret", ("nothing:here",)),
}

CONFIGURATION: Final = """
server: {host: 127.0.0.1, port: 0}
admin: {port: 0}
limits: {requests_per_minute: 100000, burst: 10000, failed_logins_burst: 10000, concurrency_per_client: 100}
auth:
  issuers:
    - issuer: ${env:ISSUER}
      audiences: ["https://gateway.test/mcp"]
sources:
  shop: {engine: sqlite, path: "${env:DATABASE}", required: true, statement_timeout: 20s}
  shop_rw: {engine: sqlite, path: "${env:DATABASE}", access: read-write, statement_timeout: 20s}
tools:
  customer_by_id:
    title: Customer by number
    description: One customer.
    source: shop
    scopes: ["customers:read"]
    parameters:
      id: {type: integer, minimum: 1, description: Customer number}
    statement: select id, name, email from customers where id = :id
  customers_in:
    description: Customers of a country.
    source: shop
    scopes: ["customers:read"]
    parameters:
      country: {type: string, pattern: "[A-Z]{2}", x-mcp-header: Country}
    statement: select id, name from customers where country = :country order by id
    max_rows: 5
  orders_total:
    description: The number of orders.
    source: shop
    scopes: ["orders:read"]
    statement: select count(*) as total from orders
  count_slowly:
    description: Counts for a long time.
    source: shop
    scopes: ["customers:read"]
    parameters: {n: {type: integer, minimum: 1}}
    statement: |
      with recursive t(i) as (select 1 union all select i + 1 from t where i < :n) select count(*) as counted from t
  rename_slowly:
    description: Renames a customer after a long count.
    source: shop_rw
    scopes: ["orders:write"]
    writes: true
    parameters: {id: {type: integer}, name: {type: string}, n: {type: integer}}
    statement: |
      update customers set name = :name where id = :id and
      (with recursive t(i) as (select 1 union all select i + 1 from t where i < :n) select count(*) from t) > 0
  public_note:
    description: Needs the default scope.
    source: shop
    statement: select 'note' as note
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The JSON-RPC response: the body, or the last event of a stream."""
        raw = self.events[-1] if self.is_stream else json.loads(self.body, parse_float=Decimal)
        assert isinstance(raw, dict)
        return raw

    @property
    def is_stream(self) -> bool:
        return self.headers["Content-Type"].startswith("text/event-stream")

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self.body.decode().split("\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    @property
    def result(self) -> dict[str, Any]:
        result = self.message["result"]
        assert isinstance(result, dict)
        return result

    @property
    def error(self) -> dict[str, Any]:
        error = self.message["error"]
        assert isinstance(error, dict)
        return error


def envelope(
    method: str, params: Mapping[str, Any] | None = None, *, meta: Mapping[str, Any] | None = None, identifier: Any = 1
) -> dict[str, Any]:
    """A 2026-07-28 request."""
    full = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        **(meta or {}),
    }
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": {**(params or {}), "_meta": full}}


def routing(body: Mapping[str, Any]) -> dict[str, str]:
    """The headers that a 2026-07-28 request carries beside its body."""
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": str(body["method"])}
    if name := body.get("params", {}).get("name"):
        headers["Mcp-Name"] = str(name)
    return headers


@dataclass
class World:
    """The gateway under test and its surroundings."""

    gateway: Gateway
    provider: IdentityProvider
    database: Path
    http: aiohttp.ClientSession
    _sources: dict[str, ClientCredentials] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return self.gateway.url.removesuffix("/mcp")

    def credentials(self, client: str = "reader") -> ClientCredentials:
        if client not in self._sources:
            secret, _ = CLIENTS[client]
            self._sources[client] = ClientCredentials(self.provider.token_url, client, secret)
        return self._sources[client]

    async def send(
        self,
        body: Any,
        *,
        client: str | None = "reader",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        raw: bytes | None = None,
        method: str = "POST",
        url: str | URL | None = None,
    ) -> Reply:
        """Send one request as it stands and read the answer to its end."""
        sent = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
        given = list(headers.items()) if isinstance(headers, Mapping) else list(headers or ())
        named = {name.lower() for name, _ in given}
        sent = [pair for pair in sent if pair[0].lower() not in named] + given
        if client is not None:
            sent.append(("Authorization", f"Bearer {await self.credentials(client).token()}"))
        data = io.BytesIO(raw if raw is not None else json.dumps(body).encode())
        async with self.http.request(method, url or self.gateway.url, data=data, headers=sent) as response:
            return Reply(response.status, response.headers.copy(), await response.read())

    async def modern(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        client: str | None = "reader",
        meta: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """A well-formed 2026-07-28 request."""
        body = envelope(method, params, meta=meta)
        return await self.send(body, client=client, headers={**routing(body), **(headers or {})})

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None, *, client: str = "reader") -> Reply:
        """A well-formed 2026-07-28 tools/call."""
        return await self.modern("tools/call", {"name": tool, "arguments": dict(arguments or {})}, client=client)

    async def legacy(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        version: str | None = "2025-11-25",
        client: str = "reader",
    ) -> Reply:
        """A request of the handshake era, without a session."""
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params is not None:
            body["params"] = dict(params)
        return await self.send(body, client=client, headers={"MCP-Protocol-Version": version} if version else None)


@asynccontextmanager
async def open_world(
    folder: Path, configuration: str = CONFIGURATION, environment: Mapping[str, str] | None = None, patience: float = 10
) -> AsyncIterator[World]:
    """Start everything on free ports; the gateway is ready when the block begins."""
    database = folder / "shop.sqlite"
    if not database.exists():
        make_shop(database)
    path = folder / "gateway.yaml"
    path.write_text(configuration)
    async with IdentityProvider(clients=CLIENTS, audience=AUDIENCE) as provider, aiohttp.ClientSession() as http:
        variables = {"ISSUER": provider.issuer, "DATABASE": str(database), **(environment or {})}
        async with open_gateway(load(path, environment=os.environ | variables)) as gateway:
            await gateway.until_ready(patience)
            yield World(gateway, provider, database, http)
