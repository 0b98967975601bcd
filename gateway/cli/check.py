"""`gateway check`: every mistake that can be found before an agent finds it."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.auth import verifier
from gateway.config.loader import Configuration
from gateway.config.problems import ConfigError, Problem
from gateway.database.engine import Engine, Statement
from gateway.tools.catalog import Catalog, build
from gateway.tools.loading import engines_of, load_with_tools
from gateway.tools.results import duplicate_columns


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = (
        "Check a configuration. Unless --offline, connect to every source and prepare every statement there, "
        "so that a missing column or a wrong parameter is found now, with the tool's name and position."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="PATH", help="a YAML file, or a folder of them")
    parser.add_argument("--offline", action="store_true", help="do not connect to any database")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, print, and return 1 if anything is wrong."""
    try:
        configuration, catalog, engines = _load(arguments.config)
        problems: Sequence[Problem] = ()
        if not arguments.offline:
            problems = asyncio.run(_prepare_all(configuration, engines, catalog.statements()))
    except ConfigError as error:
        if not arguments.json:
            raise
        problems, catalog = error.problems, None
    if arguments.json:
        print(json.dumps(_report(problems, catalog, is_offline=arguments.offline), indent=2))
        return 1 if problems else 0
    if problems:
        raise ConfigError(problems)
    reached = "not connected (--offline)" if arguments.offline else "every statement prepared"
    print(
        f"OK: {_count(len(catalog or ()), 'tool')}, {_count(len(configuration.settings.sources), 'source')}, {reached}."
    )
    return 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _load(path: Path) -> tuple[Configuration, Catalog, Mapping[str, Engine]]:
    configuration = load_with_tools(path)
    if problems := verifier.problems(configuration.settings.auth):
        raise ConfigError([configuration.problem(problem.path, problem.message) for problem in problems])
    engines = engines_of(configuration)
    return configuration, build(configuration, engines), engines


def _report(problems: Sequence[Problem], catalog: Catalog | None, *, is_offline: bool) -> dict[str, object]:
    return {
        "ok": not problems,
        "offline": is_offline,
        "tools": len(catalog) if catalog is not None else None,
        "problems": [
            {
                "file": str(problem.place.file) if problem.place else None,
                "line": problem.place.line if problem.place else None,
                "key": ".".join(map(str, problem.path)),
                "message": problem.message,
            }
            for problem in problems
        ],
    }


async def _prepare_all(
    configuration: Configuration, engines: Mapping[str, Engine], statements: Mapping[str, Sequence[Statement]]
) -> list[Problem]:
    """Ask every source at once; a source that cannot be reached is one problem, not one for each tool."""
    checks = [_prepare(configuration, name, engine, statements.get(name, ())) for name, engine in engines.items()]
    return [problem for found in await asyncio.gather(*checks) for problem in found]


async def _prepare(
    configuration: Configuration, source: str, engine: Engine, statements: Sequence[Statement]
) -> list[Problem]:
    limit = configuration.settings.sources[source].connect_timeout
    try:
        async with asyncio.timeout(limit):
            connection = await engine.connect()
    except TimeoutError:
        return [configuration.problem(("sources", source), f"no connection within {limit:g} s")]
    except Exception as error:  # noqa: BLE001 - the engine names whatever its driver raised
        failure = engine.translate(error)
        return [configuration.problem(("sources", source), f"cannot connect: {failure.detail or failure.message}")]
    try:
        problems = []
        for statement in statements:
            path = ("tools", statement.name, "statement")
            try:
                async with asyncio.timeout(limit):
                    columns = await connection.describe(statement)
            except Exception as error:  # noqa: BLE001 - as above
                failure = engine.translate(error)
                problems.append(configuration.problem(path, failure.detail or failure.message))
            else:
                problems += [
                    configuration.problem(path, f"two columns are named {name!r}; give one an alias")
                    for name in duplicate_columns(columns)
                ]
        return problems
    finally:
        connection.abort()
