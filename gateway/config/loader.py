"""Reads YAML into typed settings and remembers the line of every key.

One file, or a folder whose `*.yaml` are merged in name order: sections may be
spread over files, but every setting and every name is defined in one place.
Relative paths start at the folder of the file in which they are written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr

from gateway.config.base import Settings
from gateway.config.checks import find_contradictions
from gateway.config.document import Entries
from gateway.config.folder import read_all
from gateway.config.models import GatewaySettings
from gateway.config.problems import ConfigError, KeyPath, Place, Problem
from gateway.config.resolver import Resolver
from gateway.config.schema import json_schema
from gateway.config.secrets import FileSecret
from gateway.config.validation import validate

__all__ = ["Configuration", "json_schema", "load"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and where each of them is written."""

    settings: GatewaySettings
    places: Mapping[KeyPath, Place] = field(repr=False)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem at a key, placed at the nearest key that is written in a file."""
        return _placed(self.places, path, message)


def load(
    path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    server: Mapping[str, Any] | None = None,
    further: Callable[[Configuration], object] | None = None,
    followed: set[Path] | None = None,
) -> Configuration:
    """Read one file, or every `*.yaml` of a folder merged.

    Args:
        path: the file or folder.
        environment: where `${env:NAME}` looks; the process's own when absent.
        server: settings of the section `server` that override the written ones.
        further: a check by a room above, told what is right so far; its ConfigError joins the problems found here.
        followed: takes the files that values refer to, also when there are problems.

    Raises:
        ConfigError: with every problem found, each with file, line and key.
    """
    tree, problems = read_all(path)
    resolver = Resolver(os.environ if environment is None else environment)
    try:
        data = resolver.resolve(tree)
    finally:
        if followed is not None:
            followed |= resolver.followed
    _override(data, resolver.places, server or {})
    outcome = validate(data, resolver.references, resolver.spoiled)
    contradictions = [
        (finding.path, finding.message)
        for finding in find_contradictions(outcome.settings, _names(tree, "sources"))
        if not any(outcome.is_spoiled(each) for each in (finding.path, *finding.involves))
    ]
    problems += resolver.problems
    problems += [_placed(resolver.places, key, message) for key, message in outcome.mistakes + contradictions]
    places = MappingProxyType(resolver.places)
    configuration = Configuration(_anchored(outcome.settings, (), places, resolver.files), places)
    if further is not None:
        known = {problem.path for problem in problems}
        found = [each for each in _findings(configuration, further) if not outcome.is_spoiled(each.path)]
        problems += [each for each in found if each.path not in known]
    if problems:
        raise ConfigError(sorted(problems, key=_order))
    return configuration


def _findings(configuration: Configuration, further: Callable[[Configuration], object]) -> tuple[Problem, ...]:
    try:
        further(configuration)
    except ConfigError as error:
        return error.problems
    return ()


def _override(data: dict[str, Any], places: dict[KeyPath, Place], server: Mapping[str, Any]) -> None:
    section = data.setdefault("server", {}) if server else None
    if isinstance(section, dict):
        section |= server
        for key in server:
            places.pop(("server", key), None)


def _names(tree: Entries, section: str) -> frozenset[str] | None:
    """The names written in a section; None when it is not a mapping."""
    if section not in tree.entries:
        return frozenset()
    node = tree.entries[section].node
    return frozenset(node.entries) if isinstance(node, Entries) else None


def _anchored(value: Any, path: KeyPath, places: Mapping[KeyPath, Place], files: Mapping[KeyPath, Path]) -> Any:
    """The same settings with relative paths starting at the folder of their file, and secrets tied to theirs."""
    if isinstance(value, SecretStr) and path in files:
        return FileSecret(files[path].absolute(), value.get_secret_value())
    if isinstance(value, Path) and path in places:
        return places[path].file.absolute().parent / value
    if isinstance(value, Settings):
        inner = {key: _anchored(getattr(value, key), (*path, key), places, files) for key in value.model_fields_set}
        return value.model_copy(update=inner)
    if isinstance(value, MappingProxyType):
        return MappingProxyType({key: _anchored(each, (*path, key), places, files) for key, each in value.items()})
    if isinstance(value, tuple):
        return tuple(_anchored(each, (*path, index), places, files) for index, each in enumerate(value))
    return value


def _order(problem: Problem) -> tuple[str, int]:
    return (str(problem.place.file), problem.place.line) if problem.place else ("", 0)


def _placed(places: Mapping[KeyPath, Place], path: KeyPath, message: str) -> Problem:
    for length in range(len(path), -1, -1):
        if place := places.get(path[:length]):
            return Problem(path, message, place)
    return Problem(path, message)
