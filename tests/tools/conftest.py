"""A small configuration of tools, and a database for them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config.loader import Configuration
from gateway.config.models import GatewaySettings
from gateway.config.problems import KeyPath, Place
from gateway.database.sources import build_engine
from gateway.tools.catalog import Catalog, build

Make = Callable[..., Configuration]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Five customers."""
    path = tmp_path / "shop.sqlite"
    db = sqlite3.connect(path)
    db.executescript(
        """
        create table customers (id integer primary key, name text not null unique, balance decimal(10, 2), extra json);
        insert into customers values
            (1, 'Ada', 1.5, '{"vip": true}'), (2, 'Bob', null, null), (3, 'Cyd', 2, null), (4, 'Dee', 3, null),
            (5, 'Eve', 4, null);
        """
    )
    db.close()
    return path


@pytest.fixture
def configure(database: Path) -> Make:
    """Makes a configuration of the given tools over a read-only and a read-write source."""

    def make(tools: dict[str, dict[str, Any]], **sections: Any) -> Configuration:
        written = {
            "sources": {
                "shop": {"engine": "sqlite", "path": str(database)},
                "shop_rw": {"engine": "sqlite", "path": str(database), "access": "read-write"},
            },
            "tools": {name: {"description": "A tool.", "source": "shop"} | tool for name, tool in tools.items()},
            **sections,
        }
        settings = GatewaySettings.model_validate_json(json.dumps(written))
        file = Path("gateway.yaml")
        places: dict[KeyPath, Place] = {("tools", name): Place(file, 10 * line) for line, name in enumerate(tools, 1)}
        return Configuration(settings, places)

    return make


def built(configuration: Configuration) -> Catalog:
    """The catalog of a configuration, with its real engines."""
    return build(configuration, {name: build_engine(each) for name, each in configuration.settings.sources.items()})
