"""The arguments of one tool: their published schema, their check, and their values to bind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from jsonschema import Draft202012Validator

from gateway.context import MISSING, claim_at
from gateway.errors import Code, ToolError
from gateway.tools import messages, schema
from gateway.tools.plain import quick_check
from gateway.tools.schema import Mistake, Path
from gateway.tools.validation import exact, excess, is_rounded, validator

_MAX_ERRORS: Final = 50
_NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a tool takes.

    Attributes:
        schema: the published input schema (JSON Schema 2020-12).
        given: the JSON Schema type of each parameter that callers give, in the order of writing.
        places: where below the tool each parameter is written.
        defaults: what a parameter is that a caller leaves out.
        takes_headers: whether callers must repeat a parameter in a header (`x-mcp-header`).
        sensitive: whose values are never shown anywhere.
        clear: whose values the audit records in clear.
        taken: the parameters that the token gives; None where there are none.
    """

    schema: dict[str, Any]
    given: Mapping[str, str]
    places: Mapping[str, Path]
    defaults: Mapping[str, Any]
    takes_headers: bool
    _is_plain: Callable[[Mapping[str, Any]], bool] | None
    _validator: Draft202012Validator
    sensitive: frozenset[str]
    clear: frozenset[str]
    taken: TakenParameters | None = None

    @property
    def types(self) -> Mapping[str, str]:
        """The JSON Schema type of every parameter, those that callers give first."""
        return {**self.given, **self.taken.parameters.given} if self.taken else self.given

    def values(self, arguments: Mapping[str, Any], claims: Mapping[str, Any] = _NO_CLAIMS) -> dict[str, Any]:
        """A value for every parameter: the argument or the claim, else the default, else None.

        Args:
            arguments: as JSON, with `int` and `Decimal` numbers.
            claims: of the verified token.

        Raises:
            ToolError: INVALID_ARGUMENTS, telling the model each problem, at most five; ACCESS_DENIED where the
                token lacks what a parameter takes from it.
        """
        is_plain = self._is_plain is not None and self._is_plain(arguments)
        if not is_plain and (problems := self._problems(arguments)):
            raise ToolError(Code.INVALID_ARGUMENTS, messages.bounded(problems))
        filled = {**self.defaults, **arguments}
        values = {name: _bindable(filled.get(name), kind) for name, kind in self.given.items()}
        return values | self.taken.values(claims) if self.taken else values

    def _problems(self, arguments: Mapping[str, Any]) -> list[str]:
        if trouble := excess(arguments):
            return [f"The call's arguments cannot be taken: an argument {trouble}."]
        names = islice((name for name in arguments if name not in self.given), _MAX_ERRORS)
        strangers = [messages.unknown(name, self.given) for name in names]
        known = {name: value for name, value in arguments.items() if name in self.given}
        errors = islice(self._validator.iter_errors(known), _MAX_ERRORS)
        return strangers + messages.explain(errors, self.sensitive)


@dataclass(frozen=True, slots=True)
class TakenParameters:
    """Parameters whose values are claims of the caller's token (`from_claim`); callers cannot give them.

    Attributes:
        claims: the path of each parameter's claim.
        parameters: their schema and its check.
    """

    claims: Mapping[str, str]
    parameters: Parameters

    def values(self, claims: Mapping[str, Any]) -> dict[str, Any]:
        """The value of each.

        Raises:
            ToolError: ACCESS_DENIED, a claim is missing, or is not what its parameter takes.
        """
        found = {name: claim_at(claims, path) for name, path in self.claims.items()}
        for name, value in found.items():
            if value is MISSING or value is None:
                raise _denied(self.claims[name], "does not carry")
            if excess(value) or is_rounded(value):
                raise _denied(self.claims[name], _UNFIT)
        try:
            return self.parameters.values({name: exact(value) for name, value in found.items()})
        except ToolError:
            # Which of them it was is told by trying each; the words for arguments would repeat the value.
            wrong = next((name for name in found if not self._fits(name, found[name])), next(iter(found)))
            raise _denied(self.claims[wrong], _UNFIT) from None

    def _fits(self, name: str, value: Any) -> bool:
        return validator(self.parameters.schema["properties"][name]).is_valid(exact(value))


_UNFIT: Final = "has in a form that the tool does not take"


def _denied(claim: str, how: str) -> ToolError:
    return ToolError(
        Code.ACCESS_DENIED,
        f"This tool works with the claim {claim}, which your access token {how}. Nothing was run, and no"
        " argument can stand in for it; ask your administrator for a token that has it.",
        detail=f"from_claim {claim}: the token {how}",
    )


