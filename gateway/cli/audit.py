"""`gateway audit`: verify the records, and find some of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.cli.words import counted
from gateway.config.references import BadReference, read
from gateway.errors import GatewayError
from gateway.telemetry.audit.chain import Keys
from gateway.telemetry.audit.events import EVENTS
from gateway.telemetry.audit.redaction import Redactor
from gateway.telemetry.audit.search import Wanted, search
from gateway.telemetry.audit.verify import Report, Verifier
from gateway.tools.validation import exact

_FIELDS: Final = {
    "subject": "the caller's subject",
    "client": "the caller's client id",
    "tool": "the tool",
    "correlation_id": "the request's id",
    "outcome": "ok, error or cancelled",
}


class WrongUse(GatewayError):
    """The flags do not fit together."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their flags."""
    parser.description = "Verify the audit's records, or find some of them."
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _configure_verify(commands.add_parser("verify", help="say where records were changed, cut, moved or are missing"))
    _configure_search(commands.add_parser("search", help="print the records that fit"))


def _configure_verify(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check files as one log. Exit code 1 if a record was changed, is missing, doubled or out of order, "
        "or if the end was cut off; each problem with its file and line."
    )
    _add_files(parser)
    parser.add_argument(
        "--witness",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="heads or records kept in another place, which show a cut end",
    )
    parser.add_argument("--partial", action="store_true", help="the files are a part of the log, such as one month")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_verify)


def _configure_search(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print the records that fit every condition, one JSON object a line; exit code 1 if none does."
    _add_files(parser)
    parser.add_argument("--event", choices=sorted(EVENTS), metavar="EVENT", help="the kind of record")
    for name, text in _FIELDS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=text)
    parser.add_argument(
        "--argument",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument's value, recorded in clear or hashed; NAME:=JSON for JSON as it stands",
    )
    parser.add_argument("--since", type=_moment, metavar="TIME", help="this time or later (ISO 8601)")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="before this time")
    parser.add_argument("--limit", type=int, default=1000, metavar="N", help="most records (default: %(default)s)")
    parser.set_defaults(run=_search)


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="the log, in any order; .gz and .xz too")
    parser.add_argument(
        "--key-file",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a file with audit.chain_key; again for keys used before",
    )


def _moment(text: str) -> str:
    """A time as records write it; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _secrets(files: Sequence[Path]) -> list[str]:
    try:
        return [read(file) for file in files]
    except BadReference as error:
        raise WrongUse(f"--key-file: {error}") from None


def _verify(arguments: argparse.Namespace) -> int:
    verifier = Verifier(_secrets(arguments.key_file), is_partial=arguments.partial)
    report = verifier.verify(arguments.files, arguments.witness)
    if arguments.json:
        fields = ("problems", "notes", "records", "chains")
        print(json.dumps({"ok": report.is_whole} | {name: getattr(report, name) for name in fields}, indent=2))
    else:
        _tell(report, is_signed=bool(arguments.key_file))
    return 0 if report.is_whole else 1


def _tell(report: Report, *, is_signed: bool) -> None:
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    counts = f"{counted(report.records, 'record')} in {counted(report.chains, 'chain')}"
    if report.problems:
        print(f"{counted(len(report.problems), 'problem')} in {counts}.", file=sys.stderr)
    else:
        unsigned = "" if is_signed else " Without a key, this shows accidents and clumsy changes only."
        print(f"OK: {counts}.{unsigned}")


def _search(arguments: argparse.Namespace) -> int:
    asked = {name: getattr(arguments, name) for name in ("event", *_FIELDS)}
    fields = {name: value for name, value in asked.items() if value is not None}
    redactors = [Redactor(Keys(secret).arguments) for secret in _secrets(arguments.key_file)]
    values = dict(_argument(pair, redactors) for pair in arguments.argument)
    found = search(arguments.files, Wanted(fields, values, arguments.since or "", arguments.until or ""))
    is_found = False
    for line in islice(found, arguments.limit):
        is_found = True
        print(line.decode(errors="replace"))
    return 0 if is_found else 1


def _argument(pair: str, redactors: Sequence[Redactor]) -> tuple[str, frozenset[str]]:
    """An argument's name, and all that a record may hold for its value: text, or the JSON that the text is."""
    name, sign, text = pair.partition("=")
    if not sign or not name:
        raise WrongUse(f"--argument takes NAME=VALUE or NAME:=JSON, not {pair!r}.")
    values: list[object] = [] if name.endswith(":") else [text]
    with suppress(ValueError):
        values.append(exact(json.loads(text)))
    hashes = (redactor.hash(value) for redactor in redactors for value in values)
    return name.removesuffix(":"), frozenset({text, *hashes})
