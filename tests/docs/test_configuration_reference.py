"""The page on configuration names every setting as the models define it, and every YAML example loads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.config import (
    audit,
    auth,
    features,
    introspection,
    limits,
    logins,
    models,
    redis,
    rules,
    server,
    sources,
    stdio,
    telemetry,
    tools,
    toolsets,
)
from gateway.config.base import Settings
from gateway.config.loader import json_schema, load
from gateway.config.units import DURATION_PATTERN, SIZE_PATTERN, format_duration, format_size

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/reference/configuration.md"

SECTIONS: Final[Mapping[str, type[Settings]]] = {
    "Sections": models.GatewaySettings,
    "`server`": server.ServerSettings,
    "`server.tls`": server.ListenerTlsSettings,
    "`admin`": server.AdminSettings,
    "`auth`": auth.AuthSettings,
    "`auth.issuers`, each": auth.IssuerSettings,
    "`auth.issuers.introspection`": introspection.IntrospectionSettings,
    "`auth.cache`": auth.VerdictCacheSettings,
    "`limits`": limits.LimitSettings,
    "`audit`": audit.AuditSettings,
    "`audit.sinks`, each": audit.AnySinkSettings,
    "`audit.sinks`, each: what all can be told": audit.SinkSettings,
    "`audit.sinks.file`": audit.FileSinkSettings,
    "`audit.sinks.postgresql`": audit.PostgresqlSinkSettings,
    "`limits.clients`, each": limits.ClientLimitSettings,
    "`limits.scopes`, each": limits.ScopeLimitSettings,
    "`limits.tools.NAME`": limits.ToolLimitSettings,
    "`redis`": redis.RedisSettings,
    "`telemetry`": telemetry.TelemetrySettings,
    "`telemetry.traces`": telemetry.TraceSettings,
    "`telemetry.logs`": telemetry.LogSettings,
    "`telemetry.metrics`": telemetry.MetricSettings,
    "`features`": features.FeatureSettings,
    "`deployment`": models.DeploymentSettings,
    "`stdio`": stdio.StdioSettings,
    "`sources.NAME`": sources.SourceSettings,
    "`sources.NAME` with `engine: postgresql`": sources.PostgresqlSettings,
    "`sources.NAME.hosts`, each": sources.HostSettings,
    "`sources.NAME.token`": logins.TokenSettings,
    "`sources.NAME` with `engine: mysql`": sources.MysqlSettings,
    "`sources.NAME` with `engine: oracle`": sources.OracleSettings,
    "`sources.NAME.hosts` of Oracle, each": sources.OracleHostSettings,
    "`sources.NAME.oci_token`": logins.OciTokenSettings,
    "`sources.NAME` with `engine: sqlite`": sources.SqliteSettings,
    "`sources.NAME.pool`": sources.PoolSettings,
    "`sources.NAME.tls`": logins.TlsSettings,
    "`sources.NAME.credentials`, each": logins.CredentialSettings,
    "`sources.NAME.credentials.when`": logins.ConditionSettings,
    "`tools.NAME`": tools.ToolSettings,
    "`tools.NAME.outputs.NAME`": tools.OutputSettings,
    "`tools.NAME.allow`, each": rules.RuleSettings,
    "`toolsets.NAME`": toolsets.ToolsetSettings,
}


def rows(model: type[Settings]) -> list[str]:
    """The table of one section: a line for each key that the model itself defines."""
    schema = model.model_json_schema()
    required = schema.get("required", ())
    table = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name in model.__annotations__:
        key = model.model_fields[name].alias or name
        node = schema["properties"][key]
        default = "required" if key in required else _default(node)
        meaning = node["description"].replace("\n", " ").replace("|", "\\|")
        table.append(f"| `{key}` | {_type(node)} | {default} | {meaning} |")
    return table


def _default(node: dict[str, Any]) -> str:
    value = node.get("default")
    if value is None or isinstance(value, dict):
        return ""
    pattern = _plain(node).get("pattern")
    if pattern == DURATION_PATTERN:
        return f"`{format_duration(value)}`"
    if pattern == SIZE_PATTERN:
        return f"`{format_size(value)}`"
    if isinstance(value, list):
        items = [f'"{each}"' if ":" in each else each for each in value]
        return f"`[{', '.join(items)}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _plain(node: dict[str, Any]) -> dict[str, Any]:
    """The schema without its null."""
    return next((each for each in node.get("anyOf", ()) if each.get("type") != "null"), node)


def _type(node: dict[str, Any]) -> str:
    node = _plain(node)
    kind = node.get("type")
    if "$ref" in node or "discriminator" in node or kind == "object":
        return "mapping"
    if kind == "array":
        return f"list of {_type(node['items'])}"
    if "const" in node or "enum" in node:
        return ", ".join(f"`{each}`" for each in node.get("enum", [node.get("const")]))
    if kind == "integer":
        bounds = (node.get("minimum"), node.get("maximum"))
        return f"integer, {bounds[0]} to {bounds[1]}" if bounds[1] is not None else f"integer, at least {bounds[0]}"
    if isinstance(kind, list):
        return ", ".join(each.replace("string", "text") for each in kind)
    named = {DURATION_PATTERN: "duration", SIZE_PATTERN: "size"}
    formats = {"path": "path", "password": "secret"}
    return (
        named.get(node.get("pattern", "")) or formats.get(node.get("format", "")) or str(kind).replace("string", "text")
    )


def _sections(page: str) -> dict[str, str]:
    parts = re.split(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("heading", SECTIONS)
def test_table_is_what_the_model_says(heading: str) -> None:
    table = [line for line in _sections(PAGE.read_text())[heading].splitlines() if line.startswith("|")]
    assert table == rows(SECTIONS[heading])


def _subclasses(model: type[Settings]) -> Iterator[type[Settings]]:
    for each in model.__subclasses__():
        if each.__module__.startswith("gateway."):
            yield each
        yield from _subclasses(each)


def test_every_model_has_its_section() -> None:
    defined = {each for each in _subclasses(Settings) if each.__annotations__}
    assert set(SECTIONS.values()) == defined


@dataclass(frozen=True)
class Example:
    """A block of YAML in the documentation."""

    page: Path
    line: int
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _blocks() -> Iterator[Example]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text()
        for block in re.finditer(r"^( *)```yaml\n(.*?)^\1```$", text, flags=re.MULTILINE | re.DOTALL):
            body = "".join(line.removeprefix(block[1]) for line in block[2].splitlines(keepends=True))
            line = text.count("\n", 0, block.start()) + 1
            yield Example(page, line, body.partition("\n")[0], body)
    for file in sorted((ROOT / "docs").rglob("*.yaml")):
        yield Example(file, 1, "# gateway.yaml", file.read_text())


EXAMPLES: Final = tuple(_blocks())
BASE: Final[dict[str, Any]] = {
    "auth": {"issuers": [{"issuer": "https://idp.example.com/", "audiences": ["https://mcp.example.com/mcp"]}]},
    "sources": {"shop": {"engine": "sqlite", "path": "shop.db", "access": "read-write"}},
}


def _environment(text: str) -> dict[str, str]:
    """Something that fits the name of each variable that has no default."""
    names = re.findall(r"\$\{env:(\w+)\}", text)
    fitting = {"PORT": "5432", "URL": "https://example.com", "ISSUER": "https://idp.example.com/", "KEY": "k" * 32}
    return {name: next((value for part, value in fitting.items() if part in name), "word") for name in names}


def _write(example: Example, folder: Path, name: str) -> None:
    """Write the example with files behind its file references, and fragments on top of a base."""
    secret = folder / "secret"
    secret.write_text("a word of a good length for a key")
    text = re.sub(r"\$\{file:[^}]+\}", f"${{file:{secret}}}", example.text)
    if example.mark.startswith("# fragment"):
        fragment = yaml.safe_load(text)
        sources = {**BASE["sources"], **fragment.pop("sources", {})}
        text = yaml.safe_dump({**BASE, **fragment, "sources": sources})
    (folder / name).write_text(text)


@pytest.mark.parametrize("example", [each for each in EXAMPLES if not each.mark.startswith("# file: ")], ids=str)
def test_example_loads_and_editors_do_not_mark_it(example: Example, tmp_path: Path) -> None:
    assert example.mark.startswith(("# gateway.yaml", "# fragment", "# other: ")), "say what the block is"
    if not example.mark.startswith("# other: "):
        _write(example, tmp_path, "gateway.yaml")
        load(tmp_path / "gateway.yaml", environment=_environment(example.text))
        data = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
        assert not list(Draft202012Validator(json_schema()).iter_errors(data))


@pytest.mark.parametrize("page", {each.page for each in EXAMPLES if each.mark.startswith("# file: ")}, ids=str)
def test_files_of_one_page_load_as_a_folder(page: Path, tmp_path: Path) -> None:
    files = [example for example in EXAMPLES if example.page == page and example.mark.startswith("# file: ")]
    for example in files:
        _write(example, tmp_path, example.mark.removeprefix("# file: ").strip())
    load(tmp_path, environment=_environment("".join(example.text for example in files)))
