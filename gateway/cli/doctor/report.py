"""What the doctor found: targets, their steps, and the exit code that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, SecretStr

TIMED_OUT_CODE: Final = 124
"""As `timeout` of the GNU coreutils exits, and the paper's diagnosis with it."""
_SHORTEST_SECRET: Final = 4
_NEARLY: Final = 0.95


class Outcome(StrEnum):
    """How a step ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, and will not for ever, or not well."""
    SKIPPED = "skipped"
    FAILED = "failed"
    TIMED_OUT = "timed_out"

    @property
    def is_bad(self) -> bool:
        """Whether the gateway cannot use its target this way."""
        return self in (Outcome.FAILED, Outcome.TIMED_OUT)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried.

    Attributes:
        name: "dns", "tcp", "tls", "login", ...
        outcome: how it ended.
        text: what was seen.
        advice: what to do next, for whatever is not well.
        seconds: how long it took; None where nothing was measured.
        facts: the same as `text` for machines.
    """

    name: str
    outcome: Outcome
    text: str
    advice: str = ""
    seconds: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that the gateway depends on.

    Attributes:
        kind: "source", "issuer", "redis" or "otlp".
        name: what the configuration calls it.
        where: where it is, for people.
        steps: what was tried, in order.
    """

    kind: str
    name: str
    where: str
    steps: list[Step] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether nothing failed."""
        return not any(step.outcome.is_bad for step in self.steps)

    def skip(self, name: str, reason: str) -> None:
        """Note that something was not tried."""
        self.steps.append(Step(name, Outcome.SKIPPED, reason))


def ending(seconds: float, limit: float) -> Outcome:
    """How a step failed that took so long, where nobody else says it: timers are not exact."""
    return Outcome.TIMED_OUT if seconds >= _NEARLY * limit else Outcome.FAILED


def exit_code(targets: Iterable[Target]) -> int:
    """0 when all is well, 124 when anything timed out, else 1 when anything failed."""
    outcomes = {step.outcome for target in targets for step in target.steps}
    if Outcome.TIMED_OUT in outcomes:
        return TIMED_OUT_CODE
    return int(Outcome.FAILED in outcomes)


def document(targets: Iterable[Target]) -> dict[str, Any]:
    """The whole report for machines."""
    told = list(targets)
    return {
        "ok": not exit_code(told),
        "exit_code": exit_code(told),
        "targets": [
            {
                "kind": target.kind,
                "name": target.name,
                "where": target.where,
                "ok": target.is_well,
                "steps": [_told(step) for step in target.steps],
            }
            for target in told
        ],
    }


def _told(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "outcome": step.outcome.value,
        "text": step.text,
        "advice": step.advice,
        "milliseconds": None if step.seconds is None else round(step.seconds * 1000, 1),
        "facts": dict(step.facts),
    }


def secrets_of(value: Any) -> Iterator[str]:
    """Every secret in settings, long enough to be told from ordinary words."""
    if isinstance(value, SecretStr):
        if len(text := value.get_secret_value()) >= _SHORTEST_SECRET:
            yield text
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_of(getattr(value, name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from secrets_of(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from secrets_of(each)


def without(text: str, secrets: Iterable[str]) -> str:
    """A text of somebody else's in which no secret stands, whatever a server or a driver put there."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
