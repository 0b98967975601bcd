"""JSON-RPC 2.0 on the wire: strict in what it takes, exact in what it gives.

Neither parser at hand is strict alone: the stdlib lets NaN, duplicate keys and
lone surrogates through, orjson turns integers beyond 64 bits into floats. The
stdlib with hooks reads numbers exactly; orjson is asked about surrogates only.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson

from gateway.errors import ProtocolError
from gateway.strict_json import MAX_DEPTH, nests_too_deep, strict_decoder

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
_MAX_EXPONENT: Final = 1000
_MAX_INT64: Final = 2**63 - 1

RequestId = str | int


class Message(NamedTuple):
    """One request, or one notification when `id` is None."""

    id: RequestId | None
    method: str
    params: Mapping[str, Any] | None
    body: Mapping[str, Any]


def _exact(text: str) -> Decimal:
    number = Decimal(text)
    # A short text may stand for a number of a billion digits, which int() would spell out.
    if number and abs(number.adjusted()) > _MAX_EXPONENT:
        raise ValueError("a number is out of range")
    return number


def parse(body: bytes) -> Message:
    """One JSON-RPC request or notification from a request body.

    Integers keep every digit, other numbers are Decimals.

    Raises:
        ProtocolError: -32700 when it is not JSON, -32600 when it is not one request.
    """
    decoded = _quickly(body)
    return _message(_strictly(body) if decoded is None else decoded)


def _quickly(body: bytes) -> Any:
    """The document, if it is plainly right; None means nothing, and leaves it to the strict parser.

    What orjson writes back byte for byte as it came held nothing that orjson forgives: no key twice, no integer
    beyond 64 bits. That is how most clients write, without space between tokens; it takes a tenth of the time.
    """
    try:
        decoded = orjson.loads(body)
        return decoded if orjson.dumps(decoded) == body and _is_simple(decoded) else None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None


def _is_simple(document: Any) -> bool:
    """Whether a document has no fractions, which orjson rounds, and too few containers to nest too deep."""
    containers: list[Any] = [[document]]
    for container in containers:
        for value in container.values() if type(container) is dict else container:
            kind = type(value)
            if kind is dict or kind is list:
                containers.append(value)
            elif kind is float:
                return False
        if len(containers) > MAX_DEPTH:
            return False
    return True


def _strictly(body: bytes) -> Any:
    """The document by the stdlib's parser, which alone refuses and explains."""
    # Every walk over arguments relies on this bound.
    if nests_too_deep(body):
        raise ProtocolError(PARSE_ERROR, f"The body nests deeper than {MAX_DEPTH} levels; send flatter arguments.")
    try:
        text = body.decode("utf-8")
        decoded = _STRICT.decode(text)
        # Only an escape can bring a lone surrogate.
        if "\\u" in text:
            orjson.loads(body)
    except (ValueError, ArithmeticError) as error:
        raise ProtocolError(PARSE_ERROR, "The body is not valid JSON.", detail=str(error)) from None
    return decoded


_STRICT: Final = strict_decoder(_exact)


def _message(decoded: Any) -> Message:
    if type(decoded) is list:
        raise ProtocolError(INVALID_REQUEST, "Batches are not served; send one JSON-RPC message for each POST.")
    if type(decoded) is not dict or decoded.get("jsonrpc") != "2.0" or type(decoded.get("method")) is not str:
        raise ProtocolError(INVALID_REQUEST, "The body must be one JSON-RPC 2.0 request or notification.")
    identifier = decoded.get("id")
    if "id" in decoded and type(identifier) not in (str, int):
        raise ProtocolError(INVALID_REQUEST, "A request's id must be a string or an integer.")
    params = decoded.get("params")
    if "params" in decoded and type(params) is not dict:
        raise ProtocolError(INVALID_REQUEST, "params must be an object.")
    return Message(identifier, decoded["method"], params, decoded)


def wire_int(value: Any) -> Any:
    """An id or token as orjson can write it: integers beyond 64 bits as their digits."""
    if isinstance(value, int) and abs(value) > _MAX_INT64:
        return orjson.Fragment(str(value))
    return value


def result_bytes(identifier: RequestId | None, result: Mapping[str, Any]) -> bytes:
    """A successful response."""
    return orjson.dumps({"jsonrpc": "2.0", "id": wire_int(identifier), "result": result})


def error_bytes(identifier: RequestId | None, code: int, message: str, data: Any = None) -> bytes:
    """An error response; the id is null when the request's could not be read (JSON-RPC 2.0 section 5)."""
    error = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return orjson.dumps({"jsonrpc": "2.0", "id": wire_int(identifier), "error": error})


def notification_bytes(method: str, params: Mapping[str, Any]) -> bytes:
    """A notification to the client."""
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})
