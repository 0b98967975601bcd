"""Comments that tell the database whose statement it runs (sqlcommenter: keys sorted, values URL-encoded)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal
from urllib.parse import quote

from gateway.context import Call, Principal
from gateway.database.engine import Statement
from gateway.telemetry import tracing

Comment = Literal["off", "static", "sampled", "always"]

_APPLICATION: Final = "mcp-database-gateway"


def commented(statement: Statement, comment: Comment) -> Statement:
    """The statement with what is the same for every call: the tool. Statement caches stay whole."""
    return statement if comment == "off" else _with(statement, {})


def told(statement: Statement, comment: Comment, call: Call) -> Statement:
    """The statement for one call: with its trace where that is asked for, and then no cache knows it.

    Args:
        statement: as `commented` made it.
        comment: the setting.
        call: whose verified subject's hash is told; nothing that the caller claimed is.
    """
    trace = tracing.current()
    if comment in ("off", "static") or (comment == "sampled" and not trace.is_sampled):
        return statement
    trace_id, span_id = trace.innermost
    fields = {"client.user.id": user_hash(call.principal), "correlation.id": call.correlation_id}
    if trace_id:
        fields["traceparent"] = f"00-{trace_id:032x}-{span_id:016x}-{int(trace.is_sampled):02x}"
    return _with(replace(statement, text=statement.text[: statement.text.rindex("/*")].rstrip()), fields)


def user_hash(principal: Principal) -> str:
    """A name for a caller that only those can follow who know issuer and subject."""
    return hashlib.sha256(f"{principal.issuer}\n{principal.subject}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _with(statement: Statement, fields: Mapping[str, str]) -> Statement:
    known = {"action": statement.name, "application": _APPLICATION, **fields}
    pairs = ",".join(f"{quote(key, safe='.')}='{quote(value, safe='')}'" for key, value in sorted(known.items()))
    # A comment of the author's that ends with its line must not swallow this one.
    return replace(statement, text=f"{statement.text.rstrip()}\n/*{pairs}*/")
