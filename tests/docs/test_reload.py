"""The page on reloading says of every section and key whether it takes effect at once, as the code has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config.models import GatewaySettings
from gateway.config.restart import RESTART, changes, pinned
from gateway.config.server import ServerSettings

PAGE = (Path(__file__).parents[2] / "docs/how-to/reload.md").read_text()
OTHERS = {
    ("server", "host"): "127.0.0.2",
    ("server", "port"): 1,
    ("server", "reuse_port"): True,
    ("server", "tls"): {"certificate": Path("a"), "key": Path("b")},
    ("server", "max_connections"): 7,
    ("server", "header_timeout"): "7s",
    ("server", "shutdown_grace"): "7s",
    ("admin",): {"port": 1},
    ("audit",): {"queue": 1234},
    ("telemetry",): {"traces": {"sample": 0.5}},
}
"""Another value for everything that needs a restart."""


def settings_of(data: Mapping[str, Any]) -> GatewaySettings:
    return GatewaySettings.model_validate(data, strict=False)


def lines() -> list[tuple[str, str, str]]:
    return re.findall(r"^\| `(\w+)` \| `?([\w ]+?)`? \| (.+) \|$", PAGE, flags=re.MULTILINE)


def test_the_table_has_every_section_and_what_needs_a_restart() -> None:
    assert {section for section, _, _ in lines()} == GatewaySettings.model_fields.keys()
    keys = {key for section, key, _ in lines() if section == "server"}
    assert keys - {"all others"} <= ServerSettings.model_fields.keys()
    waiting = {(section, key) for section, key, effect in lines() if effect.startswith("at the next start")}
    assert waiting == {(path[0], path[1] if len(path) > 1 else "all") for path in RESTART}


@pytest.mark.parametrize("path", RESTART, ids=".".join)
def test_what_needs_a_restart_stays_and_is_named(path: tuple[str, ...]) -> None:
    data = {path[0]: {path[1]: OTHERS[path]} if len(path) > 1 else OTHERS[path]}
    wanted = settings_of(data)
    running = GatewaySettings()
    settings, waiting = pinned(running, wanted)
    assert settings == running
    assert len(waiting) == 1
    assert waiting[0].startswith(".".join(path))
    assert changes(running, wanted) == waiting


def test_what_does_not_is_taken_over() -> None:
    wanted = settings_of({"server": {"call_timeout": "7s", "port": 1}, "admin": {"port": 2}})
    settings, waiting = pinned(GatewaySettings(), wanted)
    assert settings == settings_of({"server": {"call_timeout": "7s"}})
    assert waiting == ("server.port", "admin.port")
