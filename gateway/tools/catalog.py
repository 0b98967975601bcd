"""The tools, by name: made whole at load, asked on every call."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from gateway.config.loader import Configuration
from gateway.config.models import GatewaySettings
from gateway.config.problems import ConfigError, Problem
from gateway.config.tools import ToolSettings
from gateway.context import Principal
from gateway.database.engine import Column, Engine, Statement
from gateway.errors import DeniedByRule, InsufficientScope, ProtocolError
from gateway.telemetry.audit.redaction import Plan, plan
from gateway.tools import procedures
from gateway.tools.authorization import Access
from gateway.tools.classify import changes
from gateway.tools.comments import Comment, commented
from gateway.tools.parameters import Parameters, compile_parameters
from gateway.tools.results import Numbers, duplicate_columns, output_schema
from gateway.tools.rules import compile_rules
from gateway.tools.schema import Mistake
from gateway.tools.statement import Scan, render, scan

INVALID_PARAMS = -32602
"""JSON-RPC's code for a tool that does not exist (MCP, Tools, Error Handling)."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One named tool, ready to run.

    Attributes:
        name: as callers call it.
        title: for people; None where the author gave none.
        description: for the model that chooses it.
        source: the name of the source it asks.
        access: what a caller needs.
        statement: its SQL with the engine's placeholders.
        max_rows: most rows in a result.
        max_result_bytes: most bytes of its structured content.
        numbers: how large integers and decimals go out.
        parameters: what it takes.
        is_idempotent: whether running it twice is the same as running it once.
        audit: how its calls are recorded.
        comment: what its statement tells the database of each call.
    """

    name: str
    title: str | None
    description: str
    source: str
    access: Access
    statement: Statement
    max_rows: int
    max_result_bytes: int
    numbers: Numbers
    parameters: Parameters
    is_idempotent: bool
    audit: Plan
    comment: Comment = "off"

    @property
    def input_schema(self) -> dict[str, Any]:
        """The published JSON Schema of its arguments; not to be changed."""
        return self.parameters.schema

    @property
    def narrowing(self) -> tuple[str, ...]:
        """Parameters that may narrow the rows."""
        return tuple(self.parameters.given)

    def bind(self, arguments: Mapping[str, Any], claims: Mapping[str, Any]) -> Sequence[Any]:
        """The values to bind, in the statement's order.

        Args:
            arguments: of the call.
            claims: of the caller's token.

        Raises:
            ToolError: INVALID_ARGUMENTS, telling the model what is wrong; ACCESS_DENIED, a claim is missing.
        """
        values = self.parameters.values(arguments, claims)
        return [values[name] for name in self.statement.parameters]

    def describe(self, columns: tuple[Column, ...] | None) -> dict[str, Any]:
        """The tool object of `tools/list` (MCP 2026-07-28, Tools); parts are shared, not to be changed.

        Args:
            columns: of the prepared statement; None while the source was never reached.
        """
        described: dict[str, Any] = {"name": self.name}
        if self.title is not None:
            described["title"] = self.title
        described |= {"description": self.description, "inputSchema": self.input_schema}
        if columns is not None and not duplicate_columns(columns):
            described["outputSchema"] = output_schema(columns, self.numbers, writes=self.statement.writes)
        is_write = self.statement.writes
        described["annotations"] = _WRITES | {"idempotentHint": self.is_idempotent} if is_write else _READS
        return described


class Catalog:
    """Every enabled tool, in the order of names; immutable."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = MappingProxyType({tool.name: tool for tool in sorted(tools, key=lambda tool: tool.name)})
        self._has_rules = any(tool.access.rules for tool in tools)
        self._scopes = frozenset(scope for tool in tools for scope in (*tool.access.scopes, *tool.access.any_scopes))

    def require(self, name: str, principal: Principal, arguments: Mapping[str, Any]) -> Tool:
        """The tool of that name, if the caller may call it with these arguments.

        Raises:
            ProtocolError: -32602, there is no such tool, or a rule over claims does not hold; in the same words.
            InsufficientScope: the caller lacks a scope; names all that are needed.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise self._unknown(name, principal)
        if broken := tool.access.broken(principal.claims, arguments):
            raise self._unknown(name, principal, f"tool {name} denied by {'; '.join(rule.text for rule in broken)}")
        if not tool.access.is_granted(principal):
            raise InsufficientScope(tool.access.needed(principal))
        return tool

    def visible(self, principal: Principal) -> tuple[Tool, ...]:
        """The tools that the caller may call, by name; some perhaps with fitting arguments only."""
        return tuple(tool for tool in self._tools.values() if tool.access.is_open(principal))

    def view(self, principal: Principal) -> Hashable:
        """What `visible` depends on: callers with the same view see the same tools."""
        if self._has_rules:
            return tuple(tool.name for tool in self.visible(principal))
        return True if principal.has_every_scope else principal.scopes & self._scopes

    def behind(self, names: Collection[str], scopes: frozenset[str]) -> Catalog:
        """The catalog of a toolset: only its tools, each of which needs the toolset's scopes, too."""
        return Catalog([replace(tool, access=tool.access.behind(scopes)) for tool in self if tool.name in names])

    def statements(self) -> Mapping[str, Sequence[Statement]]:
        """The statements of each source, to be prepared when it is reached."""
        grouped: defaultdict[str, list[Statement]] = defaultdict(list)
        for tool in self._tools.values():
            grouped[tool.source].append(tool.statement)
        return grouped

    @property
    def entry_scopes(self) -> tuple[str, ...]:
        """What a first token should ask for: what some tool needs, in order."""
        needed = (tool.access.needed(_NOBODY) for tool in self._tools.values())
        return tuple(sorted({scope for scopes in needed for scope in scopes}))

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def _unknown(self, name: str, principal: Principal, detail: str = "") -> ProtocolError:
        """One answer for what is not there and for what a rule denies; only the log tells them apart."""
        # The name itself is no hint: the caller may call it, but not with these arguments.
        others = [tool.name for tool in self.visible(principal) if tool.name != name]
        close = difflib.get_close_matches(name[:128], others, 1)
        hint = f'did you mean "{close[0]}"?' if close else "tools/list names those you may call."
        kind = DeniedByRule if detail else ProtocolError
        return kind(INVALID_PARAMS, f'There is no tool "{name[:128]}" for this call; {hint}', detail=detail)


