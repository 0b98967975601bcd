"""The audit of a configuration, with its sinks: the one place that knows them all."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.config.audit import AnySinkSettings, FileSinkSettings
from gateway.config.loader import Configuration
from gateway.telemetry.audit.chain import Keys, Previous
from gateway.telemetry.audit.channel import Sink
from gateway.telemetry.audit.file_sink import FileSink
from gateway.telemetry.audit.recorder import Audit, Outlet, Policy
from gateway.telemetry.audit.stream_sink import StreamSink

_log: Final = logging.getLogger("gateway.audit")
STDOUT: Final = 1
STDERR: Final = 2


@asynccontextmanager
async def open_audit(configuration: Configuration, *, stream: int = STDOUT) -> AsyncIterator[Audit]:
    """The audit, recording while the block runs; off when no sink is configured.

    Args:
        configuration: its section `audit`.
        stream: the descriptor that a stdout sink writes to; a command whose answer goes there takes another.

    Raises:
        FileRefused: an audit file cannot be opened.
    """
    settings = configuration.settings.audit
    secret = settings.chain_key.get_secret_value() if settings.chain_key else None
    sinks = [(each, _sink(each, stream)) for each in settings.sinks]
    outlets = [
        Outlet(sink, is_required=given.required, takes_records=given.records == "all")
        for each, sink in sinks
        for given in each.given
    ]
    policy = Policy(settings.on_failure == "refuse", settings.queue, settings.write_timeout, settings.head_interval)
    audit = Audit(Keys(secret), outlets, policy)
    if not secret and sinks:
        _log.warning("audit.chain_key is not set: whoever can write the records can also forge their chain")
    async with audit.running(_previous([sink for _, sink in sinks])):
        yield audit


def _sink(settings: AnySinkSettings, stream: int) -> Sink:
    if settings.file is not None:
        return _file(settings.file)
    return StreamSink(stream, "stdout" if stream == STDOUT else "stderr")


def _file(settings: FileSinkSettings) -> FileSink:
    return FileSink(settings.path, fsync=settings.fsync, rotate=settings.rotate, keep=settings.keep)


def _previous(sinks: list[Sink]) -> Previous:
    """What the first file ended with that has an end."""
    found = [sink.previous for sink in sinks if isinstance(sink, FileSink)]
    return next((each for each in found if each.link or each.torn), Previous())
