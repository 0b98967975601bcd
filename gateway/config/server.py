"""The listeners: where agents and operators reach the gateway, and what bounds a request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gateway.config.base import Port, ResultSize, Secret, Settings, Text, Timeout
from gateway.config.units import Duration, Size


class ListenerTlsSettings(Settings):
    """HTTPS by the gateway itself."""

    certificate: Path
    """The certificate, followed by those between it and its authority, in PEM; read again when it changes."""
    key: Path
    """Its private key, in PEM; read again when it changes."""
    key_password: Secret | None = None
    """What opens the key, as a reference; absent for a key that is not encrypted."""
    client_ca: Path | None = None
    """Authorities whose client certificates are let in; no certificate is asked for when absent."""
    client_certificates: Literal["required", "optional"] = "required"
    """Whether a client without a certificate is turned away; needs `client_ca`."""
    min_version: Literal["1.2", "1.3"] = "1.3"
    """Oldest protocol version to accept."""


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
    tls: ListenerTlsSettings | None = None
    """HTTPS by the gateway itself; plain HTTP, for loopback or behind a proxy, when absent."""
    max_connections: Annotated[int, Field(ge=1)] = 10000
    """Most connections open at once; beyond it the one that is idle longest makes room."""
    header_timeout: Timeout = 10.0
    """Longest time for the head of a request to arrive, and for a TLS handshake."""
    body_timeout: Timeout = 30.0
    """Longest time for the body of a request to arrive."""
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
