"""Reads YAML into typed settings and remembers the line of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config.models import GatewaySettings
from gateway.config.problems import KeyPath, Place, Problem


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and where each of them is written."""

    settings: GatewaySettings
    places: Mapping[KeyPath, Place]

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem at a key, placed at the nearest key that is written in a file."""
        for length in range(len(path), 0, -1):
            if place := self.places.get(path[:length]):
                return Problem(path, message, place)
        return Problem(path, message)


def load(path: Path) -> Configuration:
    """Read one file, or every `*.yaml` of a folder merged.

    Raises:
        ConfigError: with every problem found, each with file, line and key.
    """
    raise NotImplementedError


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the configuration, for editors."""
    raise NotImplementedError
