"""The guide to row-level security, done as it is written: two tenants, each sees only its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

from gateway.config.loader import load
from gateway.context import Call, Principal
from gateway.database.sources import build_engine
from gateway.tools.catalog import build
from gateway.tools.execute import execute
from gateway.tools.results import ToolResult
from tests.database.support import open_sources, until
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import PostgresqlServer

_PAGE = (Path(__file__).parents[2] / "docs/how-to/row-level-security.md").read_text()


def _block(language: str, number: int = 0) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL)[number])


def _caller(**claims: Any) -> Principal:
    return Principal("https://idp.example.com/", "agent", "client", frozenset({"mcp:tools"}), claims)


async def test_each_tenant_sees_only_its_own_on_postgresql(own_postgresql: PostgresqlServer, tmp_path: Path) -> None:
    admin = await own_postgresql.admin()
    await admin.execute(_block("sql"))
    await admin.close()
    await _each_sees_its_own(_block("yaml"), own_postgresql, tmp_path)


async def test_each_tenant_sees_only_its_own_on_mysql(own_mariadb: MariadbServer, tmp_path: Path) -> None:
    await own_mariadb.execute(*filter(None, map(str.strip, _block("sql", 1).split(";"))))
    await _each_sees_its_own(_block("yaml").replace("engine: postgresql", "engine: mysql"), own_mariadb, tmp_path)


async def _each_sees_its_own(text: str, server: PostgresqlServer | MariadbServer, folder: Path) -> None:
    path = folder / "gateway.yaml"
    path.write_text(text)
    place = {"DB_HOST": server.host, "DB_PORT": str(server.port), "DB_NAME": server.database}
    configuration = load(path, environment=os.environ | place | {"DB_PASSWORD": "change-me"})
    engines = {name: build_engine(each, name) for name, each in configuration.settings.sources.items()}
    catalog = build(configuration, engines)
    async with open_sources(configuration.settings, engines, catalog.statements()) as sources:
        await until(lambda: "my_orders" in sources["shop"].shapes)

        async def ask(principal: Principal) -> ToolResult:
            call = Call("id", principal, asyncio.get_running_loop().time() + 20)
            tool = catalog.require("my_orders", call.principal, {})
            return await execute(call, tool, sources[tool.source], {})

        def items(result: ToolResult) -> list[str]:
            return [row["item"] for row in json.loads(result.structured or b"")["rows"]]

        tenants = ["acme", "globex", "nobody", "' or true --"] * 10
        answers = await asyncio.gather(*(ask(_caller(tenant_id=tenant)) for tenant in tenants))
        expected = {"acme": ["anvil", "rocket"], "globex": ["laser"]}
        assert [items(answer) for answer in answers] == [expected.get(tenant, []) for tenant in tenants]
        refused = await ask(_caller())
        assert refused.is_error
        assert refused.code == "access_denied"
        assert "tenant_id is missing" in refused.text
