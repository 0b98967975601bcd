"""`gateway doctor`: the command."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.auth.problems import problems as auth_problems
from gateway.cli import recording
from gateway.cli.doctor import helpers, issuers, paper, sources
from gateway.cli.doctor.report import Outcome, Step, Target, document, exit_code, secrets_of, without
from gateway.config.issuers import resolve
from gateway.config.loader import Configuration, load
from gateway.config.problems import ConfigError
from gateway.database.engine import Audit
from gateway.errors import GatewayError
from gateway.net import redis

_TIMEOUT: Final = 5.0
_LONGEST: Final = 300.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.description = (
        "Walk every way that the gateway takes, from where this runs: databases, identity providers, Redis and the "
        "telemetry collector. Each step (DNS, TCP, TLS, login, ...) says what was seen, and what to do where it "
        "fails. Exit code 0: all well; 124: something timed out; 1: something failed."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="PATH", help="a YAML file, or a folder of them")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="one target: a source's name, an issuer or its host, redis or otlp; may be given several times",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=_TIMEOUT,
        metavar="SECONDS",
        help="longest wait for one step, default 5; logins have the source's connect_timeout",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=partial(run, parser))


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= _LONGEST:
        raise argparse.ArgumentTypeError(f"between 0 and {_LONGEST:g}")
    return value


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Examine, print, and return 0, 1 or 124."""
    configuration = load(arguments.config)
    settings = configuration.settings
    if problems := (*auth_problems(settings.auth), *redis.problems(settings.redis)):
        raise ConfigError([configuration.problem(problem.path, problem.message) for problem in problems])
    rounds = Rounds(configuration, arguments.timeout)
    if unknown := rounds.keep(arguments.only):
        parser.error(f"--only {unknown}: known are {', '.join(sorted(rounds.names()))}")
    with _quiet():
        asyncio.run(_examine(configuration, rounds))
    secrets = set(secrets_of(settings))
    # As JSON writes them, too.
    secrets |= {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets}
    if arguments.json:
        text = json.dumps(document(rounds.targets), indent=2, ensure_ascii=False)
    else:
        text = "\n".join(paper.page(rounds.targets, in_colour=paper.wants_colour(sys.stdout)))
    print(without(text, secrets))
    return exit_code(rounds.targets)


async def _examine(configuration: Configuration, rounds: Rounds) -> None:
    """Examine, and have it recorded; the audit itself may be what ails, so that stops nothing, and is told."""
    try:
        async with recording.recorded(configuration, "doctor"):
            await rounds.examine()
    except recording.NotRecorded as error:
        print(f"gateway: this is not recorded in the audit: {error.__cause__}", file=sys.stderr)
        await rounds.examine()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of what is tried out of the report, which says the same in order."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


class Rounds:
    """All targets of a configuration, and how each is examined.

    Args:
        configuration: what to look at.
        limit: seconds for each step.
    """

    def __init__(self, configuration: Configuration, limit: float) -> None:
        settings = configuration.settings
        self._configuration = configuration
        self._limit = limit
        self._audits: dict[str, list[Audit]] = {}
        trusted = [resolve(each) for each in settings.auth.issuers] if settings.auth.mode == "jwt" else []
        self._issuers = {issuer.issuer: issuer for issuer in trusted}
        self._collectors = {each.url: each for each in helpers.collectors(os.environ)}
        self.targets: Sequence[Target] = [
            *(sources.target_of(name, source) for name, source in settings.sources.items()),
            *(issuers.target_of(issuer) for issuer in trusted),
            *([helpers.redis_target(settings.redis)] if settings.redis else []),
            *(helpers.collector_target(each) for each in self._collectors.values()),
        ]

    def names(self) -> set[str]:
        """What `--only` understands."""
        return {name for target in self.targets for name in _names(target)}

    def keep(self, only: Sequence[str]) -> str:
        """Leave out the others, or, if none is named, what is not enabled; the first name that is unknown, or ""."""
        if unknown := [name for name in only if name not in self.names()]:
            return unknown[0]
        self.targets = [
            target
            for target in self.targets
            if (not _names(target).isdisjoint(only) if only else self._is_enabled(target))
        ]
        return ""

    def _is_enabled(self, target: Target) -> bool:
        return target.kind != "source" or self._configuration.settings.sources[target.name].enabled

    async def examine(self) -> None:
        """Examine all at once."""
        await asyncio.gather(*map(self._try, self.targets))
        chosen = [target for target in self.targets if target.kind == "source"]
        sources.judge_limits(chosen, self._configuration, self._audits)

    async def _try(self, target: Target) -> None:
        try:
            await self._examine(target)
        except Exception as error:  # noqa: BLE001 - one surprise must not hide what was found elsewhere
            text = f"unexpected {type(error).__name__}: {error}"
            if isinstance(error, GatewayError):
                text = error.detail or error.message
            advice = "The rest of this target was not tried."
            target.steps.append(Step("doctor", Outcome.FAILED, text, advice))

    async def _examine(self, target: Target) -> None:
        settings = self._configuration.settings
        if target.kind == "source":
            await sources.examine(target, self._configuration, self._limit, self._audits)
        elif target.kind == "issuer":
            await issuers.examine(target, self._issuers[target.name], self._limit, settings.auth.ca)
        elif target.kind == "redis" and settings.redis is not None:
            await helpers.examine_redis(target, settings.redis, self._limit)
        else:
            await helpers.examine_collector(target, self._collectors[target.where], self._limit)


def _names(target: Target) -> set[str]:
    host = urlsplit(target.name).netloc if target.kind == "issuer" else ""
    return {target.name, host} - {""}
