"""A fault proxy in a process of its own that makes a server far away.

`python -m tests.bench.distance PORT SECONDS` forwards to PORT on loopback, each direction held back for SECONDS; its
first line of output is its own port. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench import machine
from tests.servers.proxy import fault_proxy


async def main(port: int, delay: float) -> None:
    async with fault_proxy("127.0.0.1", port) as proxy:
        proxy.up.delay = proxy.down.delay = delay
        print(proxy.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def far_away(port: int, round_trip: float) -> Iterator[int]:
    """A port behind which a server of loopback is a round trip of so many seconds away."""
    command = [sys.executable, "-m", "tests.bench.distance", str(port), str(round_trip / 2)]
    with subprocess.Popen(
        command, cwd=machine.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
