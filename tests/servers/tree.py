"""A process and all that it started: seen whole, signalled whole.

Servers move their children into groups and sessions of their own, so a signal
to a process group does not reach them all. Run as a program, this file is the
guardian of one server: it ends the server and removes its folders when the
tests' process is gone, however that happened.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path


def stat(folder: Path) -> list[str]:
    """What /proc says of a process or thread, from its state on (proc(5)); names may hold spaces and brackets.

    Raises:
        OSError: it has ended.
    """
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _parents() -> Iterator[tuple[int, int]]:
    """Every living process with its parent."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, text=True, check=True)
        for pid, parent, state in (line.split()[:3] for line in listing.stdout.splitlines()):
            if not state.startswith("Z"):
                yield int(pid), int(parent)
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = stat(entry)[:2]
            except OSError:
                continue  # it ended while we looked
            if state not in "ZX":
                yield int(entry.name), int(parent)


def descendants(pid: int) -> list[int]:
    """The living processes that came from this one, itself first."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for member in found:
        found += children.get(member, ())
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal those that still live; after SIGSTOP they stand still when this returns."""
    signalled = []
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        signalled.append(pid)
    if number == signal.SIGSTOP:
        # A moment passes until the last thread has seen it, in which a server may still answer.
        until = time.monotonic() + 5
        while any(map(_runs, signalled)) and time.monotonic() < until:
            time.sleep(0.001)


def _runs(pid: int) -> bool:
    """Whether a thread of a process runs, or could."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return False  # it has ended, or the system has no such files
    try:
        return any(stat(thread)[0] not in "TtZX" for thread in threads)
    except OSError:
        return True  # one has just ended; the others are to be looked at again


def kill(pid: int) -> list[int]:
    """Kill a process and its descendants at once; returns who they were."""
    send([pid], signal.SIGSTOP)  # a stopped parent starts nobody while we look
    members = descendants(pid)
    send(members, signal.SIGKILL)
    return members


def living(pids: Iterable[int]) -> set[int]:
    """Which of them still run."""
    return {pid for pid, _ in _parents()} & set(pids)


def end(pid: int) -> None:
    """Kill a process and its descendants, and wait until they are gone."""
    members = kill(pid)
    until = time.monotonic() + 10
    while living(members) and time.monotonic() < until:
        time.sleep(0.02)


def guard(pid: int, folders: Iterable[Path]) -> None:
    """Wait for the tests to say that all is well, or to vanish; then leave nothing behind."""
    if sys.stdin.read():
        return
    end(pid)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    guard(int(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