def toolsets(catalog: Catalog, settings: GatewaySettings) -> dict[str, Catalog]:
    """The catalog of each toolset, by its name."""
    return {name: catalog.behind(each.tools, frozenset(each.scopes or ())) for name, each in settings.toolsets.items()}


def build(configuration: Configuration, engines: Mapping[str, Engine]) -> Catalog:
    """Make every tool of a configuration.

    Args:
        configuration: the settings and where they are written.
        engines: of each source, by its name.

    Raises:
        ConfigError: with every problem of every tool, disabled ones included.
    """
    tools: list[Tool] = []
    problems: list[Problem] = []
    for name, settings in configuration.settings.tools.items():
        tool, mistakes = _make(name, settings, configuration, engines)
        problems += [configuration.problem(("tools", name, *path), message) for path, message in mistakes]
        if tool is not None and settings.enabled and configuration.settings.sources[tool.source].enabled:
            tools.append(tool)
    if problems:
        raise ConfigError(problems)
    return Catalog(tools)


def _make(
    name: str, settings: ToolSettings, configuration: Configuration, engines: Mapping[str, Engine]
) -> tuple[Tool | None, list[Mistake]]:
    mistakes = _source_mistakes(settings, configuration)
    parameters, found = compile_parameters(settings.parameters, settings.input_schema)
    mistakes += found
    engine = engines.get(settings.source)
    if engine is None or parameters is None:
        return None, mistakes
    text = procedures.text_of(settings, parameters.types)
    scanned = scan(text, engine.dialect, {*parameters.types, *(settings.outputs or {})})
    mistakes += _statement_mistakes(scanned, parameters)
    used = frozenset(item.name for item in scanned.placeholders)
    mistakes += procedures.mistakes(settings, engine, parameters.types, used)
    if not scanned.mistakes and not settings.writes:
        mistakes += [(("statement",), text) for text in changes(scanned.text, engine.dialect)]
    rules, found = compile_rules(settings.allow or (), parameters)
    mistakes += found
    if mistakes:
        return None, mistakes
    whole = configuration.settings
    outputs = procedures.outputs_of(settings)
    statement = render(name, scanned, engine, parameters.types, writes=settings.writes, outputs=outputs)
    default_scopes = () if settings.any_scopes else whole.auth.default_scopes
    tool = Tool(
        name=name,
        title=settings.title,
        description=settings.description,
        source=settings.source,
        access=Access(frozenset(settings.scopes or default_scopes), settings.any_scopes or (), rules),
        statement=commented(statement, whole.telemetry.traces.sql_comment),
        max_rows=settings.max_rows,
        max_result_bytes=settings.max_result_bytes or whole.server.max_result_bytes,
        numbers=settings.numbers or whole.server.numbers,
        parameters=parameters,
        is_idempotent=settings.idempotent or not settings.writes,
        audit=plan(statement.text, parameters.schema.get("properties", {}), parameters.sensitive, parameters.clear),
        comment=whole.telemetry.traces.sql_comment,
    )
    return tool, []


def _source_mistakes(settings: ToolSettings, configuration: Configuration) -> list[Mistake]:
    sources = configuration.settings.sources
    if settings.source not in sources:
        close = difflib.get_close_matches(settings.source, sorted(sources), 1)
        hint = f"did you mean {close[0]}?" if close else f"known are: {', '.join(sorted(sources)) or 'none'}"
        return [(("source",), f"there is no source {settings.source}; {hint}")]
    if settings.writes and sources[settings.source].access != "read-write":
        return [(("writes",), f"source {settings.source} is read-only; give it access: read-write, or remove writes")]
    return []


def _statement_mistakes(scanned: Scan, parameters: Parameters) -> list[Mistake]:
    mistakes: list[Mistake] = [(("statement",), text) for text in scanned.mistakes]
    used = {item.name for item in scanned.placeholders}
    for name, place in parameters.places.items():
        if name not in used:
            unusable = "" if name.isidentifier() and name.isascii() else " (a name of letters, digits and _)"
            mistakes.append((place, f"the statement has no placeholder :{name}{unusable}; use it or remove it"))
    return mistakes


_NOBODY = Principal("", "", "", frozenset())
_READS = {"readOnlyHint": True, "openWorldHint": False}
_WRITES = {"readOnlyHint": False, "destructiveHint": True, "openWorldHint": False}
