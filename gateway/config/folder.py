"""One file, or the `*.yaml` of a folder merged into one tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.config.document import Entries, Entry, read_document
from gateway.config.problems import ConfigError, KeyPath, Place, Problem
from gateway.config.shape import NAMED


def read_all(path: Path) -> tuple[Entries, list[Problem]]:
    """Read and merge, with the problems of every file.

    Raises:
        ConfigError: nothing is there, nothing is written, or a file is not YAML.
    """
    problems: list[Problem] = []
    trees: list[Entries] = []
    is_broken = False
    for file in files_of(path):
        try:
            tree, found = read_document(file)
        except ConfigError as error:
            # The other files are still read, so that their mistakes show too.
            problems += error.problems
            is_broken = True
            continue
        problems += found
        if isinstance(tree, Entries):
            trees.append(tree)
        elif tree is not None:
            problems.append(Problem((), "expected a mapping with sections such as server, sources, tools", tree.place))
            is_broken = True
    if is_broken or (problems and not any(tree.entries for tree in trees)):
        raise ConfigError(problems)
    if not any(tree.entries for tree in trees):
        raise ConfigError([Problem((), "the configuration is empty", Place(path, 1))])
    merged = trees[0]
    for tree in trees[1:]:
        merged = _merge(merged, tree, (), problems)
    return merged, problems


def files_of(path: Path) -> Sequence[Path]:
    """The files to read: the one, or the folder's in the order of names.

    Raises:
        ConfigError: there is none.
    """
    if not path.is_dir():
        if not path.exists():
            raise ConfigError([Problem((), f"{path}: there is no such file or folder")])
        return (path,)
    files = sorted(file for file in path.glob("*.yaml") if file.is_file() and not file.name.startswith("."))
    if not files:
        is_misnamed = any(path.glob("*.yml"))
        hint = "; files ending in .yml are not read, rename them" if is_misnamed else ""
        raise ConfigError([Problem((), f"{path}: there is no *.yaml in this folder{hint}")])
    return files


def _merge(first: Entries, second: Entries, path: KeyPath, problems: list[Problem]) -> Entries:
    """Both mappings as one. Sections are merged; a setting or a name in both is a problem."""
    entries = dict(first.entries)
    for key, entry in second.entries.items():
        known = entries.get(key)
        if known is None:
            entries[key] = entry
        elif _is_section((*path, key)) and isinstance(known.node, Entries) and isinstance(entry.node, Entries):
            entries[key] = Entry(known.place, _merge(known.node, entry.node, (*path, key), problems))
        else:
            message = f"defined twice; first at {known.place}"
            problems.append(Problem((*path, key), message, entry.place))
    return Entries(entries, first.place)


def _is_section(path: KeyPath) -> bool:
    return len(path) == 1 or path[0] not in NAMED
