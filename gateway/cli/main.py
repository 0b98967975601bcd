"""`gateway`: the command line. Exit code 0 is success, 1 is failure, 2 is wrong usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from gateway import __version__
from gateway.cli import call, check, demo, schema, serve
from gateway.config.problems import ConfigError
from gateway.errors import GatewayError

_DESCRIPTION: Final = """\
MCP Database Gateway: named, typed, scoped database tools for LLM agents.

The tools are fixed SQL in a configuration file; agents call them over MCP with
an OAuth token and never see a credential."""

_COMMANDS: Final[tuple[Callable[[argparse._SubParsersAction[argparse.ArgumentParser]], None], ...]] = (
    serve.add_to,
    check.add_to,
    call.add_call_to,
    call.add_tools_to,
    schema.add_to,
    demo.add_to,
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, for `--help` and for the test that holds the reference against it."""
    parser = argparse.ArgumentParser(
        prog="gateway", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_to in _COMMANDS:
        add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code; wrong usage leaves through `SystemExit(2)`, as argparse does.
    """
    arguments = build_parser().parse_args(argv)
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
