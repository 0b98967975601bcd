"""The composition root of `gateway stdio`: one lifespan, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gateway.config.loader import Configuration
from gateway.server.app import open_live
from gateway.server.auditing import note_start, note_success
from gateway.server.conversation import Conversation
from gateway.server.endpoint import find_endpoint
from gateway.server.listener import StartError
from gateway.server.local import Identity
from gateway.server.pipe import Pipe
from gateway.server.sinks import STDERR, open_audit
from gateway.telemetry.audit import events

_TICK: Final = 0.01
_PROVIDER_WITHIN: Final = 10.0
_SOURCES_WITHIN: Final = 2.0


@asynccontextmanager
async def open_conversation(
    configuration: Configuration, pipe: Pipe, token: str, *, user: str, toolset: str = ""
) -> AsyncIterator[Conversation]:
    """Everything that a conversation needs, while the block runs.

    Args:
        configuration: what is served.
        pipe: the client.
        token: an access token, or "".
        user: the operating system's name for the client.
        toolset: whose tools are served; all of them when empty.

    Raises:
        ConfigError: a tool cannot be built.
        StartError: there is no such toolset.
        Unauthenticated: the client may not come in.
    """
    settings = configuration.settings
    base_url = (settings.server.public_url or f"http://127.0.0.1:{settings.server.port}").rstrip("/")
    endpoint = find_endpoint(settings, base_url, toolset)
    if endpoint is None:
        raise StartError(f"There is no toolset {toolset}; known are: {', '.join(settings.toolsets) or 'none'}.")
    async with AsyncExitStack() as stack:
        # A sink that writes to standard output would break into the client's messages.
        audit = await stack.enter_async_context(open_audit(configuration, stream=STDERR))
        live, _ = await open_live(stack, configuration, audit, base_url)
        snapshot, identity = live.current.snapshot, Identity(token, user)
        await _until(lambda: snapshot.verifier.is_ready or not token, _PROVIDER_WITHIN)
        principal = await identity.principal(snapshot, endpoint)
        note_success(audit, principal, "", "local")
        note_start(audit, configuration, "stdio")
        stack.callback(audit.note, events.GATEWAY_STOP, {"url": "stdio"})
        await _until(lambda: snapshot.is_settled, _SOURCES_WITHIN)
        yield Conversation(pipe, live, base_url, toolset, identity)


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    """Give what begins in the background a moment, so that the first list of tools is whole."""
    until = asyncio.get_running_loop().time() + seconds
    while not condition() and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - many parts, no event
        await asyncio.sleep(_TICK)
