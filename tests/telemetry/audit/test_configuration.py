"""What the audit tells of a configuration: a hash, keys that differ, never a value or a secret."""

from __future__ import annotations

from pathlib import Path

from gateway.config.loader import load
from gateway.config.models import GatewaySettings
from gateway.telemetry.audit import events
from gateway.telemetry.audit.configuration import difference, settings_hash

BASE = """
auth: {mode: none}
sources:
  shop: {engine: mysql, host: db, database: shop, user: reader, password: "${env:PASSWORD}"}
tools:
  one: {description: One., source: shop, statement: select 1 as one}
"""


def settings(folder: Path, text: str = BASE, password: str = "hunter2") -> GatewaySettings:
    (folder / "gateway.yaml").write_text(text)
    return load(folder / "gateway.yaml", environment={"PASSWORD": password}).settings


def test_the_hash_is_of_everything_but_secrets(tmp_path: Path) -> None:
    first = settings_hash(settings(tmp_path))
    assert settings_hash(settings(tmp_path)) == first
    assert settings_hash(settings(tmp_path, password="hunter3")) == first
    assert settings_hash(settings(tmp_path, BASE.replace("select 1", "select 2"))) != first
    assert settings_hash(settings(tmp_path, BASE.replace("user: reader", "user: writer"))) != first


def test_the_difference_names_keys_and_tells_no_value(tmp_path: Path) -> None:
    other = BASE.replace("one: {description: One.", "two: {max_rows: 7, description: Zwei.").replace(
        "host: db", "host: x"
    )
    told = difference(settings(tmp_path), settings(tmp_path, other, "hunter3"))
    assert told["changed"] == ["sources.shop.host"]
    assert "tools.two.max_rows" in told["added"]
    assert "tools.one.statement" in told["removed"]
    assert told["old"] != told["new"]
    assert told.keys() | {"trigger"} == events.EVENTS[events.CONFIGURATION_CHANGED].fields.keys()
    text = str(told)
    assert not any(value in text for value in ("hunter", "Zwei", "select", "'x'"))


def test_a_list_that_grew_is_told_by_its_new_item(tmp_path: Path) -> None:
    longer = BASE + "server: {allowed_hosts: [a, b]}\n"
    shorter = BASE + "server: {allowed_hosts: [a]}\n"
    assert difference(settings(tmp_path, shorter), settings(tmp_path, longer))["added"] == ["server.allowed_hosts.1"]
