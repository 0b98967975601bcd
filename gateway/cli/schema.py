"""`gateway schema`: the configuration's JSON Schema, for editors."""

from __future__ import annotations

import argparse
import json

from gateway.config.loader import json_schema


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = "Print the JSON Schema (2020-12) of the configuration, for completion and checks in an editor."
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(json_schema(), indent=2))
    return 0
