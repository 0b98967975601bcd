"""What a database session is told of the caller, out of the verified token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.context import MISSING, Call, claim_at
from gateway.database.exact_json import dumps
from gateway.errors import Code, ToolError

CLAIM: Final = "claim:"
_UNUSABLE: Final = re.compile(r"[\0\ud800-\udfff]")
"""Characters that a database's text cannot hold."""


def identity_of(session: Mapping[str, str], call: Call) -> dict[str, str]:
    """The values of a source's `session` settings for one call.

    Args:
        session: for each database setting where its value comes from, as configured.
        call: whose principal was verified.

    Raises:
        ToolError: ACCESS_DENIED, the token lacks a value; nothing may run without it.
    """
    return {name: _value(origin, call) for name, origin in session.items()}


def _value(origin: str, call: Call) -> str:
    principal = call.principal
    match origin:
        case "subject":
            value: Any = principal.subject
        case "issuer":
            value = principal.issuer
        case "client_id":
            value = principal.client_id
        case "correlation_id":
            value = call.correlation_id
        case _:
            value = claim_at(principal.claims, origin.removeprefix(CLAIM))
    if value is MISSING or value is None or value == "":
        raise _refusal(origin, "is missing")
    text = value if isinstance(value, str) else dumps(value)
    if _UNUSABLE.search(text):
        raise _refusal(origin, "holds characters that a database cannot hold")
    return text


def texts_at(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """The claim at a dotted path as text, or the items of a list; none where it is missing or a mapping."""
    found = claim_at(claims, path)
    items = found if isinstance(found, list | tuple) else [found]
    scalars = [item for item in items if isinstance(item, str | int | float)]
    return frozenset(item if isinstance(item, str) else dumps(item) for item in scalars)


def _refusal(origin: str, trouble: str) -> ToolError:
    what = f"its claim {origin.removeprefix(CLAIM)}" if origin.startswith(CLAIM) else f"its {origin}"
    return ToolError(
        Code.ACCESS_DENIED,
        f"This data source must know more about the caller than the access token says: {what} {trouble}."
        " Nothing was run; call again with a token that has it.",
        detail=f"session identity: {origin} {trouble}",
    )