def compile_parameters(
    short: Mapping[str, Mapping[str, Any]] | None, whole: dict[str, Any] | None
) -> tuple[Parameters | None, list[Mistake]]:
    """Make a tool's parameters from the short form or from a whole schema.

    Returns:
        the parameters, or None where there are mistakes; each mistake with its key below the tool.
    """
    if short is not None and whole is not None:
        return None, [(("input_schema",), "write either parameters or input_schema, not both")]
    taken = {name: each for name, each in (short or {}).items() if schema.FROM_CLAIM in each}
    mistakes: list[Mistake] = [(("parameters", *path), text) for path, text in schema.claim_mistakes(taken)]
    given = {name: each for name, each in short.items() if name not in taken} if short is not None else None
    made, found = _compile(given, whole)
    mistakes += found
    if not taken:
        return made, mistakes
    plain = {
        name: {key: word for key, word in each.items() if key != schema.FROM_CLAIM} for name, each in taken.items()
    }
    inner, found = _compile(plain, None)
    mistakes += found
    if mistakes or made is None or inner is None:
        return None, mistakes
    claims = {name: str(each[schema.FROM_CLAIM]) for name, each in taken.items()}
    places = {**made.places, **inner.places}
    return replace(made, places=places, taken=TakenParameters(claims, inner)), []


def _compile(
    short: Mapping[str, Mapping[str, Any]] | None, whole: dict[str, Any] | None
) -> tuple[Parameters | None, list[Mistake]]:
    is_whole = whole is not None
    mistakes = [] if is_whole else [(("parameters", *path), text) for path, text in schema.house_mistakes(short or {})]
    published = whole if whole is not None else schema.publish(short or {})
    told = {path for path, _ in mistakes}
    for path, text in schema.schema_mistakes(published):
        place = _place(path, is_whole)
        if place not in told:
            mistakes.append((place, text))
    if mistakes:
        return None, mistakes
    clear = frozenset(name for name, each in (short or {}).items() if each.get("audit") == "clear")
    return _assemble(published, clear, is_whole)


def _assemble(
    published: dict[str, Any], clear: frozenset[str], is_whole: bool
) -> tuple[Parameters | None, list[Mistake]]:
    properties = published.get("properties", {})
    mistakes: list[Mistake] = []
    types: dict[str, str] = {}
    for name, each in properties.items():
        kinds = schema.bind_types(each, published)
        if len(kinds) == 1:
            types[name] = next(iter(kinds))
        else:
            expected = f"expected one type of {', '.join(schema.TYPES)} (null may be added)"
            mistakes.append((_place(("properties", name), is_whole), expected))
    defaults = {
        name: exact(each["default"])
        for name, each in properties.items()
        if isinstance(each, dict) and "default" in each
    }
    checker = validator(published)
    mistakes += [
        (_place(("properties", name, "default"), is_whole), f"breaks its own schema: {line}")
        for name, value in defaults.items()
        for line in messages.explain(validator(_without_rules(published)).iter_errors({name: value}), frozenset())
    ]
    if _is_endless(checker, properties):
        mistakes.append((_place((), is_whole), "the schema refers to itself without end"))
    if mistakes:
        return None, mistakes
    places = {name: _place(("properties", name), is_whole) for name in types}
    sensitive = frozenset(name for name, each in properties.items() if _has_secret(each, published))
    takes_headers = any("x-mcp-header" in part for _, part in schema.positions(published))
    quick = quick_check(published)
    return Parameters(published, types, places, defaults, takes_headers, quick, checker, sensitive, clear), []


def _without_rules(published: dict[str, Any]) -> dict[str, Any]:
    """The schema with its properties but without the rules between them, to judge one value."""
    rules = (
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "required",
        "dependentRequired",
        "dependentSchemas",
        "minProperties",
    )
    return {key: value for key, value in published.items() if key not in rules}


def _is_endless(checker: Draft202012Validator, properties: Mapping[str, Any]) -> bool:
    """Whether judging some value follows references for ever."""
    samples: tuple[Any, ...] = (None, 0, "", [], {})
    values: list[dict[str, Any]] = [{}, *({name: sample} for name in properties for sample in samples)]
    try:
        for value in values:
            next(checker.iter_errors(value), None)
    except RecursionError:
        return True
    return False


def _has_secret(parameter: Any, published: dict[str, Any]) -> bool:
    """Whether a message must not repeat this parameter: anything in it, or that it refers to, is write-only."""
    parts = [part for _, part in schema.positions(parameter)]
    if any("$ref" in part for part in parts):
        parts += [part for _, part in schema.positions({"$defs": published.get("$defs")})]
    return any(part.get("writeOnly") is True for part in parts)


def _place(path: Path, is_whole: bool) -> Path:
    """A path in the published schema as the key the author wrote."""
    if is_whole:
        return ("input_schema", *path)
    return ("parameters", *(path[1:] if path[:1] == ("properties",) else path))


def _bindable(value: Any, kind: str) -> Any:
    """The value as it is bound: 1.0 for an integer is 1."""
    return int(value) if kind == "integer" and isinstance(value, Decimal) else value
