"""The audit of a configuration, with its sinks: the one place that knows them all."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gateway.config.audit import AnySinkSettings
from gateway.config.loader import Configuration
from gateway.server.table_sink import TableSink, open_source
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
    async with AsyncExitStack() as stack:
        outlets = await _outlets(configuration, stream, stack)
        policy = Policy(settings.on_failure == "refuse", settings.queue, settings.write_timeout, settings.head_interval)
        audit = Audit(Keys(secret), outlets, policy)
        if not secret and outlets:
            _log.warning("audit.chain_key is not set: whoever can write the records can also forge their chain")
        await stack.enter_async_context(audit.running(_previous(outlets)))
        yield audit


async def _outlets(configuration: Configuration, stream: int, stack: AsyncExitStack) -> list[Outlet]:
    """Every sink, open; none where one cannot be opened."""
    outlets: list[Outlet] = []
    try:
        for settings in configuration.settings.audit.sinks:
            (given,) = settings.given
            sink = await _sink(settings, configuration, stream, stack)
            outlets.append(Outlet(sink, is_required=given.required, takes_records=given.records == "all"))
    except BaseException:
        for outlet in outlets:
            await outlet.sink.close()
        raise
    return outlets


async def _sink(settings: AnySinkSettings, configuration: Configuration, stream: int, stack: AsyncExitStack) -> Sink:
    if (file := settings.file) is not None:
        return FileSink(file.path, fsync=file.fsync, rotate=file.rotate, keep=file.keep)
    if (table := settings.postgresql) is not None:
        whole = configuration.settings
        source = await stack.enter_async_context(open_source(table.source, whole.sources[table.source]))
        return TableSink(source, table.table, whole.audit.write_timeout)
    if settings.otlp is not None:
        # Imported here, because OpenTelemetry's SDK is heavy and most audits do without.
        from gateway.telemetry.audit.otlp_sink import OtlpSink

        return OtlpSink()
    return StreamSink(stream, "stdout" if stream == STDOUT else "stderr")


def _previous(outlets: Sequence[Outlet]) -> Previous:
    """What the first file ended with that has an end."""
    found = [outlet.sink.previous for outlet in outlets if isinstance(outlet.sink, FileSink)]
    return next((each for each in found if each.link or each.torn), Previous())
