"""`added`: how much later an answer comes through the gateway than from a handler that does nothing else."""

from __future__ import annotations

from contextlib import ExitStack

from tests.bench import gateways
from tests.bench.call import bare
from tests.bench.figures import Figure, Table
from tests.bench.flow import Flow, Outcome
from tests.bench.rounds import Pace, say
from tests.bench.world import World

RATE = 150.0
_SHARES = (0.5, 0.95, 0.99)


def measure(world: World, pace: Pace) -> list[Table]:
    """One row by its number, 150 times a second, in turn from both."""
    recipe = gateways.recipe(world.token())
    flow = Flow({"simple": recipe}, {"simple": 1.0}, gateways.folder_of(world, "added"))
    with ExitStack() as stack:
        servers = {
            "aiohttp + asyncpg, nothing else": stack.enter_context(bare(world, "query", "bare")),
            "gateway": stack.enter_context(gateways.gateway(world)),
        }
        found: dict[str, list[Outcome]] = {name: [] for name in servers}
        for server in servers.values():
            server.check(recipe)
            flow.send([server], world.postgresql.pid, RATE, 1.0)
        for turn in range(pace.rounds):
            for name, server in servers.items():
                found[name].append(flow.send([server], world.postgresql.pid, RATE, pace.seconds * 2))
            say(f"  round {turn + 1} of {pace.rounds}")
    floor, own = found.values()
    rows = [
        (name, *(Figure.of(each.quantile(share) for each in outcomes) for share in _SHARES), _failed(outcomes))
        for name, outcomes in found.items()
    ]
    rows.append(("added by the gateway", *(_added(own, floor, share) for share in _SHARES), "-"))
    notes = (f"Open loop, {RATE:.0f} requests/s, one row by its number; added: round by round.",)
    return [Table("Added latency", ("", "p50 ms", "p95 ms", "p99 ms", "errors"), tuple(rows), notes)]


def _added(own: list[Outcome], floor: list[Outcome], share: float) -> Figure:
    return Figure.of(mine.quantile(share) - least.quantile(share) for mine, least in zip(own, floor, strict=True))


def _failed(outcomes: list[Outcome]) -> str:
    return str(sum(each.failed for each in outcomes))
