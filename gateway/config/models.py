"""Every setting of the gateway, typed and frozen; unknown keys are refused.

The docstring under a field is its description in `gateway schema` and in
`docs/reference/configuration.md`. Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.config.audit import AuditSettings
from gateway.config.auth import AuthSettings
from gateway.config.base import Name, Settings
from gateway.config.features import FeatureSettings
from gateway.config.limits import LimitSettings
from gateway.config.redis import RedisSettings
from gateway.config.server import AdminSettings, ServerSettings
from gateway.config.sources import AnySource
from gateway.config.stdio import StdioSettings
from gateway.config.telemetry import TelemetrySettings
from gateway.config.tools import ToolSettings
from gateway.config.toolsets import ToolsetSettings


class DeploymentSettings(Settings):
    """How many processes share the databases; `gateway check` counts their connections."""

    max_replicas: Annotated[int, Field(ge=1)] = 1
    """Most replicas that run at once."""
    surge: Annotated[int, Field(ge=0)] = 1
    """Replicas more during a rolling update."""


class GatewaySettings(Settings):
    """The whole configuration."""

    server: ServerSettings = ServerSettings()
    """The agents' listener."""
    admin: AdminSettings = AdminSettings()
    """The operators' listener."""
    auth: AuthSettings = AuthSettings()
    """Authentication."""
    limits: LimitSettings = Field(default_factory=LimitSettings)
    """Rate limits."""
    features: FeatureSettings = FeatureSettings()
    """Ways in for older clients."""
    audit: AuditSettings = AuditSettings()
    """The audit: who did what."""
    redis: RedisSettings | None = None
    """What replicas share; each keeps its own state when absent."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """What the gateway tells of itself: traces, logs, metrics."""
    deployment: DeploymentSettings = DeploymentSettings()
    """The replicas."""
    stdio: StdioSettings | None = None
    """Who may use `gateway stdio` without a token; nobody when absent."""
    sources: Annotated[Mapping[Name, AnySource], AfterValidator(MappingProxyType)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    """Databases, by name."""
    tools: Annotated[Mapping[Name, ToolSettings], AfterValidator(MappingProxyType)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    """Tools, by name."""
    toolsets: Annotated[Mapping[Name, ToolsetSettings], AfterValidator(MappingProxyType)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    """Groups of tools, each served at `/mcp/NAME`."""
