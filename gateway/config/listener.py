"""Contradictions in the transport security of the agents' listener."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.problems import Finding
from gateway.config.server import ServerSettings


def listener_tls(server: ServerSettings) -> Iterator[Finding]:
    """Look at `server.tls` and at what else of the section depends on it."""
    tls = server.tls
    if tls is None:
        return
    if tls.client_ca is None and "client_certificates" in tls.model_fields_set:
        path = ("server", "tls", "client_certificates")
        yield Finding(path, "expected client_ca beside it: the authorities to trust", (("server", "tls", "client_ca"),))
    if server.public_url is not None and server.public_url.startswith("http:"):
        message = "expected https, since server.tls is set"
        yield Finding(("server", "public_url"), message, (("server", "tls"),))
