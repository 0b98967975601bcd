"""The files that make up a configuration, and whether what they say has changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from gateway.config.folder import files_of
from gateway.config.problems import ConfigError

_CHUNK: Final = 1 << 20
_ABSENT: Final = b""
# Nanoseconds. A file system's clock ticks coarsely: two writes in one tick bear the same time.
_TICK: Final = 2 * 10**9


def documents(path: Path) -> tuple[Path, ...]:
    """The YAML files of a configuration; none while there are none."""
    try:
        return tuple(files_of(path))
    except (ConfigError, OSError):
        return ()


class Stamp(NamedTuple):
    """What tells one state of a file from another without reading it.

    Attributes:
        identity: device, inode, time of the last change, size.
        is_old: whether a change from now on is sure to show in it.
    """

    identity: tuple[int, int, int, int]
    is_old: bool


def stamp_of(file: Path) -> Stamp | None:
    """A file's stamp now; links are followed, and there is none where there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
    return Stamp(identity, time.time_ns() - found.st_mtime_ns > _TICK)


class _Sight(NamedTuple):
    """A file as it was seen: by its stamp, and by its content."""

    stamp: Stamp | None
    content: bytes


class Watch:
    """Notices changes by content; a file that nobody touched is not read again.

    Links are followed, since a mounted ConfigMap changes by a link of its folder alone.

    Args:
        path: the configuration, a file or a folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._others: frozenset[Path] = frozenset()
        self._seen: Mapping[Path, _Sight] = {}
        self.look()

    @property
    def followed(self) -> frozenset[Path]:
        """The files that are watched beside the YAML files."""
        return self._others

    def follow(self, files: Collection[Path]) -> None:
        """Watch these beside the YAML files, as they are now where they were not watched before."""
        kept = {file: sight for file, sight in self._seen.items() if file not in self._others or file in files}
        self._others = frozenset(files)
        self._seen = kept | {file: _see(file, None) for file in self._others - kept.keys()}

    def look(self) -> bool:
        """Whether anything says something else than at the last look; blocks as long as the file system does."""
        before = self._seen
        self._seen = {file: _see(file, before.get(file)) for file in {*documents(self._path), *self._others}}
        return _contents(before) != _contents(self._seen)


def _contents(seen: Mapping[Path, _Sight]) -> dict[Path, bytes]:
    return {file: sight.content for file, sight in seen.items()}


def _see(file: Path, before: _Sight | None) -> _Sight:
    stamp, known = stamp_of(file), before.stamp if before is not None else None
    if stamp is None:
        return _Sight(None, _ABSENT)
    if before is not None and known is not None and known.is_old and known.identity == stamp.identity:
        return before
    return _Sight(stamp, _content(file))


def _content(file: Path) -> bytes:
    """The hash of what a file says."""
    one = hashlib.sha256()
    try:
        if not file.is_file():  # a pipe would block, a device would never end
            return _ABSENT
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                one.update(chunk)
    except OSError:
        return _ABSENT
    return one.digest()
