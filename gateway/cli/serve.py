"""`gateway serve`: the gateway as a service."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
from pathlib import Path
from typing import Final

from gateway.cli.loop import run_loop, told_to_stop
from gateway.config.loader import Configuration
from gateway.server.app import open_gateway
from gateway.server.listener import StartError
from gateway.server.reload import Reloader
from gateway.telemetry import faults, logs
from gateway.tools.loading import load_with_tools

_LITTER: Final = (5_000, 10, 10)
"""Objects after which the collector looks for circles: a call makes hundreds, of which none is one."""
_log: Final = logging.getLogger("gateway.cli")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = (
        "Serve the tools of a configuration until SIGTERM or SIGINT; then finish what runs and exit 0. "
        "The configuration is read again when one of its files changes, and at SIGHUP."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="PATH", help="a YAML file, or a folder of them")
    parser.add_argument("--host", help="listen here instead of server.host")
    parser.add_argument("--port", type=int, help="listen here instead of server.port; 0 takes a free port")
    parser.add_argument("--log-format", choices=("json", "console"), help="instead of telemetry.logs.format")
    levels = ("debug", "info", "warning", "error")
    parser.add_argument("--log-level", choices=levels, help="instead of telemetry.logs.level")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Load, serve, stop."""
    style, level = arguments.log_format, arguments.log_level
    logs.configure(style=style or "json", level=(level or "info").upper())
    faults.catch_all()
    given = {"host": arguments.host, "port": arguments.port}
    overrides = {key: value for key, value in given.items() if value is not None}
    path: Path = arguments.config
    reloader = Reloader(path, lambda followed: load_with_tools(path, server=overrides, followed=followed))
    signal.signal(signal.SIGHUP, lambda *_: reloader.ask())  # already now: its usual effect is the end
    configuration = reloader.read_first()
    settings = configuration.settings.telemetry.logs
    logs.configure(style=style or settings.format, level=(level or settings.level).upper())
    with logs.in_background():
        run_loop(serve_until_signal(configuration, reloader))
    return 0


async def serve_until_signal(configuration: Configuration, reloader: Reloader) -> None:
    """Serve until told to stop, then close in order.

    Raises:
        StartError: nobody could call.
    """
    auth = configuration.settings.auth
    if auth.mode != "none" and not auth.issuers:
        raise StartError("auth.issuers is empty, so nobody could call over HTTP; add one, or use gateway stdio.")
    if auth.mode == "none":
        _log.warning(
            "AUTHENTICATION IS OFF: whoever reaches this port may call every tool. "
            "Use auth.mode none for development only."
        )
    elif not configuration.settings.audit.sinks:
        _log.warning("nothing is audited: audit.sinks names no place for the records")
    # From the start on: calls may be served before everything else here is done.
    with told_to_stop() as stop:
        async with open_gateway(configuration) as gateway, reloader.watching(gateway.live):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.ask)
            # What was made until now stays: the collector need not walk it again with every call's litter.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_LITTER)
            await stop.wait()
    _log.info("stopped")
