"""A quick yes to a `tools/call` that is plainly right by its client's revision.

The SDK is the judge. What a client says of itself in `_meta` is the same in each of its calls, so
the SDK's word on that is remembered; of the rest a look at types and headers suffices. A yes must
be right; a no means nothing, and leaves the request to the SDK, which alone refuses and explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
)
from mcp_types import PROTOCOL_VERSION_META_KEY
from mcp_types.methods import validate_client_request
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from multidict import CIMultiDictProxy
from pydantic import ValidationError

CALL: Final = "tools/call"
MAX_META: Final = 2048
"""Bytes of a `_meta` that is worth remembering."""
_PARAMS: Final = frozenset({"name", "arguments", "_meta"})
_FRESH: Final = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})
"""What differs from call to call; texts and integers are right everywhere."""
_ENCODED: Final = "=?"


def is_plain(version: str, params: Mapping[str, Any]) -> bool:
    """Whether a revision surely has such a call, whatever its tool and arguments are."""
    if not params.keys() <= _PARAMS:
        return False
    if type(params.get("name")) is not str or type(params.get("arguments", {})) is not dict:
        return False
    meta = params.get("_meta")
    if type(meta) is not dict:
        return meta is None and "_meta" not in params and _is_right(version, b"")
    if not meta.keys().isdisjoint(_FRESH):
        if any(type(meta[key]) not in (str, int) for key in meta.keys() & _FRESH):
            return False
        meta = {key: value for key, value in meta.items() if key not in _FRESH}
    try:
        known = orjson.dumps(meta)
    except orjson.JSONEncodeError:  # a number that is no integer of 64 bits
        return False
    return len(known) <= MAX_META and _is_right(version, known)


@lru_cache(maxsize=512)
def _is_right(version: str, meta: bytes) -> bool:
    """What the SDK says of a call with this `_meta`; "" where there is none."""
    params = {"name": "", "arguments": {}}
    if meta:
        params["_meta"] = orjson.loads(meta)
    if version in MODERN_PROTOCOL_VERSIONS:
        route = classify_inbound_request({"method": CALL, "params": params})
        if isinstance(route, InboundLadderRejection) or route.protocol_version != version:
            return False
    try:
        validate_client_request(CALL, version, params)
    except (KeyError, ValueError, ValidationError):
        return False
    return True


def agrees(headers: CIMultiDictProxy[str], params: Mapping[str, Any]) -> bool:
    """Whether the routing headers of 2026-07-28 are there, once each, and surely say what the call says."""
    name, meta = params.get("name"), params.get("_meta")
    return (
        type(meta) is dict
        and headers.getall(MCP_PROTOCOL_VERSION_HEADER, None) == [meta.get(PROTOCOL_VERSION_META_KEY)]
        and headers.getall(MCP_METHOD_HEADER, None) == [CALL]
        and headers.getall(MCP_NAME_HEADER, None) == [name]
        and not str(name).startswith(_ENCODED)
    )
