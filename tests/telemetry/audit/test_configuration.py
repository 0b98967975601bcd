"""What the audit tells of a configuration: a hash, and what differs, never a secret."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.config.loader import load
from gateway.config.models import GatewaySettings
from gateway.telemetry.audit import events
from gateway.telemetry.audit.configuration import MOST, difference, settings_hash

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


def test_the_difference_names_keys_with_both_values(tmp_path: Path) -> None:
    other = BASE.replace("one: {description: One.", "two: {max_rows: 7, description: Zwei.").replace(
        "host: db", "host: x"
    )
    told = difference(settings(tmp_path), settings(tmp_path, other, "hunter3"))
    assert told["changed"] == {"sources.shop.host": ["db", "x"]}
    assert told["added"]["tools.two.max_rows"] == 7
    assert told["removed"]["tools.one.source"] == "shop"
    assert told["old"] != told["new"]
    fields = events.EVENTS[events.CONFIGURATION_CHANGED].fields.keys()
    assert told.keys() | {"trigger", "more"} == fields


def test_no_secret_no_identifier_and_no_long_text_is_in_the_difference(tmp_path: Path) -> None:
    other = BASE.replace("user: reader", "user: jane@example.com").replace("select 1 as one", "select 2 as one")
    other = other.replace("One.", "x" * 300)
    told = difference(settings(tmp_path, password="hunter2"), settings(tmp_path, other, "hunter3"))
    assert told["changed"]["sources.shop.user"] == ["reader", "(withheld)"]
    before, after = told["changed"]["tools.one.statement"]
    assert before.startswith("sha256:")
    assert after.startswith("sha256:")
    assert before != after
    assert told["changed"]["tools.one.description"][0] == "One."
    assert not any(word in json.dumps(told) for word in ("hunter", "jane", "select", "xxx"))


def test_what_is_recorded_of_a_change_is_bounded(tmp_path: Path) -> None:
    tool = "  t{}: {{description: One., source: shop, statement: select 1 as one}}\n"
    many = BASE + "".join(tool.format(number) for number in range(100))
    told = difference(settings(tmp_path), settings(tmp_path, many))
    assert len(told["added"]) == MOST
    assert told["more"] > 500


def test_a_list_that_grew_is_told_by_its_new_item(tmp_path: Path) -> None:
    longer = BASE + "server: {allowed_hosts: [a, b]}\n"
    shorter = BASE + "server: {allowed_hosts: [a]}\n"
    told = difference(settings(tmp_path, shorter), settings(tmp_path, longer))
    assert told["added"] == {"server.allowed_hosts.1": "b"}
