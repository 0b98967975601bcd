"""The listeners: where agents and operators reach the gateway, and what bounds a request."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.base import Port, ResultSize, Settings, Text, Timeout
from gateway.config.units import Duration, Size


class ServerSettings(Settings):
    """Where the gateway listens and what it bounds."""

    host: Text = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """TCP port to listen on; 0 takes a free one."""
    public_url: str | None = None
    """The URL clients use, without a path, such as https://mcp.example.com; names the resource in OAuth metadata."""
    allowed_hosts: tuple[str, ...] = ()
    """Further Host values to accept, beside the public URL's, the listener's own and loopback names."""
    allowed_origins: tuple[str, ...] = ()
    """Browser origins to accept; a request with another Origin is refused."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) whose X-Forwarded-For is believed for the client's address."""
    max_request_bytes: Annotated[Size, Field(ge=1024, le=1 << 30)] = 1 << 20
    """Largest request body."""
    max_result_bytes: ResultSize = 1 << 20
    """Most bytes of a result's rows as JSON; rows beyond it are left out, and the result says so."""
    call_timeout: Timeout = 60.0
    """Deadline of one whole call: waiting, connecting and running."""
    shutdown_grace: Duration = 35.0
    """How long running calls may take to finish after SIGTERM."""
    numbers: Literal["exact", "string"] = "exact"
    """How integers beyond 53 bits and decimals go out: as exact JSON numbers or as strings."""


class AdminSettings(Settings):
    """The operators' listener, apart from the agents' one."""

    host: Text = "127.0.0.1"
    """Address to listen on."""
    port: Port = 9464
    """TCP port to listen on; 0 takes a free one."""
