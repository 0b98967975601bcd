"""Every event of the audit and its fields; `docs/reference/audit.md` says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

CHAIN_OPEN: Final = "chain.open"
CHAIN_CLOSE: Final = "chain.close"
SINK_FAILED: Final = "sink.failed"
SINK_RECOVERED: Final = "sink.recovered"
GATEWAY_START: Final = "gateway.start"
GATEWAY_STOP: Final = "gateway.stop"
CONFIGURATION_CHANGED: Final = "configuration.changed"
CONFIGURATION_REFUSED: Final = "configuration.refused"
OPERATOR_COMMAND: Final = "operator.command"
AUTHENTICATION_SUCCESS: Final = "authentication.success"
AUTHENTICATION_FAILURE: Final = "authentication.failure"
AUTHORIZATION_DENIED: Final = "authorization.denied"
TOOL_INTENT: Final = "tool.intent"
TOOL_CALL: Final = "tool.call"
TOOL_WITHHELD: Final = "tool.withheld"


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of record.

    Attributes:
        meaning: when it is written.
        fields: each field and what it holds.
    """

    meaning: str
    fields: Mapping[str, str]


COMMON: Final[Mapping[str, str]] = MappingProxyType(
    {
        "chain": "the process's chain: 128 random bits in hexadecimal",
        "seq": "the record's number in its chain, from 1",
        "prev": "the hash of the record before; zeros in the first",
        "time": "when it was written: UTC, microseconds (RFC 3339)",
        "event": "which record this is",
        "hash": "of all bytes before it; always the last field",
    }
)
"""Fields of every record."""

_CALLER: Final = {
    "correlation_id": "the request's id: `X-Request-ID` of the answer, `correlation_id` in logs",
    "trace_id": "the trace, where there is one (W3C Trace Context)",
    "address": "the client's address, as far as proxies are trusted",
    "issuer": "the token's verified issuer",
    "subject": "its verified subject",
    "client": "its client id, where the token says",
}
_CALL: Final = _CALLER | {
    "tool": "the tool's name",
    "source": "the source it asks",
    "account": "the database account it runs as; empty for SQLite",
    "statement": "SHA-256 of its SQL",
    "arguments": "the arguments, redacted: hashes, clear values, none that are sensitive",
}

EVENTS: Final[Mapping[str, Event]] = MappingProxyType(
    {
        CHAIN_OPEN: Event(
            "a process began to record; the first record of its chain",
            {
                "algorithm": "`hmac-sha256` with a chain key, else `sha256`",
                "key": "names the chain key without telling it",
                "previous": "chain, seq and hash of the last record in the file when this chain began",
                "torn_bytes": "bytes of an unfinished record that a crash left there",
                "version": "the gateway's version",
                "host": "the machine's name",
                "pid": "the process id",
            },
        ),
        CHAIN_CLOSE: Event("the process ended in order; the last record of its chain", {}),
        SINK_FAILED: Event(
            "a sink does not take records", {"sink": "its kind and place", "trouble": "what is wrong with it"}
        ),
        SINK_RECOVERED: Event(
            "a failed sink takes records again",
            {
                "sink": "its kind and place",
                "lost": "records that never found room in its queue, since the start",
                "refused": "calls refused meanwhile",
            },
        ),
        GATEWAY_START: Event(
            "the gateway serves",
            {
                "url": "the endpoint",
                "configuration": "SHA-256 of the whole configuration, secrets left out",
                "tools": "how many tools",
                "sources": "how many sources",
                "authentication": "`auth.mode`",
                "on_failure": "the audit's policy",
            },
        ),
        GATEWAY_STOP: Event("the gateway begins to stop", {"url": "the endpoint"}),
        CONFIGURATION_CHANGED: Event(
            "another configuration serves from now on",
            {
                "trigger": "who or what asked for it",
                "old": "SHA-256 of the one before",
                "new": "SHA-256 of the one now",
                "added": "keys that are new, with their values; no secret; SQL and long texts by their SHA-256",
                "removed": "keys that are gone, with the values that they had",
                "changed": "keys whose values differ, each with the old and the new one",
                "more": "how many keys are left out, where there are more than 500 of a kind",
            },
        ),
        CONFIGURATION_REFUSED: Event(
            "another configuration was offered and refused; the one before goes on",
            {
                "trigger": "who or what asked for it",
                "configuration": "SHA-256 of the one that serves, secrets left out",
                "problems": "the keys that are wrong, or what could not be reached; no values",
            },
        ),
        OPERATOR_COMMAND: Event(
            "somebody ran a command that reaches databases",
            {
                "command": "the command",
                "user": "the system's user",
                "configuration": "SHA-256 of the whole configuration, secrets left out",
                "sources": "the sources that it reaches",
            },
        ),
        AUTHENTICATION_SUCCESS: Event(
            "a token was verified; once for each new verdict, not for each request",
            _CALLER | {"scopes": "what the token grants", "expires": "when it ends: Unix time in seconds"},
        ),
        AUTHENTICATION_FAILURE: Event(
            "requests were refused for their token; one record for each address and minute",
            {
                "address": "the client's address; `others` beyond the first hundred of a minute",
                "since": "when the first was refused",
                "count": "how many",
                "reasons": "how many for each reason, as in the log",
            },
        ),
        AUTHORIZATION_DENIED: Event(
            "a verified caller may not do what it asked for",
            _CALLER
            | {
                "tool": "the tool's name",
                "scopes": "the scopes that it needs, where one is lacking",
                "rules": "the rules over claims that do not hold, where that is why",
            },
        ),
        TOOL_INTENT: Event("a tool that writes is about to run", _CALL),
        TOOL_CALL: Event(
            "a tool call has ended",
            _CALL
            | {
                "unknown_arguments": "how many arguments the tool does not have; their names are not recorded",
                "outcome": "`ok`, `error`, `cancelled`",
                "code": "the error's code",
                "rows": "rows in the result",
                "affected": "rows changed, for a write",
                "duration_ms": "from the call's start to its end",
            },
        ),
        TOOL_WITHHELD: Event(
            "the answer of the call with this correlation id was not given, since its record was not written in time",
            {"correlation_id": "the request's id", "tool": "the tool's name"},
        ),
    }
)
"""Every event that is chained."""
