"""What the listener records beside tool calls: verdicts on tokens, denials, the gateway's own start."""

from __future__ import annotations

from typing import Any, Final

from gateway.config.loader import Configuration
from gateway.context import Call, Principal
from gateway.errors import DeniedByRule, InsufficientScope
from gateway.server.jsonrpc import Message
from gateway.server.mcp import Exchange
from gateway.telemetry.audit import events
from gateway.telemetry.audit.configuration import settings_hash
from gateway.telemetry.audit.recorder import Audit
from gateway.tools.audited import caller

_MAX_SCOPES: Final = 100


def note_success(audit: Audit, principal: Principal, correlation_id: str, address: str) -> None:
    """Record a new verdict on a token."""
    if audit.is_on:
        fields = caller(Call(correlation_id, principal, 0.0), address)
        fields["scopes"] = sorted(principal.scopes)[:_MAX_SCOPES]
        fields["expires"] = principal.expires_at
        audit.note(events.AUTHENTICATION_SUCCESS, fields)


def note_denial(error: Exception, exchange: Exchange, message: Message) -> None:
    """Record that a caller lacks the right to a tool that exists; other errors are no decision about rights."""
    audit = exchange.snapshot.audit
    match error:
        case InsufficientScope():
            reason: dict[str, Any] = {"scopes": list(error.scopes)}
        case DeniedByRule():
            reason = {"rules": error.detail}
        case _:
            return
    if audit.is_on:
        tool = str((message.params or {}).get("name"))
        audit.note(events.AUTHORIZATION_DENIED, caller(exchange.call, exchange.address) | {"tool": tool} | reason)


def note_start(audit: Audit, configuration: Configuration, url: str) -> None:
    """Record that the gateway serves, and what."""
    if audit.is_on:
        settings = configuration.settings
        fields = {
            "url": url,
            "configuration": settings_hash(settings),
            "tools": len(settings.tools),
            "sources": len(settings.sources),
            "authentication": settings.auth.mode,
            "on_failure": settings.audit.on_failure,
        }
        audit.note(events.GATEWAY_START, fields)
