"""A configuration with its tools: the mistakes of both at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config.loader import Configuration, load
from gateway.database.engine import Engine
from gateway.database.sources import build_engine
from gateway.tools.catalog import build


def engines_of(configuration: Configuration) -> dict[str, Engine]:
    """An engine for each source, by its name; no I/O."""
    return {name: build_engine(settings, name) for name, settings in configuration.settings.sources.items()}


def load_with_tools(
    path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    server: Mapping[str, Any] | None = None,
    followed: set[Path] | None = None,
) -> Configuration:
    """Read a configuration whose tools can be built.

    Args:
        path: the file or folder.
        environment: where `${env:NAME}` looks; the process's own when absent.
        server: settings of the section `server` that override the written ones.
        followed: takes the files that values refer to, also when there are problems.

    Raises:
        ConfigError: with every problem of settings and tools, each with file, line and key.
    """
    return load(
        path,
        environment=environment,
        server=server,
        followed=followed,
        further=lambda configuration: build(configuration, engines_of(configuration)),
    )
