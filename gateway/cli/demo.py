"""`gateway demo`: a shop, an identity provider and a gateway in one process, and a tour through them."""

from __future__ import annotations

import argparse
import sys

from gateway.cli.loop import run_loop, wait_for_signal
from gateway.demo.tour import Printer, TourFailed, invitation, take_tour
from gateway.demo.world import open_world
from gateway.telemetry import logs


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = (
        "Start a sample shop in SQLite, a development identity provider and a real gateway, act as an agent, "
        "show every answer, and go on serving until Ctrl-C."
    )
    parser.add_argument("--port", type=int, default=8080, help="the gateway's port; 0 takes a free one (default: 8080)")
    parser.add_argument("--once", action="store_true", help="stop after the tour; exit 0 if every step went well")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo."""
    logs.configure(style="console", level="WARNING")
    return run_loop(_demo(arguments.port, once=arguments.once))


async def _demo(port: int, *, once: bool) -> int:
    out = Printer(has_colour=sys.stdout.isatty())
    async with open_world(port) as world:
        print(f"A gateway serves a sample shop at {world.url}.")
        try:
            await take_tour(world.url, world.credentials(), out)
        except TourFailed as failure:
            print(f"gateway demo: {failure}", file=sys.stderr)
            return 1
        if once:
            print("\nEvery step went as it must.")
            return 0
        print(invitation(world))
        await wait_for_signal()
    print("\nStopped.")
    return 0
