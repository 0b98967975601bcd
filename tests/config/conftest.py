"""A folder to write configurations in, and the problems that `load` finds there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.config.loader import Configuration, load
from gateway.config.problems import ConfigError

ISSUER: Final = "auth: {issuers: [{issuer: https://idp.example.com/, audiences: [https://mcp.example.com/mcp]}]}\n"
"""One line that makes any configuration without further mistakes complete."""


class Desk:
    """Writes files and loads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}

    def write(self, **files: str) -> None:
        """Write `name="text"` as name.yaml."""
        for name, text in files.items():
            (self.folder / f"{name}.yaml").write_text(text)

    def load(self, text: str, *, server: Mapping[str, Any] | None = None) -> Configuration:
        """Load one file with an issuer in its first line."""
        self.write(gateway=ISSUER + text)
        return load(self.folder / "gateway.yaml", environment=self.environment, server=server)

    def problems(self, text: str, *, server: Mapping[str, Any] | None = None) -> list[str]:
        """What is wrong with one file; lines count from the given text's first."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, server=server)
        lines = []
        for problem in caught.value.problems:
            assert problem.place is not None
            assert problem.place.file == self.folder / "gateway.yaml"
            lines.append(str(problem).replace(str(problem.place), str(problem.place.line - 1), 1))
        return lines

    def folder_problems(self, **files: str) -> list[str]:
        """What is wrong with a folder of files, with names relative to it."""
        self.write(**files)
        with pytest.raises(ConfigError) as caught:
            load(self.folder, environment=self.environment)
        return [str(problem).replace(f"{self.folder}/", "") for problem in caught.value.problems]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty folder."""
    return Desk(tmp_path)
