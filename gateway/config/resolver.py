"""Turns a tree of nodes into plain data, with references followed and every place noted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.config.document import MAX_DEPTH, MAX_NODES, Entries, Items, Node, Scalar, plain_value
from gateway.config.problems import ConfigError, KeyPath, Place, Problem
from gateway.config.references import BadReference, expand, files_in, has_reference, whole_file
from gateway.config.shape import is_secret

_SPOILED: Final = object()


class Resolver:
    """Walks the tree once.

    Attributes:
        places: where each key and each list item is written.
        references: for each key whose value refers to something, what is written there.
        spoiled: keys left out of the data because their reference leads nowhere.
        problems: what is wrong with them.
        files: for each secret that is a whole file, that file.
        followed: every file that a value refers to, whether it could be read or not.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.places: dict[KeyPath, Place] = {}
        self.references: dict[KeyPath, str] = {}
        self.spoiled: set[KeyPath] = set()
        self.problems: list[Problem] = []
        self.files: dict[KeyPath, Path] = {}
        self.followed: set[Path] = set()
        self._environment = environment
        self._count = 0

    def resolve(self, tree: Entries) -> dict[str, Any]:
        """The data of a whole configuration.

        Raises:
            ConfigError: aliases make it too large or too deep.
        """
        self.places[()] = tree.place
        return self._entries(tree, ())

    def _entries(self, node: Entries, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, entry in node.entries.items():
            value = self._value(entry.node, (*path, key), entry.place)
            if value is not _SPOILED:
                data[key] = value
        return data

    def _value(self, node: Node, path: KeyPath, place: Place) -> Any:
        self.places[path] = place
        self._count += 1
        if self._count > MAX_NODES or len(path) > MAX_DEPTH:
            message = f"expected at most {MAX_NODES} values and {MAX_DEPTH} levels; aliases make it more"
            raise ConfigError([Problem(path[:3], message, place)])
        match node:
            case Scalar():
                return self._scalar(node, path, place)
            case Items():
                items = [self._value(item, (*path, index), item.place) for index, item in enumerate(node.items)]
                if any(item is _SPOILED for item in items):
                    self.spoiled.add(path)
                    return _SPOILED
                return items
            case Entries():
                return self._entries(node, path)

    def _scalar(self, node: Scalar, path: KeyPath, place: Place) -> Any:
        if has_reference(node.text):
            self.references[path] = node.text
            self.followed.update(file.absolute() for file in files_in(node.text, node.place.file.parent))
        elif is_secret(path) and node.text:
            return self._spoil(
                path,
                "expected a reference such as ${file:/run/secrets/name} or ${env:NAME}; secrets stay outside",
                place,
            )
        try:
            text = expand(node.text, node.place.file.parent, self._environment)
        except BadReference as error:
            return self._spoil(path, str(error), place)
        if is_secret(path) and (file := whole_file(node.text, node.place.file.parent)):
            self.files[path] = file
        return plain_value(text) if node.is_plain and text == node.text else text

    def _spoil(self, path: KeyPath, message: str, place: Place) -> Any:
        self.problems.append(Problem(path, message, place))
        self.spoiled.add(path)
        return _SPOILED
