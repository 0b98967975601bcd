"""One at a time, among all processes of a test run."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_turn(name: str) -> Iterator[None]:
    """Hold the one place of this name, among the workers of this user, while the block runs."""
    path = Path(tempfile.gettempdir()) / f"gateway-tests-{os.geteuid()}-{name}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
