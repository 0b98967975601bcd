"""The guide to database accounts, done as it is written: each caller sees what its account may."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config.loader import load
from gateway.context import Call, Principal
from gateway.database.sources import build_engine
from gateway.tools.catalog import build
from gateway.tools.execute import execute
from gateway.tools.results import ToolResult
from tests.database.support import open_sources, until
from tests.servers.postgresql import PostgresqlServer

_PAGE = (Path(__file__).parents[2] / "docs/how-to/database-accounts.md").read_text()


def _block(language: str) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL)[0])


def _caller(claims: Mapping[str, Any], *scopes: str) -> Principal:
    return Principal("https://idp.example.com/", "ada", "client", frozenset({"mcp:tools", *scopes}), claims)


async def test_each_caller_sees_what_its_account_may(own_postgresql: PostgresqlServer, tmp_path: Path) -> None:
    admin = await own_postgresql.admin()
    await admin.execute(_block("sql"))
    await admin.close()
    path = tmp_path / "gateway.yaml"
    path.write_text(_block("yaml"))
    place = {"DB_HOST": own_postgresql.host, "DB_PORT": str(own_postgresql.port), "DB_NAME": own_postgresql.database}
    passwords = dict.fromkeys(["DB_PASSWORD", "PAYROLL_PASSWORD", "CLERK_PASSWORD"], "change-me")
    configuration = load(path, environment=os.environ | place | passwords)
    engines = {name: build_engine(each, name) for name, each in configuration.settings.sources.items()}
    catalog = build(configuration, engines)
    async with open_sources(configuration.settings, engines, catalog.statements()) as sources:
        await until(lambda: sources["shop"].shapes.keys() == {"orders", "salaries"})

        async def ask(principal: Principal, tool: str) -> ToolResult:
            call = Call("id", principal, asyncio.get_running_loop().time() + 20)
            called = catalog.require(tool, principal, {})
            return await execute(call, called, sources[called.source], {})

        clerk = _caller({}, "orders:read")
        payroll = _caller({"realm_access": {"roles": ["payroll"]}}, "orders:read")
        for caller, tool, code in (
            (clerk, "orders", ""),
            (clerk, "salaries", "access_denied"),
            (payroll, "orders", ""),
            (payroll, "salaries", ""),
            (_caller({}), "orders", "access_denied"),
        ):
            assert (await ask(caller, tool)).code == code
        assert "no database account" in (await ask(_caller({}), "orders")).text
