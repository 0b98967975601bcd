"""Ways in for older clients, each off until it is wanted, and what bounds the sessions that they keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from gateway.config.base import Settings, Timeout
from gateway.config.problems import Finding
from gateway.config.units import Size


class FeatureSettings(Settings):
    """Ways in for older clients; sessions live in one process, so replicas need session affinity."""

    sessions: bool = False
    """Stateful sessions for clients of 2025: `Mcp-Session-Id`, GET streams, resumption, DELETE."""
    http_sse: bool = False
    """The transport of 2024-11-05: `/sse` and `/messages`."""
    max_sessions: Annotated[int, Field(ge=1)] = 10000
    """Most sessions of one process; the longest idle one makes room."""
    max_sessions_per_client: Annotated[int, Field(ge=1)] = 100
    """Most sessions of one issuer and subject; its longest idle one makes room."""
    session_idle_timeout: Timeout = 1800.0
    """How long a session lives without a request or an open stream."""
    session_events: Annotated[int, Field(ge=1)] = 256
    """Most events kept in each session for clients that resume a stream."""
    session_event_bytes: Annotated[Size, Field(ge=1024)] = 1 << 20
    """Most bytes of such events in each session."""
    total_event_bytes: Annotated[Size, Field(ge=1024)] = 64 << 20
    """Most bytes of such events in all sessions together; the oldest are dropped first."""


def feature_misfits(features: FeatureSettings) -> Iterator[Finding]:
    """Look at bounds that can never be reached, since another one is smaller."""
    pairs = (("max_sessions_per_client", "max_sessions"), ("session_event_bytes", "total_event_bytes"))
    for lesser, greater in pairs:
        if lesser in features.model_fields_set and getattr(features, lesser) > getattr(features, greater):
            message = f"expected at most features.{greater}"
            yield Finding(("features", lesser), message, (("features", greater),))
