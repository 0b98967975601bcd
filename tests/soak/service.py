"""The gateway that is soaked: `gateway serve` on PostgreSQL, every way in open, its bounds soon reached."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.bench import gateways
from tests.bench.contenders import Server
from tests.bench.identity import SCOPE
from tests.bench.world import World
from tests.servers.local import free_port

_WRITER: Final = "soak_writer"
_PASSWORD: Final = "soak-writer-password"
_TABLES: Final = f"""
create table if not exists soak (key text primary key, times integer not null default 1);
do $$ begin create role {_WRITER} login password '{_PASSWORD}'; exception when duplicate_object then null; end $$;
grant select, insert on soak to {_WRITER};
truncate soak;
"""
_KEY: Final = {"key": {"type": "string", "maxLength": 64}}
_REMEMBERED: Final = 100
"""Verdicts that are kept: few enough that the memory for them is used up in the first minutes."""


def tools(generation: int) -> dict[str, dict[str, Any]]:
    """The tools of one configuration of many, which `generation` tells apart."""
    return {
        **{name: {"source": "shop", **tool} for name, tool in gateways.TOOLS.items()},
        "generation": {
            "source": "shop",
            "description": "Which configuration answers.",
            "statement": f"select {generation} as generation",
        },
        "sleep": {
            "source": "shop",
            "description": "Takes its time.",
            "parameters": {"seconds": {"type": "number"}},
            "statement": "select pg_sleep(:seconds) is null as slept",
        },
        "sleep_in_haste": {
            "source": "hasty",
            "description": "Takes more time than it has.",
            "statement": "select pg_sleep(20) is null as slept",
        },
        "record": {
            "source": "ledger",
            "description": "Writes a key down, which must be new.",
            "writes": True,
            "parameters": _KEY,
            "statement": "insert into soak (key) values (:key) returning key",
        },
        "record_once": {
            "source": "ledger",
            "description": "Writes a key down, if it is new.",
            "writes": True,
            "idempotent": True,
            "parameters": _KEY,
            "statement": "insert into soak (key) values (:key) on conflict do nothing",
        },
    }


@dataclass
class Service:
    """The running gateway.

    Attributes:
        server: the process and its log.
        world: its surroundings.
        settings: its configuration, without tools.
        folder: of the configuration's files.
        generation: of the configuration in force, or about to be.
        reloads: how often it was told to reload, those included that it had to refuse.
    """

    server: Server
    world: World
    settings: dict[str, Any]
    folder: Path
    generation: int = 0
    reloads: int = 0

    def reload(self) -> None:
        """Put another configuration in place; every third is broken, and every second has another source in it."""
        self.reloads += 1
        if self.reloads % 3:
            self.generation += 1
            sources = dict(self.settings["sources"])
            sources["hasty"] = sources["hasty"] | {"statement_timeout": f"{200 + self.generation // 2}ms"}
            self._replace("gateway.yaml", yaml.safe_dump(self.settings | {"sources": sources}))
            self._replace("tools-0.yaml", json.dumps({"tools": tools(self.generation)}))
        else:
            self._replace("tools-0.yaml", json.dumps({"tools": {"broken": {"scoops": [SCOPE]}}}))
        self.server.process.send_signal(signal.SIGHUP)

    def _replace(self, name: str, text: str) -> None:
        partial = self.folder / f".{name}.partial"
        partial.write_text(text)
        partial.rename(self.folder / name)


def _settings(world: World, admin: int) -> dict[str, Any]:
    settings = gateways.configuration(world, admin={"port": admin}, pool={"min": 2, "max": 8})
    shop = settings["sources"]["shop"]
    password = world.folder / "soak-password"
    password.write_text(_PASSWORD)
    settings["sources"] = {
        "shop": shop,
        "hasty": shop | {"statement_timeout": "200ms", "pool": {"min": 1, "max": 4, "max_per_client": 4}},
        "ledger": shop | {"access": "read-write", "user": _WRITER, "password": f"${{file:{password}}}"},
    }
    settings["auth"] |= {"cache": {"max_entries": _REMEMBERED}}
    settings["features"] = {"sessions": True, "http_sse": True}
    settings["tools"] = tools(0)
    return settings


async def _fill(world: World) -> None:
    admin = await world.postgresql.admin()
    try:
        await admin.execute(_TABLES)
    finally:
        await admin.close()


@contextmanager
def serving(world: World) -> Iterator[Service]:
    """Run it until the block ends; its tables are there and empty."""
    asyncio.run(_fill(world))
    settings = _settings(world, free_port())
    overrides: Mapping[str, Any] = {name: settings[name] for name in ("admin", "auth", "features", "sources", "tools")}
    with gateways.gateway(world, "soak", **overrides) as server:
        server.check(gateways.recipe(world.token()))
        rest = {section: value for section, value in settings.items() if section != "tools"}
        yield Service(server, world, rest, world.folder / f"gateway-{server.port}")
