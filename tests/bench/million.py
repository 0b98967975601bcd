"""`million`: resident memory over a million calls. Takes minutes, and so is run by its name only."""

from __future__ import annotations

from typing import Final

from tests.bench import gateways, machine
from tests.bench.contenders import enter
from tests.bench.figures import Table
from tests.bench.rounds import Pace, say
from tests.bench.world import World

MARKS: Final = (1_000, 10_000, 100_000, 250_000, 500_000, 750_000, 1_000_000)
"""Calls after which memory is read."""
_SECONDS: Final = 30.0
"""The longest turn between two looks at what was answered."""


def measure(world: World, pace: Pace) -> list[Table]:
    """Call until the last mark is passed; each row is read at the first look after its mark."""
    folder = gateways.folder_of(world, "million")
    with gateways.gateway(world) as server:
        entry = enter("gateway", server, gateways.recipe(world.token()), folder)
        rows: list[tuple[str, float, float | str]] = [("1", machine.resident_mb(server.pid), "-")]
        calls, rate = 0, 1000.0
        for mark in MARKS:
            while calls < mark:
                turn = entry.measure(min(_SECONDS, max(pace.seconds, (mark - calls) / rate)))
                calls, rate = calls + turn.load.calls, turn.rate
            rows.append((f"{calls:,}", turn.memory_mb, turn.cpu_us))
            say(f"  {calls:,} calls: {turn.memory_mb:.1f} MB")
    half = next(row for row, mark in zip(rows[1:], MARKS, strict=True) if 2 * mark >= MARKS[-1])
    notes = (f"Growth in the second half: {rows[-1][1] - half[1]:.2f} MB.",)
    return [Table("Memory over a million calls", ("calls", "RSS MB", "CPU us/call"), tuple(rows), notes)]
