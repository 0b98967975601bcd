"""What one client may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.config.base import Settings


class LimitSettings(Settings):
    """What one client may use."""

    requests_per_minute: Annotated[int, Field(ge=1)] = 100
    """Requests a minute for each client."""
    burst: Annotated[int, Field(ge=1)] = 20
    """Requests that may come at once."""
    max_clients: Annotated[int, Field(ge=1)] = 10000
    """Most clients remembered at once; the longest idle is forgotten first."""
