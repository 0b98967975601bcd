"""Which paths lead to an endpoint: its own, and those of HTTP+SSE where that is on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.config.features import FeatureSettings
from gateway.server.endpoint import Endpoint
from gateway.server.headers import Headers
from gateway.server.http_sse import SseMessages, SseStreams, messages_path, stream_path
from gateway.server.reception import Counter
from gateway.server.sessions import Sessions
from gateway.server.sessions_http import SessionTransport
from gateway.server.transport import Transport


@dataclass(frozen=True, slots=True)
class Door:
    """One path to an endpoint.

    Attributes:
        path: on the listener.
        counter: what serves it.
        resource: the path that clients take for the address of the resource (RFC 8707).
    """

    path: str
    counter: Counter
    resource: str


def doors(
    endpoint: Endpoint, stateless: Transport, sessions: Sessions, features: FeatureSettings, headers: Headers
) -> Iterator[Door]:
    """Every door of an endpoint."""
    path, toolset = endpoint.path, endpoint.toolset
    yield Door(path, SessionTransport(endpoint, stateless, sessions, headers) if features.sessions else stateless, path)
    if features.http_sse:
        stream, messages = stream_path(toolset), messages_path(toolset)
        yield Door(stream, SseStreams(endpoint, sessions, headers), stream)
        yield Door(messages, SseMessages(endpoint, stateless, sessions), stream)
