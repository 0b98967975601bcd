"""The gateway as it is shipped, with tools for the bench, and the requests that agents send it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.bench.contenders import Recipe, Server, python, serving
from tests.bench.floor import QUERY
from tests.bench.identity import AUDIENCE, SCOPE
from tests.bench.world import World
from tests.servers.local import free_port
from tests.world import MODERN, envelope, routing

LEGACY: Final = "2025-11-25"
IDS: Final = 500
"""How many different customers are asked for in turn."""
_TOOLS_IN_A_FILE: Final = 1_000
_INTEGER: Final = {"type": "integer", "minimum": 1}
TOOLS: Final[Mapping[str, Mapping[str, Any]]] = {
    "customer_by_id": {
        "description": "One customer by its number.",
        "parameters": {"id": {**_INTEGER, "description": "Customer number"}},
        "statement": QUERY.replace("$1", ":id"),
    },
    "orders_of_customer": {
        "description": "A customer's orders, the newest first.",
        "parameters": {"id": _INTEGER},
        "statement": """
            select c.name, o.id, o.amount, o.status, o.placed
            from customers c join orders o on o.customer_id = c.id
            where c.id = :id order by o.placed desc, o.id limit 20
        """,
    },
    "revenue_by_country": {
        "description": "What a quarter brought, by country.",
        "parameters": {"first": {"type": "string", "format": "date"}, "last": {"type": "string", "format": "date"}},
        "statement": """
            select 'Customer ' || c.country as who, count(*) as orders, sum(o.amount) as revenue
            from orders o join customers c on c.id = o.customer_id
            where o.placed between :first and :last group by c.country order by revenue desc
        """,
    },
}


_UNBOUNDED: Final = 1_000_000


def configuration(world: World, **overrides: Any) -> dict[str, Any]:
    """The gateway's settings: defaults, but for the quota, and a pool as large as the load has connections.

    Args:
        world: where the database and the provider are.
        overrides: replace whole sections; `pool` and `source` are merged into the source.
    """
    password = world.folder / "password"
    password.write_text(str(world.account["password"]))
    account = {name: value for name, value in world.account.items() if name != "password"}
    pool = {"min": 16, "max": 16, **overrides.pop("pool", {})}
    source = {
        "engine": "postgresql",
        **account,
        "password": f"${{file:{password}}}",
        "tls": {"mode": "verify-full", "ca": str(world.ca)},
        "required": True,
        "pool": {"max_per_client": pool["max"], **pool},  # the load is one client
        **overrides.pop("source", {}),
    }
    settings: dict[str, Any] = {
        "admin": {"port": 0},
        "limits": {
            **dict.fromkeys(
                ("requests_per_minute", "burst", "failed_logins_per_minute", "failed_logins_burst"), 1_000_000
            ),
            "concurrency_per_client": 1000,
        },
        "auth": {"issuers": [{"issuer": world.issuer, "audiences": [AUDIENCE]}], "default_scopes": [SCOPE]},
        "sources": {"shop": source},
        "tools": {name: {"source": "shop", "scopes": [SCOPE], **tool} for name, tool in TOOLS.items()},
    }
    return settings | overrides


def write(settings: Mapping[str, Any], folder: Path) -> Path:
    """A folder of configuration files; one file holds no more than a person would read."""
    folder.mkdir()
    rest = {section: value for section, value in settings.items() if section != "tools"}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(rest))
    tools = list(settings["tools"].items())
    for first in range(0, len(tools), _TOOLS_IN_A_FILE):
        some = {name: dict(tool) for name, tool in tools[first : first + _TOOLS_IN_A_FILE]}
        (folder / f"tools-{first}.yaml").write_text(json.dumps({"tools": some}))
    return folder


@contextmanager
def gateway(
    world: World, name: str = "gateway", *, environment: Mapping[str, str] | None = None, **overrides: Any
) -> Iterator[Server]:
    """`gateway serve` on the measured core; see `configuration` for the overrides."""
    port = free_port()
    path = write(configuration(world, **overrides), world.folder / f"gateway-{port}")
    command = python("-m", "gateway.cli.main", "serve", "--config", path, "--port", port)
    with serving(name, command, port, world.folder, environment) as server:
        yield server


def traced(world: World) -> dict[str, str]:
    """The environment that records one call in ten and sends it to the bench's collector."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": world.issuer,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
    }


def headers(token: str, accept: str = "application/json, text/event-stream") -> dict[str, str]:
    """What every request carries."""
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": accept}


def request(revision: str, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A JSON-RPC request of a revision."""
    if revision == MODERN:
        given = dict(params or {})
        return envelope(method, given, meta=given.pop("_meta", {}))
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params or {})}


def body(revision: str, tool: str, arguments: Mapping[str, Any], *, progress: bool = False) -> dict[str, Any]:
    """A `tools/call`; with progress asked for, the answer is a stream."""
    meta = {"_meta": {"progressToken": 1}} if progress else {}
    return request(revision, "tools/call", {"name": tool, "arguments": dict(arguments), **meta})


def recipe(token: str, revision: str = MODERN, *, progress: bool = False) -> Recipe:
    """The measured call: one row by its number."""
    bodies = [body(revision, "customer_by_id", {"id": number}, progress=progress) for number in range(1, IDS + 1)]
    more = routing(bodies[0]) if revision == MODERN else {"MCP-Protocol-Version": revision}
    expected = b"event: message" if progress else b'"name":"Customer 1"'
    # As the SDKs for Python and TypeScript write.
    written = [json.dumps(each, separators=(",", ":")).encode() for each in bodies]
    return Recipe(headers(token) | more, written, expected)


def folder_of(world: World, name: str) -> Path:
    """A folder of its own for one bench."""
    folder = world.folder / name
    folder.mkdir(exist_ok=True)
    return folder
