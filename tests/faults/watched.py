"""`gateway serve` with two signals more: `python -m tests.faults.watched FILE serve --config ...`.

SIGUSR1 writes into FILE how many tasks there are and what runs in them; SIGUSR2 blocks the event loop for
two seconds, as a fault of our own would.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from gateway.cli.main import main

BLOCKED: Final = 2.0


def _watch(file: Path) -> None:
    def count(*_: object) -> None:
        names = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(names))
        partial.rename(file)

    signal.signal(signal.SIGUSR1, count)
    signal.signal(signal.SIGUSR2, lambda *_: time.sleep(BLOCKED))


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
