"""The one log line of each request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.context import Mark
from gateway.telemetry import logs

_log: Final = logging.getLogger("gateway.request")


@dataclass(slots=True)
class Record:
    """What is known of a request, filled in as it goes through the house.

    Attributes:
        http_method: of the request; "" where there is no HTTP.
        address: the client's, as far as the proxies in front are trusted.
        certificate: the subject of the client's certificate; it admits to the port and stands for nobody.
        method: the JSON-RPC method, once parsed; `_OTHER` for one that MCP does not know.
        tool: the tool's name, once it is known to exist.
        client: the verified client id, else a hash of issuer and subject.
        outcome: "ok", a tool error's code, a reason, or a JSON-RPC code.
        rows: rows in the result.
        status: the HTTP status; 0 when the client left before there was one.
        detail: the operators' words on a failure.
        limit: which rate or concurrency limit refused it.
        goes_on: the work goes on after its HTTP request; it calls `end` itself then.
        marks: the stages of the call, see `gateway.context.Mark`.
        started: `time.perf_counter()` when the request came.
        end: counts, logs and traces what is written here; called once.
    """

    http_method: str
    address: str
    certificate: str = ""
    method: str = ""
    tool: str = ""
    client: str = ""
    outcome: str = "ok"
    rows: int | None = None
    status: int = 0
    detail: str = ""
    limit: str = ""
    goes_on: bool = False
    marks: list[Mark] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    end: Callable[[], None] = lambda: None

    def write(self) -> None:
        """Write the line; fields that are not known are left out."""
        fields: dict[str, object] = {"address": self.address}
        if self.http_method:
            fields["http_method"] = self.http_method
            fields["status"] = self.status
        fields["outcome"] = self.outcome
        fields["duration_ms"] = round((time.perf_counter() - self.started) * 1000, 3)
        if self.certificate:
            fields["client_certificate"] = logs.bounded(self.certificate)
        if self.method:
            fields["mcp_method"] = self.method
        if self.tool:
            fields["tool"] = self.tool
        if self.client:
            fields["client"] = logs.bounded(self.client)
        if self.detail:
            fields["detail"] = logs.bounded(self.detail)
        if self.rows is not None:
            fields["rows"] = self.rows
        logs.event(_log, "request", fields)
