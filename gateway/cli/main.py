"""`gateway`: the command line. Exit code 0 is success, 1 is failure, 2 is wrong usage; `doctor` has 124 too."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Final

from gateway import __version__
from gateway.config.problems import ConfigError
from gateway.errors import GatewayError

_DESCRIPTION: Final = """\
MCP Database Gateway: named, typed, scoped database tools for LLM agents.

The tools are fixed SQL in a configuration file; agents call them over MCP with
an OAuth token and never see a credential."""

COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "serve": ("serve the tools of a configuration", "gateway.cli.serve", "configure"),
        "stdio": ("serve one local client on standard input and output", "gateway.cli.stdio", "configure"),
        "check": ("check a configuration, and its SQL against the databases", "gateway.cli.check", "configure"),
        "doctor": (
            "find out where the way to a database or identity provider ends",
            "gateway.cli.doctor.command",
            "configure",
        ),
        "call": ("call a tool of a running gateway", "gateway.cli.call", "configure_call"),
        "tools": ("list the tools of a running gateway", "gateway.cli.call", "configure_tools"),
        "audit": ("verify the audit's records, and find some of them", "gateway.cli.audit", "configure"),
        "schema": ("print the JSON Schema of the configuration", "gateway.cli.schema", "configure"),
        "demo": ("see an agent query a database, with nothing installed", "gateway.cli.demo", "configure"),
    }
)
"""Name -> what it does, and where its flags are; a module is imported only when its command is asked for."""


def build_parser(asked: Sequence[str]) -> argparse.ArgumentParser:
    """The command line, with the flags of the commands that are asked for."""
    parser = argparse.ArgumentParser(
        prog="gateway", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (text, module, configure) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name in asked:
            getattr(import_module(module), configure)(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code; wrong usage leaves through `SystemExit(2)`, as argparse does.
    """
    words = sys.argv[1:] if argv is None else argv
    gc.disable()  # importing makes much, and nothing that could be collected
    arguments = build_parser(words[:1]).parse_args(words)
    gc.freeze()  # it all stays, so the collector need not walk it either
    gc.enable()
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except ConfigError as error:
        count = len(error.problems)
        print(f"{error.message}\n{count} problem{'s' * (count != 1)} in the configuration.", file=sys.stderr)
        return 1
    except GatewayError as error:
        print(f"gateway: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
