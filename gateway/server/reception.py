"""The way of one request: the door, the transport, the log line."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from aiohttp import web

from gateway.context import Principal
from gateway.errors import GatewayError, ProtocolError, RateLimited, Refused, Unauthenticated
from gateway.server import door
from gateway.server.auditing import note_success
from gateway.server.connection import client_certificate
from gateway.server.cors import Cors
from gateway.server.endpoint import Endpoint
from gateway.server.record import Record
from gateway.server.refusals import Refusals
from gateway.server.snapshot import Snapshot
from gateway.server.watch import Watch
from gateway.telemetry import logs
from gateway.tools.comments import user_hash

_NO_METHOD: Final = "Send JSON-RPC messages by POST; there is no stream to GET and no session to DELETE."


class Counter(Protocol):
    """What serves admitted requests."""

    @property
    def methods(self) -> frozenset[str]:
        """The HTTP methods that it serves."""

    async def serve(
        self, request: web.BaseRequest, snapshot: Snapshot, principal: Principal, correlation_id: str, record: Record
    ) -> web.StreamResponse:
        """Serve one; GatewayError for what is refused before it is understood."""


@dataclass(frozen=True, slots=True)
class Desk:
    """One endpoint, and what answers there."""

    endpoint: Endpoint
    transport: Counter
    refusals: Refusals


class Reception:
    """Receives every request of the agents' listener and sees it through, from door to log line."""

    def __init__(self, snapshot: Snapshot, cors: Cors, watch: Watch) -> None:
        settings = snapshot.settings
        self.snapshot = snapshot
        self.cors = cors
        self._watch = watch
        self._origins = door.Origins(settings.server)
        self._proxies = door.Proxies(settings.server.trusted_proxies)
        self._admission = snapshot.admission

    async def receive(self, desk: Desk, request: web.BaseRequest) -> web.StreamResponse:
        """One request of an endpoint: admitted, served, answered, logged."""
        correlation_id = door.correlation_id(request)
        logs.correlation_id.set(correlation_id)
        address = self._proxies.client_address(request.remote or "", request.headers.getall("X-Forwarded-For", []))
        record = Record(request.method, address, certificate=client_certificate(request))
        trace = self._watch.begin(request.headers)
        record.end = partial(self._watch.end, record, trace, correlation_id, desk.endpoint.path)
        try:
            response = await self._answer(desk, request, correlation_id, record)
            record.status = response.status
            return response
        except (asyncio.CancelledError, ConnectionError):
            if not record.goes_on:
                record.outcome = "disconnected"
            raise
        except Exception:
            record.outcome, record.status = "internal", 500
            raise
        finally:
            if not record.goes_on:
                record.end()

    async def _answer(
        self, desk: Desk, request: web.BaseRequest, correlation_id: str, record: Record
    ) -> web.StreamResponse:
        try:
            return await self._serve(desk, request, correlation_id, record)
        except GatewayError as error:
            record.outcome, record.detail = _outcome(error), error.detail
            record.limit = error.limit if isinstance(error, RateLimited) else ""
            return desk.refusals.respond(error, correlation_id, _early_status(error))

    async def _serve(
        self, desk: Desk, request: web.BaseRequest, correlation_id: str, record: Record
    ) -> web.StreamResponse:
        self._origins.check(request.headers.getall("Host", []), request.headers.get("Origin"))
        methods = desk.transport.methods
        if (answer := self.cors.preflight(request, methods)) is not None:
            return answer
        if request.method not in methods:
            raise Refused(405, _NO_METHOD)
        principal = await self._authenticate(desk, request, correlation_id, record)
        record.client = principal.client_id or user_hash(principal)
        await self._admission.admit(principal)
        return await desk.transport.serve(request, self.snapshot, principal, correlation_id, record)

    async def _authenticate(
        self, desk: Desk, request: web.BaseRequest, correlation_id: str, record: Record
    ) -> Principal:
        """The caller; a new verdict and a refusal leave their trace in the audit, and are a stage of their own."""
        audit, failures, started = self.snapshot.audit, self._admission.failed_logins, time.perf_counter()
        try:
            principal, is_new = await door.authenticate(request, self.snapshot, desk.endpoint, failures, record.address)
        except Unauthenticated as error:
            audit.failures.count(record.address, error.reason or "no_token")
            if error.reason:
                record.marks.append(("verify", started, time.perf_counter(), error.reason, None))
            raise
        if is_new:
            record.marks.append(("verify", started, time.perf_counter(), "", None))
            note_success(audit, principal, correlation_id, record.address)
        return principal


def _outcome(error: GatewayError) -> str:
    match error:
        case Unauthenticated():
            return f"unauthenticated:{error.reason or 'no_token'}"
        case RateLimited():
            return "rate_limited"
        case _:
            return "refused"


def _early_status(error: GatewayError) -> int | None:
    """A message that was never understood is a bad request in every era."""
    return 400 if isinstance(error, ProtocolError) else None
