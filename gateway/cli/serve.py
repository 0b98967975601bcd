"""`gateway serve`: the gateway as a service."""

from __future__ import annotations

import argparse
import gc
import logging
from pathlib import Path
from typing import Final

from gateway.cli.loop import run_loop, wait_for_signal
from gateway.config.loader import Configuration
from gateway.server.app import open_gateway
from gateway.server.listener import StartError
from gateway.telemetry import logs
from gateway.tools.loading import load_with_tools

_log: Final = logging.getLogger("gateway.cli")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = "Serve the tools of a configuration until SIGTERM or SIGINT; then finish what runs and exit 0."
    parser.add_argument("--config", type=Path, required=True, metavar="PATH", help="a YAML file, or a folder of them")
    parser.add_argument("--host", help="listen here instead of server.host")
    parser.add_argument("--port", type=int, help="listen here instead of server.port; 0 takes a free port")
    parser.add_argument("--log-format", choices=("json", "console"), default="json", help="default: json")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="default: info"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Load, serve, stop."""
    logs.configure(style=arguments.log_format, level=arguments.log_level.upper())
    overrides = {"host": arguments.host, "port": arguments.port}
    configuration = load_with_tools(
        arguments.config, server={key: value for key, value in overrides.items() if value is not None}
    )
    run_loop(serve_until_signal(configuration))
    return 0


async def serve_until_signal(configuration: Configuration) -> None:
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
    async with open_gateway(configuration):
        # What was made until now stays: the collector need not walk it again with every call's litter.
        gc.collect()
        gc.freeze()
        await wait_for_signal()
    _log.info("stopped")
