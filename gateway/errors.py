"""The taxonomy of failures, and the one table that takes each to the wire.

Every failure answers two questions: may it be retried, and what may the agent
read. `message` is written for the agent and never names a host, a user, SQL or
a stack; `detail` is written for the operator and goes to the log only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Code(StrEnum):
    """Stable codes of failed tool calls, as in `_meta["mcp-database-gateway/error"].code`."""

    INVALID_ARGUMENTS = "invalid_arguments"
    """The arguments break the tool's schema; the database was not asked."""
    POOL_EXHAUSTED = "pool_exhausted"
    """Too many callers already wait for a connection of this source."""
    POOL_TIMEOUT = "pool_timeout"
    """No connection became free within `acquire_timeout`."""
    CONNECT_TIMEOUT = "connect_timeout"
    """A new connection did not open in time."""
    STATEMENT_TIMEOUT = "statement_timeout"
    """The statement outran its limit and was stopped on the server."""
    SOURCE_UNAVAILABLE = "source_unavailable"
    """The source is down or was never reached; nothing was sent."""
    CONNECTION_LOST = "connection_lost"
    """The connection broke while the statement ran."""
    LOGIN_FAILED = "login_failed"
    """The database refused the gateway's own credentials."""
    ACCESS_DENIED = "access_denied"
    """The gateway's database account lacks a privilege, or the token what the database or a parameter must know."""
    READ_ONLY = "read_only"
    """The statement tried to write through a read-only source."""
    STATEMENT_INVALID = "statement_invalid"
    """The database does not accept the tool's SQL (syntax, missing table or column)."""
    INVALID_VALUE = "invalid_value"
    """The database refused a value (out of range, division by zero, bad cast)."""
    CONSTRAINT_VIOLATION = "constraint_violation"
    """A write broke a constraint of the schema."""
    CONFLICT = "conflict"
    """A lock, a deadlock or a serialisation failure; the same call may succeed again."""
    UNREPRESENTABLE = "unrepresentable"
    """A column holds a value that JSON cannot carry exactly."""
    RESULT_TOO_LARGE = "result_too_large"
    """Not even one row fits into `max_result_bytes`."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """The connection was lost during a write: it may or may not have happened."""
    AUDIT_UNAVAILABLE = "audit_unavailable"
    """The call could not be recorded: it was not run, or its answer is withheld."""
    INTERNAL = "internal"
    """A fault of the gateway; the correlation id finds it in the log."""


_RETRYABLE: Final = frozenset(
    {
        Code.POOL_EXHAUSTED,
        Code.POOL_TIMEOUT,
        Code.CONNECT_TIMEOUT,
        Code.SOURCE_UNAVAILABLE,
        Code.CONNECTION_LOST,
        Code.CONFLICT,
        Code.AUDIT_UNAVAILABLE,
    }
)


class GatewayError(Exception):
    """A failure with a name. Base of everything the gateway raises on purpose."""

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class ToolError(GatewayError):
    """A tool call that failed: reported to the agent as a result with `isError`.

    Args:
        code: what failed, stable across versions.
        message: what the agent reads; says what to do next.
        detail: what the operator reads, in the log only.
        retry_after: seconds after which the same call may succeed, where known.
        is_sent: whether the statement may have reached the database.
    """

    def __init__(
        self, code: Code, message: str, *, detail: str = "", retry_after: float | None = None, is_sent: bool = False
    ) -> None:
        super().__init__(message, detail=detail)
        self.code = code
        self.retry_after = retry_after
        self.is_sent = is_sent

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed later without being changed."""
        return self.code in _RETRYABLE


class ProtocolError(GatewayError):
    """A JSON-RPC error: the request never became a tool call.

    Args:
        code: a JSON-RPC code; ours are in -32003..-32019.
        data: JSON-able extra for the client.
    """

    def __init__(self, code: int, message: str, *, data: Any = None, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.code = code
        self.data = data


class DeniedByRule(ProtocolError):
    """A rule over claims does not hold: told in the words of a tool that does not exist; `detail` names the rules."""


class Unauthenticated(GatewayError):
    """No token, or one that does not verify: HTTP 401 (RFC 6750 section 3.1).

    Args:
        reason: a short stable word for log and metric; empty when no token came at all,
            in which case the challenge carries no error code.
    """

    def __init__(self, message: str, *, reason: str = "", detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.reason = reason


class InsufficientScope(GatewayError):
    """A verified caller lacks scopes: HTTP 403 naming every scope the operation needs."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(f"This operation needs the scope(s): {' '.join(scopes)}")
        self.scopes = scopes


class IdentityProviderUnavailable(GatewayError):
    """The token may be good, but the issuer's keys cannot be had: HTTP 503, retry later."""


def whole_seconds(seconds: float) -> int:
    """What to tell a client to wait: never too short, and at least one (RFC 9110 section 10.2.3)."""
    return max(1, math.ceil(seconds))


class RateLimited(GatewayError):
    """The caller used up its budget, or has too much running: HTTP 429 with `Retry-After`.

    Args:
        retry_after: seconds until one more request is admitted.
        limit: which limit, in one stable word.
        message: what the agent reads, where it is more than to wait.
    """

    def __init__(self, retry_after: float, limit: str = "client", message: str = "", *, detail: str = "") -> None:
        text = message or f"Too many requests; wait {whole_seconds(retry_after)} s and call again."
        super().__init__(text, detail=detail)
        self.retry_after = retry_after
        self.limit = limit


class ShuttingDown(GatewayError):
    """The process ends, and waits no longer for what still ran: HTTP 503 with `Retry-After`."""


class Refused(GatewayError):
    """Turned away at the door before anything was parsed (Host, Origin, method, size).

    Args:
        status: the HTTP status to answer with.
    """

    def __init__(self, status: int, message: str, *, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.status = status


UNAUTHENTICATED: Final = -32003
INSUFFICIENT_SCOPE: Final = -32004
RATE_LIMITED: Final = -32005
REFUSED: Final = -32006
IDENTITY_PROVIDER_UNAVAILABLE: Final = -32007
SHUTTING_DOWN: Final = -32008
INTERNAL_ERROR: Final = -32603
REQUEST_CANCELLED: Final = -32800
"""Outside our range: what the SDKs answer where a request that was cancelled must be answered at all."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How one failure travels: HTTP status, JSON-RPC code, text, data."""

    status: int
    code: int
    message: str
    data: Any = None


def to_wire(error: BaseException) -> Wire:
    """The one table from failures to the wire. Tool errors are results and never come here.

    Anything without a name becomes an internal error whose text says nothing.
    """
    match error:
        case Unauthenticated():
            return Wire(401, UNAUTHENTICATED, error.message)
        case InsufficientScope():
            return Wire(403, INSUFFICIENT_SCOPE, error.message, {"required_scopes": list(error.scopes)})
        case RateLimited():
            data = {"retry_after_ms": math.ceil(error.retry_after * 1000), "limit": error.limit}
            return Wire(429, RATE_LIMITED, error.message, data)
        case IdentityProviderUnavailable():
            return Wire(503, IDENTITY_PROVIDER_UNAVAILABLE, error.message)
        case ShuttingDown():
            return Wire(503, SHUTTING_DOWN, error.message)
        case Refused():
            return Wire(error.status, REFUSED, error.message)
        case ProtocolError():
            return Wire(200, error.code, error.message, error.data)
        case _:
            return Wire(500, INTERNAL_ERROR, "Internal error; report the correlation id to the operator.")
