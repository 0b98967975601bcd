"""`python -m tests.soak`: half an hour of everything that callers do, and whether the gateway holds as much at its end.

1 when an answer was wrong, a write was lost or doubled, or memory, descriptors or database connections grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Final

from tests.bench import machine
from tests.bench.contenders import CannotStart
from tests.bench.rounds import say
from tests.bench.world import open_world
from tests.servers.programs import MissingServer
from tests.soak import report
from tests.soak.run import Plan, soak
from tests.soak.service import serving

RESULT: Final = machine.ROOT / ".cache" / "soak.json"


def main() -> int:
    """Soak, tell, keep; 2 when it cannot be run."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=usual.seconds / 60, help="default: %(default)g")
    parser.add_argument("--rate", type=float, default=usual.rate, help="calls a second; default: %(default)g")
    parser.add_argument("--calls", type=int, help="stop after so many, however long they take")
    parser.add_argument("--write", action="store_true", help="put the plot and the figures into docs")
    arguments = parser.parse_args()
    seconds = arguments.calls / arguments.rate * 2 if arguments.calls else arguments.minutes * 60
    plan = Plan(seconds, arguments.rate, arguments.calls)
    facts = machine.facts()
    machine.step_aside()
    say(f"soak: {plan.rate:g} calls a second")
    started = time.gmtime()
    try:
        with open_world() as world, serving(world) as service:
            found = asyncio.run(soak(service, plan))
    except (CannotStart, MissingServer) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    record = report.record(found, facts, time.strftime("%Y-%m-%d %H:%M UTC", started))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    print(report.text(record))
    if arguments.write:
        for path in report.write(record, machine.ROOT / "docs" / "explanation"):
            say(f"written: {path.relative_to(machine.ROOT)}")
    return int(bool(found.complaints))


if __name__ == "__main__":
    sys.exit(main())
