"""Who may use the gateway on its own machine, without a token: `gateway stdio`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from gateway.config.base import Settings, Text


class StdioSettings(Settings):
    """What users of this machine may do through `gateway stdio`."""

    users: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Operating-system users, by name; `*` is everybody who can read this configuration."""
    scopes: Annotated[tuple[Text, ...], Field(min_length=1)]
    """What they are granted, as the scopes of a token would."""
    claims: dict[str, Any] = Field(default_factory=dict)
    """What tools and sources that ask for claims are told of them."""
