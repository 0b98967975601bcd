"""The page on clients names tests and versions that there are, and settings that can be pasted."""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

from tests.clients.installs import FASTMCP

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/clients.md").read_text()


def test_the_tests_that_it_names_are_there() -> None:
    named = set(re.findall(r"`(tests/[\w/.]+)`", PAGE))
    assert len(named) >= 5
    assert all((ROOT / each).exists() for each in named)


def test_its_versions_are_those_that_are_run() -> None:
    pinned = json.loads((ROOT / "tests/clients/package.json").read_text())["dependencies"]
    suites = json.loads((ROOT / "tests/conformance/package.json").read_text())["dependencies"]
    versions = {
        "Python SDK": importlib.metadata.version("mcp"),
        "TypeScript SDK": pinned["@modelcontextprotocol/sdk"],
        "FastMCP": FASTMCP.partition("==")[2],
        "MCP Inspector": pinned["@modelcontextprotocol/inspector-cli"],
    }
    for client, version in versions.items():
        rows = re.findall(rf"^\| {client}[^|]*\| ([^|]+) \|", PAGE, re.MULTILINE)
        assert rows
        assert set(rows) == {version}
    (suite,) = re.findall(r"^\| conformance suites \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert suite.split(", ") == [each.rpartition("@")[2] for each in suites.values()]


def test_its_settings_can_be_pasted() -> None:
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    rows = re.findall(r"\| `(\{.*\})` \|$", PAGE, re.MULTILINE)
    for text in [*blocks, *rows]:
        found = json.loads(text)
        (servers,) = [found[key] for key in ("mcpServers", "servers", "context_servers") if key in found]
        assert list(servers) == ["databases"]
    assert (len(blocks), len(rows)) == (5, 4)
    (codex,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert list(tomllib.loads(codex)["mcp_servers"]) == ["databases"]
