"""Rules over the claims of a token, compiled at load: what an author wrote under `allow`.

Values are compared as JSON, type by type: text never equals a number, true never
equals 1. What is missing or null, in the token or among the arguments, is denied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from gateway.config.rules import RuleSettings
from gateway.config.validation import suggestion
from gateway.context import MISSING, claim_at
from gateway.tools.parameters import Parameters
from gateway.tools.patterns import MAX_TEXT, compile_whole
from gateway.tools.schema import Mistake
from gateway.tools.validation import MAX_VALUES, is_rounded

Arguments = Mapping[str, Any]
_Test = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition on one claim.

    Attributes:
        claim: its path.
        text: the condition in the operator's words.
        test: judges the claim by itself; None where an argument is needed.
        compare: judges the claim beside the argument.
        argument: the argument's name.
        default: what the argument is when the caller gives none.
    """

    claim: str
    text: str
    test: _Test | None = None
    compare: Callable[[Any, Any], bool] | None = None
    argument: str = ""
    default: Any = MISSING

    def holds(self, claims: Mapping[str, Any], arguments: Arguments | None) -> bool:
        """Whether a caller with these claims may go on.

        Args:
            claims: of the verified token.
            arguments: of the call; None where there is no call yet, and fitting ones may still come.
        """
        found = claim_at(claims, self.claim)
        if found is MISSING or found is None:
            return False
        if self.test is not None:
            return self.test(found)
        if arguments is None:
            return True
        value = arguments.get(self.argument, self.default)
        return self.compare is not None and value is not MISSING and self.compare(found, value)


def compile_rules(written: Sequence[RuleSettings], parameters: Parameters) -> tuple[tuple[Rule, ...], list[Mistake]]:
    """Make the rules of one tool.

    Args:
        written: under `allow`; each with exactly one comparison.
        parameters: of the tool, whose arguments rules may name.

    Returns:
        the rules that could be made; each mistake with its key below the tool.
    """
    rules: list[Rule] = []
    mistakes: list[Mistake] = []
    for index, each in enumerate(written):
        try:
            rules.append(_compile(each, parameters))
        except _WrongKeyError as error:
            mistakes.append((("allow", index, error.key), str(error)))
    return tuple(rules), mistakes


def key_of(value: Any) -> tuple[str, Any] | None:
    """A scalar as it is compared: equal keys are equal JSON values; None for what is no scalar."""
    if isinstance(value, str):
        return "text", value
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, float):
        return None if is_rounded(value) else ("number", Decimal(repr(value)))
    return ("number", value) if isinstance(value, int | Decimal) else None


class _WrongKeyError(ValueError):
    """A rule that cannot be made.

    Args:
        key: of the rule, where the mistake is.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def _compile(rule: RuleSettings, parameters: Parameters) -> Rule:
    claim = rule.claim
    if rule.matches is not None:
        return Rule(claim, f"{claim} matches {rule.matches}", _matching(rule.matches))
    if rule.contains is not None:
        return Rule(claim, f"{claim} contains {json.dumps(rule.contains)}", _containing(rule.contains))
    if rule.equals_argument is not None:
        return _beside("equals", rule.equals_argument, rule, parameters)
    if rule.contains_argument is not None:
        return _beside("contains", rule.contains_argument, rule, parameters)
    values = (rule.equals,) if rule.equals is not None else rule.one_of or ()
    words = f"is {'one of ' * (len(values) > 1)}{', '.join(map(json.dumps, values))}"
    return Rule(claim, f"{claim} {words}", _being(values))


def _being(values: Sequence[str | int]) -> _Test:
    if all(isinstance(value, str) for value in values):  # text equals nothing but text, so that Python may compare
        texts = frozenset(values)
        return lambda found: isinstance(found, str) and found in texts
    wanted = frozenset(map(key_of, values))
    return lambda found: _is_one(found, wanted)


def _containing(value: str | int) -> _Test:
    if isinstance(value, str):
        return lambda found: isinstance(found, list | tuple) and value in found
    wanted = key_of(value)
    return lambda found: wanted in _items(found)


def _is_one(found: Any, wanted: frozenset[tuple[str, Any] | None]) -> bool:
    key = key_of(found)
    return key is not None and key in wanted


def _matching(pattern: str) -> _Test:
    try:
        compiled = compile_whole(pattern)
    except re.error as error:
        raise _WrongKeyError("matches", f"expected a regular expression: {error}") from None
    return lambda found: isinstance(found, str) and len(found) <= MAX_TEXT and compiled.fullmatch(found) is not None


def _beside(word: str, argument: str, rule: RuleSettings, parameters: Parameters) -> Rule:
    """A rule that compares a claim with an argument of the call."""
    key = f"{word}_argument"
    kind = parameters.given.get(argument)
    if kind is None:
        known = suggestion(argument, tuple(sorted(parameters.given)))
        raise _WrongKeyError(key, f"callers give this tool no such argument{known}")
    if kind not in _COMPARABLE[word]:
        raise _WrongKeyError(key, f"expected an argument of type {', '.join(_COMPARABLE[word])}, got {kind}")
    default = parameters.defaults.get(argument, MISSING)
    compare = _equal if word == "equals" else _contain
    return Rule(rule.claim, f"{rule.claim} {word} the argument {argument}", None, compare, argument, default)


def _equal(found: Any, argument: Any) -> bool:
    key = key_of(argument)
    return key is not None and key == key_of(found)


def _contain(found: Any, argument: Any) -> bool:
    """An empty list is denied: to a statement it may mean everything."""
    asked = argument if isinstance(argument, list) else [argument]
    if not 0 < len(asked) <= MAX_VALUES:
        return False
    known = _items(found)
    return all(_is_one(each, known) for each in asked)


def _items(found: Any) -> frozenset[tuple[str, Any] | None]:
    return frozenset(map(key_of, found)) - {None} if isinstance(found, list | tuple) else frozenset()


_SCALARS: Final = ("string", "integer", "number", "boolean")
_COMPARABLE: Final[Mapping[str, tuple[str, ...]]] = {"equals": _SCALARS, "contains": (*_SCALARS, "array")}
