"""The schema for editors: what loads is never marked, and slips are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.config.loader import json_schema, load
from gateway.config.models import GatewaySettings
from gateway.config.problems import ConfigError
from tests.config.conftest import ISSUER, Desk

SCHEMA: Final = json_schema()
VALIDATOR: Final = Draft202012Validator(SCHEMA)

EXAMPLE = """\
server: {host: 127.0.0.1, port: 8080, public_url: "https://mcp.example.com", allowed_hosts: [], allowed_origins: [],
  trusted_proxies: [], max_request_bytes: 1MiB, call_timeout: 60s, shutdown_grace: 35s, numbers: exact}
admin: {host: 127.0.0.1, port: "${env:ADMIN_PORT:-9464}"}
auth:
  mode: ${env:MODE:-jwt}
  issuers:
    - issuer: https://idp.example.com/
      audiences: ["https://mcp.example.com/mcp"]
sources:
  shop:
    engine: postgresql
    host: postgres-${env:STAGE:-test}
    port: ${env:PORT:-5432}
    database: shop
    user: gateway_ro
    password: ${env:PASSWORD:-secret}
    access: ${env:ACCESS:-read-only}
    pool: {min: 2, max: 10, acquire_timeout: 3s, idle_timeout: 5m, max_lifetime: 30m, ping_after: 30s, max_waiting: 100}
    connect_timeout: "${env:SECONDS:-5}s"
    statement_timeout: 30s
  local: {engine: "${env:ENGINE:-sqlite}", path: shop.db}
tools:
  customer_by_id:
    title: Customer by number
    description: One customer, with contact data and balance.
    source: ${env:SOURCE:-shop}
    scopes: ["customers:read"]
    parameters:
      id: {type: integer, minimum: 1, description: Customer number}
    statement: select id, name, email, balance from customers where id = :id
    max_rows: 100
    enabled: ${env:ENABLED:-false}
"""


def marks(text: str) -> list[str]:
    """The keys that an editor marks."""
    return sorted({".".join(map(str, error.absolute_path)) for error in VALIDATOR.iter_errors(yaml.safe_load(text))})


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_example_with_references_loads_and_is_not_marked(desk: Desk) -> None:
    desk.write(gateway=EXAMPLE)
    loaded = load(desk.folder, environment={}).settings
    assert loaded.sources["shop"].connect_timeout == 5.0
    assert not loaded.tools["customer_by_id"].enabled
    assert marks(EXAMPLE) == []


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("sorces: {}", ""),
        ("server: {prot: 1}", "server"),
        ("server: {port: '8080'}", "server.port"),
        ("server: {port: 'a${env:PORT}'}", "server.port"),
        ("server: {call_timeout: 60}", "server.call_timeout"),
        ("server: {max_request_bytes: 1MB}", "server.max_request_bytes"),
        ("server: {numbers: maybe}", "server.numbers"),
        ("sources: {a: {engine: db2}}", "sources.a.engine"),
        ("sources: {a: {path: b}}", "sources.a"),
        ("sources: {a: {engine: sqlite, host: b, path: c}}", "sources.a"),
        ("sources: {a: {engine: sqlite, path: c, pool: {min: -1}}}", "sources.a.pool.min"),
        ("sources: {1a: {engine: sqlite, path: c}}", "sources"),
        (
            "sources: {a: {engine: postgresql, host: a, database: a, user: a, password: hunter2}}",
            "sources.a.password",
        ),
        ("tools: {a: {description: b, source: c, statement: d, scopes: []}}", "tools.a.scopes"),
    ],
)
def test_slip_is_marked_where_it_is(text: str, marked: str) -> None:
    assert marks(text) == [marked]


def test_every_setting_is_described_and_defaults_are_as_written() -> None:
    for name, model in {"GatewaySettings": SCHEMA, **SCHEMA["$defs"]}.items():
        for key, node in model["properties"].items():
            assert node.get("description"), f"{name}.{key}"
            if "default" in node:
                assert not list(
                    VALIDATOR.evolve(schema={**node, "$defs": SCHEMA["$defs"]}).iter_errors(node["default"])
                )
    assert set(SCHEMA["properties"]) == set(GatewaySettings.model_fields)


KEYS: Final = sorted({key for model in SCHEMA["$defs"].values() for key in model["properties"]} | {"zzz", "1"})
TEXTS: Final = (
    *("sqlite", "postgresql", "jwt", "none", "5s", "1MiB", "a", "", "https://a.example", "read-write", "10.0.0.0/8"),
    *("${env:NUMBER}", "${env:TEXT}", "${env:NONE}", "a${env:TEXT}", "${env:NUMBER}s", "${file:a.yaml}", "$${", "${"),
)
NUMBERS: Final = st.integers(-1, 70000) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS: Final = st.sampled_from(TEXTS) | NUMBERS | st.booleans() | st.none()
ANYTHING: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that mostly fit a part of the schema."""
    if "$ref" in schema:
        return fitting(SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]])
    if "patternProperties" in schema:
        [inner] = schema["patternProperties"].values()
        return st.dictionaries(st.sampled_from(["a", "b"]), fitting(inner), max_size=2)
    if "properties" in schema and "allOf" not in schema:
        keys = {key: fitting(node) for key, node in schema["properties"].items()}
        required = {key: keys.pop(key) for key in schema.get("required", ())}
        return st.fixed_dictionaries(required, optional=keys)
    if "const" in schema:
        return st.just(schema["const"])
    for several in ("anyOf", "allOf"):
        if several in schema:
            return st.one_of([fitting(each.get("then", each)) for each in schema[several]])
    if schema.get("type") == "array":
        return st.lists(fitting(schema["items"]), min_size=1, max_size=2)
    if schema.get("type") == "integer":
        return st.integers(schema.get("minimum", 0), schema.get("maximum", 1000))
    if schema.get("type") == "boolean":
        return st.booleans()
    if "pattern" in schema:
        return st.sampled_from(["${env:NUMBER}", *schema.get("examples", ["${env:NUMBER}s"])])
    return st.sampled_from(schema.get("enum", ["a", "${env:TEXT}", "$${"]))


def outcome(folder: Path, data: object) -> ConfigError | None:
    """Write and load a configuration."""
    (folder / "a.yaml").write_text(yaml.safe_dump(data))
    try:
        load(folder, environment={"NUMBER": "7", "TEXT": "hunter2"})
    except ConfigError as error:
        return error
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=ANYTHING)
def test_any_file_loads_or_has_placed_problems_without_values_from_elsewhere(tmp_path: Path, data: object) -> None:
    error = outcome(tmp_path, data)
    assert error is None or error.problems
    for problem in error.problems if error else ():
        assert problem.place is not None
        assert "hunter2" not in str(problem)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(section=st.sampled_from(["server", "admin", "limits", "sources", "tools"]), data=st.data())
def test_what_loads_is_not_marked(tmp_path: Path, section: str, data: st.DataObject) -> None:
    written = {
        **yaml.safe_load(ISSUER),
        "sources": {"a": {"engine": "sqlite", "path": "a", "access": "read-write"}},
        section: data.draw(fitting(SCHEMA["properties"][section])),
    }
    error = outcome(tmp_path, written)
    event(f"{section}: {'refused' if error else 'loaded'}")
    assert error or marks((tmp_path / "a.yaml").read_text()) == []
