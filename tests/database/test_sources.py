"""Sources: the registry, drivers that are missing, and many databases at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.models import GatewaySettings
from gateway.database.sources import DriverMissing, build_engine
from tests.database.conftest import make_sqlite, sqlite_settings
from tests.database.support import open_sources, run, statement, until
from tests.servers.postgresql import PostgresqlServer


def test_a_driver_is_imported_only_when_it_is_needed() -> None:
    code = (
        "import sys, pathlib; from gateway.config.sources import SqliteSettings; from gateway.database import sources;"
        "sources.build_engine(SqliteSettings(engine='sqlite', path=pathlib.Path('x.db')));"
        "sys.exit('asyncpg' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_missing_driver_says_what_to_install(postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gateway.database.postgresql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(DriverMissing, match=r"mcp-database-gateway\[postgresql\]"):
        build_engine(postgresql.settings())


async def test_one_source_that_is_down_disturbs_no_other(tmp_path: Path) -> None:
    make_sqlite(tmp_path / "good.db")
    settings = GatewaySettings(
        sources={
            "good": sqlite_settings(tmp_path / "good.db"),
            "bad": sqlite_settings(tmp_path / "missing.db", required=True),
        }
    )
    engines = {name: build_engine(source, name) for name, source in settings.sources.items()}
    item = statement(engines["good"], "select id from item", name="ids")
    async with open_sources(settings, engines, {"good": [item], "bad": [item]}) as sources:
        await until(lambda: "ids" in sources["good"].shapes)
        assert len((await run(sources["good"], item)).rows) == 3
        await until(lambda: sources["bad"].trouble.startswith("source_unavailable"))
        assert not sources["bad"].is_up
        assert sources["bad"].required
        make_sqlite(tmp_path / "missing.db")
        await until(lambda: "ids" in sources["bad"].shapes)
        assert len((await run(sources["bad"], item)).rows) == 3
