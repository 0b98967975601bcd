"""`gateway check`: every mistake that can be found before an agent finds it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gateway.auth.problems import problems as auth_problems
from gateway.cli import accounts, permissions, recording
from gateway.cli.permissions import Verdict
from gateway.cli.words import counted
from gateway.config.loader import Configuration
from gateway.config.problems import ConfigError, KeyPath, Problem
from gateway.database.accounts import account_settings
from gateway.database.engine import Audit, Auditable, Connection, Engine, Statement
from gateway.database.sources import build_engine
from gateway.net import redis
from gateway.tools.catalog import Catalog, build
from gateway.tools.loading import engines_of, load_with_tools
from gateway.tools.results import duplicate_columns


@dataclass(slots=True)
class Findings:
    """What was found at the databases."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    audits: dict[str, list[Audit]] = field(default_factory=dict)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = (
        "Check a configuration. Unless --offline, connect to every source and prepare every statement there, "
        "so that a missing column or a wrong parameter is found now, with the tool's name and position."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="PATH", help="a YAML file, or a folder of them")
    parser.add_argument("--offline", action="store_true", help="do not connect to any database")
    parser.add_argument(
        "--as",
        dest="claims",
        type=Path,
        metavar="CLAIMS",
        help="tell what a token with the claims in a JSON file may do",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, print, and return 1 if anything is wrong; warnings alone are not."""
    findings = Findings()
    try:
        configuration, catalog, engines = _load(arguments.config)
        if not arguments.offline:
            asyncio.run(_ask(configuration, engines, catalog.statements(), findings))
    except ConfigError as error:
        if not arguments.json:
            raise
        findings.problems, catalog = list(error.problems), None
    else:
        findings.warnings += recording.warnings(configuration)
    told = _permissions(arguments.claims, configuration, catalog) if arguments.claims and catalog is not None else None
    if arguments.json:
        print(json.dumps(_report(findings, catalog, told, is_offline=arguments.offline), indent=2))
        return 1 if findings.problems else 0
    for warning in findings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if findings.problems:
        raise ConfigError(findings.problems)
    reached = "not connected (--offline)" if arguments.offline else "every statement prepared"
    sources = counted(len(configuration.settings.sources), "source")
    print(f"OK: {counted(len(catalog or ()), 'tool')}, {sources}, {reached}.")
    for verdict in told or ():
        print(verdict)
    return 0


def _permissions(claims: Path, configuration: Configuration, catalog: Catalog) -> list[Verdict]:
    caller = permissions.read_caller(claims, configuration.settings)
    return list(permissions.verdicts(configuration.settings, catalog, caller))


def _load(path: Path) -> tuple[Configuration, Catalog, Mapping[str, Engine]]:
    configuration = load_with_tools(path)
    settings = configuration.settings
    if problems := (*auth_problems(settings.auth), *redis.problems(settings.redis)):
        raise ConfigError([configuration.problem(problem.path, problem.message) for problem in problems])
    engines = engines_of(configuration)
    return configuration, build(configuration, engines), engines


def _report(
    findings: Findings, catalog: Catalog | None, told: list[Verdict] | None, *, is_offline: bool
) -> dict[str, object]:
    return {
        "ok": not findings.problems,
        "offline": is_offline,
        "tools": len(catalog) if catalog is not None else None,
        "problems": [_told(problem) for problem in findings.problems],
        "warnings": [_told(warning) for warning in findings.warnings],
    } | ({} if told is None else {"permissions": [asdict(verdict) for verdict in told]})


def _told(problem: Problem) -> dict[str, object]:
    return {
        "file": str(problem.place.file) if problem.place else None,
        "line": problem.place.line if problem.place else None,
        "key": ".".join(map(str, problem.path)),
        "message": problem.message,
    }


async def _ask(
    configuration: Configuration,
    engines: Mapping[str, Engine],
    statements: Mapping[str, Sequence[Statement]],
    findings: Findings,
) -> None:
    """Ask the databases, once the audit has the record that this command does."""
    try:
        async with recording.recorded(configuration, "check"):
            await _prepare_all(configuration, engines, statements, findings)
    except recording.NotRecorded as error:
        findings.problems.append(configuration.problem(("audit",), error.message))


async def _prepare_all(
    configuration: Configuration,
    engines: Mapping[str, Engine],
    statements: Mapping[str, Sequence[Statement]],
    findings: Findings,
) -> None:
    """Ask every source at once; a source that cannot be reached is one problem, not one for each tool."""
    found = {name: Findings() for name in engines}
    checks = (
        _check_source(configuration, name, engine, statements.get(name, ()), found[name])
        for name, engine in engines.items()
    )
    await asyncio.gather(*checks)
    for part in found.values():
        findings.problems += part.problems
        findings.warnings += part.warnings
        findings.audits |= part.audits
    findings.warnings += accounts.budgets(configuration, findings.audits)


async def _check_source(
    configuration: Configuration, source: str, engine: Engine, statements: Sequence[Statement], findings: Findings
) -> None:
    """Check what the source's own account prepares, then that each of its other accounts can log in."""
    path: KeyPath = ("sources", source)
    await _check(configuration, path, engine, statements, findings)
    if findings.problems:
        return
    settings = configuration.settings.sources[source]
    for index, account in enumerate(settings.credentials):
        engine = build_engine(account_settings(settings, account), source)
        await _check(configuration, (*path, "credentials", index), engine, (), findings)


async def _check(
    configuration: Configuration, path: KeyPath, engine: Engine, statements: Sequence[Statement], findings: Findings
) -> None:
    limit = configuration.settings.sources[str(path[1])].connect_timeout
    try:
        async with asyncio.timeout(limit):
            connection = await engine.connect()
    except TimeoutError:
        findings.problems.append(configuration.problem(path, f"no connection within {limit:g} s"))
        return
    except Exception as error:  # noqa: BLE001 - the engine names whatever its driver raised
        findings.problems.append(configuration.problem(path, f"cannot connect: {_words(engine, error)}"))
        return
    try:
        for statement in statements:
            findings.problems += await _prepare(configuration, engine, connection, statement, limit)
        if isinstance(connection, Auditable):
            await _audit(configuration, path, engine, connection, findings)
    finally:
        connection.abort()


async def _prepare(
    configuration: Configuration, engine: Engine, connection: Connection, statement: Statement, limit: float
) -> list[Problem]:
    path = ("tools", statement.name, "statement")
    try:
        async with asyncio.timeout(limit):
            columns = await connection.describe(statement)
    except Exception as error:  # noqa: BLE001 - as above
        return [configuration.problem(path, _words(engine, error))]
    return [
        configuration.problem(path, f"two columns are named {name!r}; give one an alias")
        for name in duplicate_columns(columns)
    ]


async def _audit(
    configuration: Configuration, path: KeyPath, engine: Engine, connection: Auditable, findings: Findings
) -> None:
    source = str(path[1])
    try:
        async with asyncio.timeout(configuration.settings.sources[source].connect_timeout):
            found = await connection.audit()
    except Exception as error:  # noqa: BLE001 - as above
        message = f"the server does not say what the account may do: {_words(engine, error)}"
        findings.warnings.append(configuration.problem(path, message))
        return
    findings.audits.setdefault(source, []).append(found)
    findings.problems += accounts.mistakes(configuration, path, found)
    findings.warnings += accounts.rights(configuration, path, found)
    findings.warnings += accounts.notes(configuration, path, found)


def _words(engine: Engine, error: Exception) -> str:
    """What an exception means, for the operator."""
    failure = engine.translate(error)
    return failure.detail or failure.message
