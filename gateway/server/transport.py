"""Streamable HTTP: from an admitted POST to its JSON or SSE answer, for every protocol era.

2026-07-28 is stateless by itself; the revisions before it are served without
sessions, each POST on its own. A version header that names no revision of the
handshake era makes a request modern, and the modern ladder then judges it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from aiohttp import hdrs, web
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
    unsupported_protocol_version_rejection,
    validate_mcp_param_headers,
)
from mcp_types import HEADER_MISMATCH
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from gateway.context import Call, Principal
from gateway.errors import GatewayError, ProtocolError, Refused, Wire
from gateway.resilience.alarms import Alarms
from gateway.server import judge, mcp
from gateway.server.admission import Admission
from gateway.server.answer import Answer
from gateway.server.background import Background
from gateway.server.body import read_body
from gateway.server.ending import cut_off, note_failure, note_result
from gateway.server.endpoint import Endpoint
from gateway.server.headers import Headers
from gateway.server.jsonrpc import Message, error_bytes, parse, result_bytes
from gateway.server.listen import Listening
from gateway.server.outlet import Outlet, reporter
from gateway.server.record import Record
from gateway.server.refusals import Refusals
from gateway.server.snapshot import Snapshot
from gateway.telemetry.methods import known_method

ASSUMED_VERSION: Final = "2025-03-26"
"""What a client speaks that does not say (MCP 2025-06-18, Transports)."""


async def receive(request: web.BaseRequest, snapshot: Snapshot, record: Record) -> tuple[Message, float]:
    """The message of a POST, and the event loop's time at which its call must have ended.

    Raises:
        GatewayError: the body is too large, too slow, or no JSON-RPC.
    """
    settings = snapshot.settings.server
    deadline = asyncio.get_running_loop().time() + settings.call_timeout
    message = parse(await read_body(request, settings.max_request_bytes, settings.body_timeout))
    record.method = known_method(message.method)
    return message, deadline


@lru_cache(maxsize=64)
def accepts(accept: str) -> tuple[bool, bool]:
    """Whether a client takes JSON, and whether it takes an event stream (RFC 9110 section 12.5.1)."""
    ranges = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    anything = "*/*" in ranges
    return anything or bool(ranges & {"application/json", "application/*"}), "text/event-stream" in ranges


@dataclass(slots=True)
class Outcome:
    """What came of one request: the JSON-RPC response, and how HTTP frames it.

    Attributes:
        body: the response.
        status: of HTTP, where the answer is no stream.
        headers: likewise.
        result: what the response carries, a mapping or, for lists of tools, bytes; None for an error.
        is_cancelled: whether the client said that it wants no answer.
    """

    body: bytes
    status: int
    headers: Mapping[str, str] | None = None
    result: Any = None
    is_cancelled: bool = False


class Transport:
    """Serves admitted POSTs of one door.

    Args:
        endpoint: the door.
        background: where writes are seen through whose client has left.
        refusals: how errors become answers.
        admission: how much of a client's work runs at once.
        listening: who is told of changes.
        headers: what a stream carries as every answer does.
    """

    methods: Final = frozenset({"POST"})
    """What is served; anything else is 405."""

    def __init__(
        self,
        endpoint: Endpoint,
        background: Background,
        refusals: Refusals,
        admission: Admission,
        listening: Listening,
        headers: Headers,
    ) -> None:
        self._endpoint = endpoint
        self._server = mcp.build_server(endpoint.about)
        self._background = background
        self._refusals = refusals
        self._admission = admission
        self._listening = listening
        self._headers = headers
        self._alarms = Alarms()

    async def serve(
        self, request: web.BaseRequest, snapshot: Snapshot, principal: Principal, correlation_id: str, record: Record
    ) -> web.StreamResponse:
        """Body, JSON, era, headers; then the SDK, then the answer.

        Raises:
            GatewayError: for everything that is refused before the message is understood.
        """
        message, deadline = await receive(request, snapshot, record)
        is_modern = _is_modern(request)
        if message.id is None:
            return _acknowledge(request, is_modern, correlation_id)
        takes_json, takes_stream = accepts(request.headers.get(hdrs.ACCEPT, "*/*"))
        if not takes_json and not takes_stream:
            raise Refused(406, "Accept must include application/json, and text/event-stream for streams.")
        own = {"X-Request-ID": correlation_id}
        answer = Answer(request, own, self._headers, self._alarms, record, may_stream=takes_stream)
        try:
            call = Call(correlation_id, principal, deadline, reporter(answer, message), record.marks)
            exchange = self.exchange(call, snapshot, answer, record, is_modern=is_modern)
            outcome = await self.run(exchange, message, record, partial(_protocol_version, request, exchange, message))
            return await answer.finish(outcome.body, outcome.status, outcome.headers)
        except BaseException:
            await answer.abandon()
            raise

    def exchange(
        self, call: Call, snapshot: Snapshot, outlet: Outlet, record: Record, *, is_modern: bool
    ) -> mcp.Exchange:
        """One request to this door."""
        catalog = self._endpoint.catalog(snapshot)
        exchange = mcp.Exchange(
            call, snapshot, catalog, outlet, self._background, self._admission, self._listening, is_modern
        )
        exchange.address = record.address
        return exchange

    def adopt(self, task: asyncio.Task[Any] | None) -> None:
        """Count a task to what outlives its client, so that nothing is closed under it."""
        if task is not None:
            self._background.adopt(task)

    async def run(
        self, exchange: mcp.Exchange, message: Message, record: Record, version: Callable[[], str]
    ) -> Outcome:
        """Run one request; every failure is an outcome, which tells the client nothing that is not its business.

        Args:
            exchange: the request.
            message: the same as it came.
            record: the log line, filled in.
            version: finds the revision that it is judged by; may refuse it.
        """
        task = asyncio.current_task()
        self._background.enter(task)
        try:
            result = await mcp.handle(self._server, exchange, message, version())
            outcome = Outcome(result_bytes(message.id, result), 200, result=result)
        except asyncio.CancelledError:
            if not self._background.is_over:
                raise
            outcome = self._failed(cut_off(exchange), message, exchange, record)
        except Exception as error:  # noqa: BLE001 - whatever failed, the client gets an answer that says nothing of it
            outcome = self._failed(error, message, exchange, record)
        finally:
            self._background.leave(task)
            record.tool = exchange.tool  # also of a call whose client has left
        note_result(exchange, record)
        return outcome

    def _failed(self, error: Exception, message: Message, exchange: mcp.Exchange, record: Record) -> Outcome:
        wire = note_failure(error, message, exchange, record)
        body = error_bytes(message.id, wire.code, wire.message, wire.data)
        return Outcome(body, _status(error, wire, exchange), self._refusals.headers(error))


def _status(error: Exception, wire: Wire, exchange: mcp.Exchange) -> int:
    """The HTTP status of an error; before 2026-07-28 a JSON-RPC error is an HTTP success."""
    if isinstance(error, ProtocolError):
        return ERROR_CODE_HTTP_STATUS.get(wire.code, wire.status) if exchange.is_modern else 200
    if isinstance(error, GatewayError) or exchange.is_modern:
        return wire.status
    return 200


def _is_modern(request: web.BaseRequest) -> bool:
    version = request.headers.get(MCP_PROTOCOL_VERSION_HEADER)
    return version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS


def _acknowledge(request: web.BaseRequest, is_modern: bool, correlation_id: str) -> web.Response:
    """202 for a notification: nothing in a stateless exchange can act on one."""
    if is_modern:
        rejection = unsupported_protocol_version_rejection(request.headers[MCP_PROTOCOL_VERSION_HEADER])
        if rejection is not None:
            raise _rejected(rejection)
    return web.Response(status=202, headers={"X-Request-ID": correlation_id})


def _rejected(rejection: InboundLadderRejection) -> ProtocolError:
    return ProtocolError(rejection.code, rejection.message, data=rejection.data)


def _protocol_version(request: web.BaseRequest, exchange: mcp.Exchange, message: Message) -> str:
    """The revision that this one request speaks, once its headers agree with its body.

    Raises:
        ProtocolError: the modern ladder refused it.
    """
    headers = request.headers
    version = headers.get(MCP_PROTOCOL_VERSION_HEADER, ASSUMED_VERSION)
    if not exchange.is_modern:
        return version
    params = message.params or {}
    is_call = message.method == judge.CALL
    exchange.is_judged = is_call and judge.is_plain(version, params) and judge.agrees(headers, params)
    if not exchange.is_judged:
        if duplicated := find_duplicated_routing_header(headers.items()):
            raise ProtocolError(HEADER_MISMATCH, f"{duplicated} header appears more than once")
        route = classify_inbound_request(message.body, headers=headers)
        if isinstance(route, InboundLadderRejection):
            raise _rejected(route)
        version = route.protocol_version
    if is_call:
        _check_param_headers(request, exchange, params)
    return version


def _check_param_headers(request: web.BaseRequest, exchange: mcp.Exchange, params: Mapping[str, object]) -> None:
    name, arguments = params.get("name"), params.get("arguments") or {}
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return
    tool = exchange.require(name, arguments)
    if tool.parameters.takes_headers:
        rejection = validate_mcp_param_headers(tool.input_schema, arguments, request.headers)
        if rejection is not None:
            raise _rejected(rejection)
