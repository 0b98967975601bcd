"""The JSON-RPC methods that are told apart in logs, metrics and spans; callers may send any text."""

from __future__ import annotations

from typing import Final

OTHER: Final = "_OTHER"
"""What stands for a method that nobody knows."""

_METHODS: Final = frozenset(
    {
        *("initialize", "ping", "server/discover", "tools/list", "tools/call", "prompts/list", "prompts/get"),
        *("resources/list", "resources/read", "resources/templates/list", "subscriptions/listen"),
        *("resources/subscribe", "resources/unsubscribe", "notifications/roots/list_changed"),
        *("notifications/initialized", "notifications/cancelled", "logging/setLevel", "completion/complete"),
    }
)


def known_method(method: str) -> str:
    """The method itself if it is one of MCP's; "" stays as it is."""
    return method if not method or method in _METHODS else OTHER
