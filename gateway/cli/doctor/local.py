"""Databases on this machine: Unix sockets and files."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path

from gateway.cli.doctor.report import Outcome, Step

_MOUNT = "Is the volume mounted here, and is the path right? This process runs as user {user}, group {group}."


async def knock_socket(path: Path, limit: float) -> Step:
    """Connect to a Unix socket."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(limit):
            _, writer = await asyncio.open_unix_connection(path)
    except TimeoutError:
        return Step("socket", Outcome.TIMED_OUT, f"{path}: no answer within {limit:g} s", "The server is stuck.", limit)
    except OSError as error:
        return Step("socket", Outcome.FAILED, f"{path}: {error.strerror or error}", _why(error))
    writer.transport.abort()
    return Step("socket", Outcome.OK, f"{path} is open", seconds=time.perf_counter() - started)


def _why(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "The socket is there, but nobody listens: is the server up?"
    return _mount()


def _mount() -> str:
    return _MOUNT.format(user=os.geteuid(), group=os.getegid())


def look_at_file(path: Path, *, writes: bool) -> Step:
    """Whether a database file is there and may be read, and written where that is asked for."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return Step("file", Outcome.FAILED, f"{path} is not a file", _mount())
        with path.open("rb"):
            pass
    except OSError as error:
        return Step("file", Outcome.FAILED, f"{path}: {error.strerror or error}", _mount())
    if writes and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        advice = f"SQLite writes the file and a journal beside it: both it and its folder must be writable. {_mount()}"
        return Step("file", Outcome.FAILED, f"{path} or its folder may not be written", advice)
    return Step("file", Outcome.OK, f"{path}, {found.st_size} bytes", facts={"bytes": found.st_size})
