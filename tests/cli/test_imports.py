"""A gateway loads what it serves with, and nothing else: each package costs time at the start, and memory for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

from gateway.demo.sample import make_shop

_PROGRAM: Final = """
import asyncio, json, sys
from pathlib import Path
import gateway.cli.main, gateway.cli.serve
from gateway.server.app import open_gateway
from gateway.tools.loading import load_with_tools

async def serve():
    async with open_gateway(load_with_tools(Path(sys.argv[1]))):
        pass

asyncio.run(serve())
print(json.dumps(list(sys.modules)))
"""
SPARED: Final = (
    *("asyncpg", "aiomysql", "pymysql", "oracledb"),  # other engines
    *("redis", "aiocache"),
    *("opentelemetry.sdk", "opentelemetry.exporter", "grpc", "google", "requests"),  # no collector is named
    *("uvicorn", "starlette", "sse_starlette", "python_multipart", "click"),  # what else the SDK can serve with
    *("httpx2", "mcp.client", "mcp.server.mcpserver", "mcp.server.auth", "mcp.server.lowlevel"),
    *("gateway.demo", "gateway.cli.doctor", "gateway.net.agent"),
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """The modules of a gateway with SQLite that has begun to serve."""
    folder = tmp_path_factory.mktemp("lean")
    make_shop(folder / "shop.sqlite")
    settings = {
        "server": {"port": 0},
        "admin": {"port": 0},
        "auth": {"mode": "none"},
        "sources": {"shop": {"engine": "sqlite", "path": str(folder / "shop.sqlite"), "required": True}},
        "tools": {"names": {"description": "Names.", "source": "shop", "statement": "select name from customers"}},
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-c", _PROGRAM, str(folder / "gateway.yaml")]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return frozenset(json.loads(result.stdout.splitlines()[-1]))


def test_it_serves(loaded: frozenset[str]) -> None:
    assert {"mcp.server.runner", "gateway.database.sqlite", "aiohttp.web"} <= loaded


@pytest.mark.parametrize("package", SPARED)
def test_a_gateway_with_sqlite_does_without(package: str, loaded: frozenset[str]) -> None:
    assert not [name for name in loaded if name == package or name.startswith(f"{package}.")]
