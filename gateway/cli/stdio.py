"""`gateway stdio`: the gateway for one client on this machine."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
from pathlib import Path

from gateway.cli.loop import run_loop, wait_for_signal
from gateway.config.loader import Configuration
from gateway.errors import GatewayError, Unauthenticated
from gateway.server.local import user_name
from gateway.server.pipe import Pipe
from gateway.server.reload import Reloader
from gateway.server.stdio import open_conversation
from gateway.telemetry import faults, logs
from gateway.tools.loading import load_with_tools


class NotAllowed(GatewayError):
    """Whoever started the command may not use it; says what is missing."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = (
        "Serve one local client: MCP on standard input and output, logs on standard error. The client is known by "
        "the access token in GATEWAY_TOKEN, or else by its operating-system user, if the section stdio allows it."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="PATH", help="a YAML file, or a folder of them")
    parser.add_argument("--toolset", default="", metavar="NAME", help="serve the tools of one toolset only")
    parser.add_argument("--log-format", choices=("json", "console"), default="json", help="default: json")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="warning", help="default: warning"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Load, serve until the client closes its side, stop."""
    logs.configure(style=arguments.log_format, level=arguments.log_level.upper())
    faults.catch_all()
    path: Path = arguments.config
    reloader = Reloader(path, lambda followed: load_with_tools(path, followed=followed))
    configuration = reloader.read_first()
    source, sink = _take_over()
    run_loop(serve(configuration, reloader, source, sink, os.environ.get("GATEWAY_TOKEN", ""), arguments.toolset))
    return 0


def _take_over() -> tuple[int, int]:
    """Descriptors for the client alone: whatever else prints, prints to standard error, and reads nothing."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


async def serve(
    configuration: Configuration, reloader: Reloader, source: int, sink: int, token: str, toolset: str
) -> None:
    """Serve one client until it closes its side, or a signal comes; files that change are read meanwhile.

    Raises:
        NotAllowed: the client may not come in.
    """
    pipe = Pipe(source, sink, configuration.settings.server.max_request_bytes)
    try:
        async with open_conversation(configuration, pipe, token, user=user_name(), toolset=toolset) as conversation:
            gc.collect()
            gc.freeze()
            talking, told = asyncio.create_task(conversation.run()), asyncio.create_task(wait_for_signal())
            async with reloader.watching(conversation.live):
                await asyncio.wait({talking, told}, return_when=asyncio.FIRST_COMPLETED)
            conversation.hurry()
            told.cancel()
            await talking
    except Unauthenticated as error:
        raise NotAllowed(error.message, detail=error.detail) from error
