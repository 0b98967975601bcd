"""Where each door is, and the audiences that the verifier accepts for all of them together."""

from __future__ import annotations

from typing import Final

from gateway.config.auth import AuthSettings
from gateway.config.models import GatewaySettings

PATH: Final = "/mcp"


def path_of(toolset: str) -> str:
    """Where a toolset is served; "" is the whole."""
    return f"{PATH}/{toolset}" if toolset else PATH


def toolset_resources(settings: GatewaySettings) -> tuple[str, ...]:
    """The URLs of the toolsets, which tokens may be issued for; none are known without `server.public_url`."""
    base = settings.server.public_url
    return tuple(base.rstrip("/") + path_of(name) for name in settings.toolsets) if base else ()


def accepting(settings: GatewaySettings) -> AuthSettings:
    """The settings of authentication, with the toolsets' URLs among the audiences of every issuer."""
    resources, auth = toolset_resources(settings), settings.auth
    if not resources:
        return auth
    issuers = tuple(
        issuer.model_copy(update={"audiences": tuple(dict.fromkeys((*issuer.audiences, *resources)))})
        for issuer in auth.issuers
    )
    return auth.model_copy(update={"issuers": issuers})
