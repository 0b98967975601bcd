"""The command-line reference names every command and every flag, and no other."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gateway.cli.main import COMMANDS, build_parser

_PAGE = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text()


def _commands() -> dict[str, argparse.ArgumentParser]:
    return _below("", build_parser(list(COMMANDS)))


def _below(prefix: str, parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a parser by all their words: "audit verify" stands for itself and for "audit"."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        for name, command in action.choices.items() if isinstance(action, argparse._SubParsersAction) else ():
            found |= _below(f"{prefix}{name} ", command) or {f"{prefix}{name}": command}
    return found


def test_every_command_and_flag_is_documented() -> None:
    flags = {"--version", "--help"}
    for name, parser in _commands().items():
        assert f"## `gateway {name}" in _PAGE
        flags |= {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")}
    documented = set(re.findall(r"--[a-z][a-z-]+", _PAGE))
    assert documented == flags


def test_every_flag_has_help() -> None:
    for name, parser in _commands().items():
        for action in parser._actions:
            grouped = action.dest in ("client_id", "client_secret")
            assert action.help or grouped, f"gateway {name} {action.dest}"
