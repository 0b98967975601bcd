"""`python -m tests.bench [name ...]`: measure, print tables, and keep them as JSON in `.cache/bench`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from tests.bench import (
    added,
    call,
    ceiling,
    machine,
    million,
    page,
    paper,
    peers,
    processes,
    scale,
    stages,
    start,
    telemetry,
)
from tests.bench.contenders import CannotStart
from tests.bench.figures import Table
from tests.bench.rounds import Pace, say
from tests.bench.world import World, open_world
from tests.bench.wrk import BadAnswers
from tests.servers.programs import MissingServer

BENCHES: Final[Mapping[str, Callable[[World, Pace], list[Table]]]] = {
    "call": call.measure,
    "stages": stages.measure,
    "peers": peers.measure,
    "processes": processes.measure,
    "added": added.measure,
    "paper": paper.measure,
    "scale": scale.measure,
    "ceiling": ceiling.measure,
    "telemetry": telemetry.measure,
    "start": start.measure,
    "million": million.measure,
}
_BY_NAME: Final = frozenset({"million"})
"""Those that take too long to be among all."""
_ALL: Final = f"all but {', '.join(_BY_NAME)}"
_ROUNDS_OF_ALL: Final = 3
"""So that everything takes less than ten minutes."""
_BUSY: Final = 0.5
RESULTS: Final = machine.ROOT / ".cache" / "bench"


def main() -> int:
    """Run the named benches; 1 when a contender answers wrongly, 2 when one cannot be run."""
    usual = Pace()
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="bench", help=f"of {', '.join(BENCHES)}; {_ALL} by default")
    parser.add_argument("--rounds", type=int, help=f"default: {usual.rounds}, or {_ROUNDS_OF_ALL} where all are run")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help=f"of one turn; default: {usual.seconds:g}")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its plots from all results")
    arguments = parser.parse_args()
    names = arguments.names or [name for name in BENCHES if name not in _BY_NAME]
    if unknown := set(names) - BENCHES.keys():
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; known are {', '.join(BENCHES)}")
    rounds = arguments.rounds or (usual.rounds if arguments.names else _ROUNDS_OF_ALL)
    facts = machine.facts()
    if facts["load_before"] > _BUSY:
        say(f"the machine is busy (load {facts['load_before']:.1f}): trust CPU per call, not rates and latencies")
    machine.step_aside()
    try:
        with open_world() as world:
            for name in names:
                bench(name, world, Pace(rounds, arguments.seconds), facts)
    except BadAnswers as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except (CannotStart, MissingServer) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if arguments.write:
        for path in page.write(RESULTS, machine.ROOT / "docs", list(BENCHES)):
            say(f"written: {path.relative_to(machine.ROOT)}")
    return 0


def bench(name: str, world: World, pace: Pace, facts: Mapping[str, object]) -> None:
    """Run one bench, print what it found, and keep it."""
    say(f"bench {name}")
    started = time.monotonic()
    tables = BENCHES[name](world, pace)
    for each in tables:
        print(each.text(), end="\n\n", flush=True)
    record = {"bench": name, "machine": facts, "took_s": round(time.monotonic() - started, 1)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record | {"tables": [each.record() for each in tables]}, indent=1) + "\n")
    say(f"  took {record['took_s']} s; kept in {path.relative_to(machine.ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
