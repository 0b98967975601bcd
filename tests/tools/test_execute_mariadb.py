"""From a tool's configuration to its result, on a real MariaDB."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway.config.loader import Configuration
from gateway.config.models import GatewaySettings
from gateway.config.problems import KeyPath, Place
from gateway.database.sources import build_engine
from gateway.tools.catalog import build
from gateway.tools.results import ToolResult
from tests.database.support import open_sources
from tests.servers.mariadb import MariadbServer
from tests.tools.test_execute import House, content

TOOLS: dict[str, dict[str, Any]] = {
    "find": {
        "parameters": {"q": {"type": "string"}, "most": {"type": "integer", "default": 10}},
        "statement": (
            "select id, name, ':q' as literal, balance from customers -- :q in a comment\n"
            "where name like concat('%', :q, '%') or email = :q order by id limit :most"
        ),
    },
    "pay": {
        "writes": True,
        "parameters": {"id": {"type": "integer"}, "amount": {"type": "number"}},
        "statement": "update customers set balance = balance + :amount where id = :id and :amount > 0",
    },
}


async def test_a_parameter_that_is_used_twice_is_bound_twice(mariadb: MariadbServer) -> None:
    await mariadb.execute(
        "create or replace table customers"
        " (id int primary key, name varchar(50), email varchar(50), balance decimal(20,4)) charset utf8mb4",
        "insert into customers values (1, 'Ada', 'ada@a', 1.5), (2, 'Böb 😀', 'Ada', 0), (3, 'Cyd', null, null)",
    )
    shop = {
        "engine": "mysql",
        "host": mariadb.host,
        "port": mariadb.port,
        "database": mariadb.database,
        "user": mariadb.user,
        "password": mariadb.password,
        "access": "read-write",
    }
    written = {
        "sources": {"shop": shop},
        "tools": {name: {"description": "A tool.", "source": "shop"} | tool for name, tool in TOOLS.items()},
    }
    settings = GatewaySettings.model_validate_json(json.dumps(written))
    places: dict[KeyPath, Place] = {
        ("tools", name): Place(Path("gateway.yaml"), line) for line, name in enumerate(TOOLS, 1)
    }
    engines = {name: build_engine(each) for name, each in settings.sources.items()}
    catalog = build(Configuration(settings, places), engines)
    async with open_sources(settings, engines, catalog.statements()) as sources:
        house = House(catalog, sources)
        found: ToolResult = await house.call("find", q="Ada")
        assert content(found)["rows"] == [
            {"id": 1, "name": "Ada", "literal": ":q", "balance": 1.5},
            {"id": 2, "name": "Böb 😀", "literal": ":q", "balance": 0.0},
        ]
        assert b'"balance":1.5000' in (found.structured or b"")
        assert content(await house.call("find", q="😀", most=1))["row_count"] == 1
        assert content(await house.call("find", q="x' or 1=1 -- "))["row_count"] == 0
        assert content(await house.call("pay", id=3, amount=Decimal("0.1")))["affected_rows"] == 1
        assert content(await house.call("pay", id=1, amount=Decimal("0.1")))["affected_rows"] == 1
        assert b'"balance":1.6000' in ((await house.call("find", q="Ada")).structured or b"")
        assert content(await house.call("pay", id=1, amount=-1))["affected_rows"] == 0
