"""How a request ended, for its log line and the audit, whatever its framing."""

from __future__ import annotations

import logging
from typing import Final

from gateway.errors import GatewayError, RateLimited, ShuttingDown, Wire, to_wire
from gateway.server.auditing import note_denial
from gateway.server.jsonrpc import Message
from gateway.server.mcp import Exchange
from gateway.server.record import Record

_log: Final = logging.getLogger("gateway.server")
_STOPPED: Final = "The gateway is shutting down and has stopped this request; connect again and repeat it."
_STOPPED_WRITE: Final = (
    "The gateway is shutting down and no longer waits for this write, which may or may not have happened; "
    "connect again and read the data before you repeat it."
)


def cut_off(exchange: Exchange | None) -> ShuttingDown:
    """What is said of a request that ran until the process had to end."""
    return ShuttingDown(_STOPPED_WRITE if exchange is not None and exchange.writes else _STOPPED)


def note_failure(error: Exception, message: Message, exchange: Exchange | None, record: Record) -> Wire:
    """Write down for the operators why a request failed.

    Returns:
        What the client is told of it.
    """
    if not isinstance(error, GatewayError):
        _log.error("request failed inside the gateway", exc_info=error)
    if exchange is not None:
        note_denial(error, exchange, message)
    wire = to_wire(error)
    record.outcome, record.detail = str(wire.code), getattr(error, "detail", "")
    record.limit = error.limit if isinstance(error, RateLimited) else ""
    return wire


def note_result(exchange: Exchange, record: Record) -> None:
    """Write down what a tool call came to, if the request was one."""
    if exchange.result is not None:
        record.outcome, record.rows = exchange.result.code or "ok", exchange.result.row_count
        record.detail = record.detail or exchange.result.detail
