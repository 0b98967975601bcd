"""`ceiling`: the highest rate that one process on one core keeps up with."""

from __future__ import annotations

from tests.bench import gateways, machine
from tests.bench.contenders import Server, enter
from tests.bench.figures import Table
from tests.bench.flow import Flow, Outcome
from tests.bench.rounds import Pace, say
from tests.bench.world import World

TARGET_MS = 180.0
"""The paper's p95."""
PAPER_RATE = 450.0
"""The paper's highest rate, on nine replicas."""
_STEPS = 6


def is_kept(outcome: Outcome) -> bool:
    """Whether the target holds: p95 in time, nobody refused."""
    return not outcome.failed and outcome.quantile(0.95) < TARGET_MS


def measure(world: World, pace: Pace) -> list[Table]:
    """Halve the interval between a rate that holds and one that does not."""
    folder = gateways.folder_of(world, "ceiling")
    recipe = gateways.recipe(world.token())
    flow = Flow({"simple": recipe}, {"simple": 1.0}, folder)
    with gateways.gateway(world) as server:
        entry = enter("gateway", server, recipe, folder)
        entry.measure(1)
        closed = entry.measure(pace.seconds).rate
        tried = _search(flow, server, world, closed, pace.seconds * 2)
    rows = tuple(
        (
            f"{rate:.0f}",
            "yes" if is_kept(outcome) else "no",
            *(outcome.quantile(share) for share in (0.5, 0.95, 0.99)),
            str(outcome.failed),
            *(f"{used:.0%}" for used in (outcome.cores, outcome.database_cores, outcome.generator)),
        )
        for rate, outcome in sorted(tried, key=lambda each: each[0])
    )
    heads = ("holds", "p50 ms", "p95 ms", "p99 ms", "errors", "gateway cores", "PostgreSQL cores", "generator cores")
    best = max((rate for rate, outcome in tried if is_kept(outcome)), default=0.0)
    shared = len(machine.cores()[1])
    notes = (
        f"The highest rate with p95 under {TARGET_MS:.0f} ms and no errors: {best:.0f} requests/s on one core "
        f"(the paper: {PAPER_RATE:.0f} on nine replicas).",
        f"What is near 100 % of a core is what saturates; PostgreSQL and the generator share {shared}.",
        f"As fast as 16 connections can, closed loop: {closed:.0f} calls/s.",
    )
    return [Table("The ceiling, open loop", ("requests/s", *heads), rows, notes)]


def _search(flow: Flow, server: Server, world: World, closed: float, seconds: float) -> list[tuple[float, Outcome]]:
    """Rates between half and one and a half of what a closed loop reached."""
    low, high = closed * 0.5, closed * 1.5
    tried: list[tuple[float, Outcome]] = []
    for _ in range(_STEPS):
        rate = low if not tried else (low + high) / 2
        outcome = flow.send([server], world.postgresql.pid, rate, seconds)
        tried.append((rate, outcome))
        say(f"  {rate:.0f}/s: p95 {outcome.quantile(0.95):.1f} ms, {outcome.failed} errors")
        if is_kept(outcome):
            low = rate
        elif rate == low:
            low, high = rate / 2, rate
        else:
            high = rate
    return tried
