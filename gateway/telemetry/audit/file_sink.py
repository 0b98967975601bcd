"""A file that grows at its end: locked for each batch, whole lines or none, rotated by its size.

Several processes may share one file (a gateway and an operator's command): the
lock is held for one batch, and whoever finds the file renamed opens the new one.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal

from gateway.errors import GatewayError
from gateway.telemetry.audit.chain import Previous
from gateway.telemetry.audit.reading import last_link
from gateway.telemetry.audit.thread import WriterThread

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MODE: Final = 0o600
_TAIL: Final = 1 << 20

Fsync = Literal["always", "interval", "never"]


class FileRefused(GatewayError):
    """The file is not one that an audit may be written to."""


class FileSink:
    """Appends to a file.

    Args:
        path: the file.
        fsync: when the disk is waited for.
        rotate: bytes after which a new file is begun.
        keep: most rotated files kept; None keeps all.

    Raises:
        FileRefused: the file cannot be opened, is a link or no file, or others may write to it.
    """

    def __init__(self, path: Path, *, fsync: Fsync = "interval", rotate: int = 100 << 20, keep: int | None = None):
        self.name = f"file {path}"
        self._path = path
        self._fsync = fsync
        self._rotate_at = rotate
        self._keep = keep
        self._is_dirty = False
        self._file = self._open()
        self._thread = WriterThread("audit-file")
        self.previous = self._end()
        self._sync_folder()

    async def write(self, lines: Sequence[bytes]) -> None:
        """Append; with `fsync: always` the disk has them then."""
        await self._thread.run(partial(self._append, b"".join(lines)))

    async def tick(self) -> None:
        """With `fsync: interval`, wait for the disk."""
        if self._is_dirty and self._fsync == "interval":
            await self._thread.run(self._sync)

    async def close(self) -> None:
        """Wait for the disk, unless never, and let go of the file."""
        self._thread.submit(self._finish)
        self._thread.stop()

    def _open(self) -> int:
        try:
            file = os.open(self._path, _FLAGS, _MODE)
        except OSError as error:
            hint = "a symbolic link is not followed" if self._path.is_symlink() else error.strerror
            raise FileRefused(f"The audit file {self._path} cannot be opened: {hint}.") from error
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            os.close(file)
            raise FileRefused(f"The audit file {self._path} must be a regular file that nobody else may write to.")
        return file

    def _end(self) -> Previous:
        """What the log ends with, in this file or in the last rotated one."""
        with self._locked():
            size = os.fstat(self._file).st_size
            tail = os.pread(self._file, _TAIL, max(0, size - _TAIL))
            rotated = self._rotated()
        if not tail and rotated:
            with rotated[-1].open("rb") as stream:
                stream.seek(max(0, rotated[-1].stat().st_size - _TAIL))
                tail = stream.read()
        whole, _, torn = tail.rpartition(b"\n")
        return Previous(last_link(whole), len(torn))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the file that is at the path now."""
        while True:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if self._is_current():
                break
            old, self._file = self._file, self._open()
            os.close(old)  # and with it the lock
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _is_current(self) -> bool:
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            return False
        own = os.fstat(self._file)
        return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)

    def _append(self, content: bytes) -> None:
        with self._locked():
            size = os.fstat(self._file).st_size
            if not size or size + len(content) <= self._rotate_at:
                self._write_whole(content, size)
                return
            self._rotate()
        self._append(content)

    def _write_whole(self, content: bytes, size: int) -> None:
        """All of it or nothing: half a line would look like a forgery."""
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            content = b"\n" + content  # a crash left half a record; it stays, on a line of its own
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._file, view) :]
            if self._fsync == "always":
                os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise
        self._is_dirty = True

    def _rotate(self) -> None:
        """Rename the full file, under its lock; the next one is begun by whoever writes first."""
        if self._fsync != "never":
            os.fsync(self._file)
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        # A link fails where a file of that name exists, and overwrites nothing.
        os.link(self._path, self._path.with_name(f"{self._path.stem}-{moment}{self._path.suffix}"))
        self._path.unlink()
        self._sync_folder()
        if self._keep is not None:
            for old in self._rotated()[: -self._keep]:
                old.unlink(missing_ok=True)

    def _rotated(self) -> list[Path]:
        """The files that were rotated, oldest first."""
        stem, suffix = self._path.stem, self._path.suffix
        return sorted(self._path.parent.glob(f"{stem}-[0-9]*T[0-9]*Z{suffix}"))

    def _sync_folder(self) -> None:
        """Make the names last, not only what is in the files."""
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _sync(self) -> None:
        os.fdatasync(self._file)
        self._is_dirty = False

    def _finish(self) -> None:
        try:
            if self._is_dirty and self._fsync != "never":
                self._sync()
        finally:
            os.close(self._file)
