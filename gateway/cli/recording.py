"""Commands that reach databases are recorded, too, and do not run unrecorded where the policy is to refuse."""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from gateway.config.loader import Configuration
from gateway.config.problems import Problem
from gateway.errors import GatewayError
from gateway.server.sinks import STDERR, open_audit
from gateway.telemetry.audit import events
from gateway.telemetry.audit.configuration import settings_hash
from gateway.telemetry.audit.file_sink import FileRefused
from gateway.telemetry.audit.recorder import AuditUnavailable


class NotRecorded(GatewayError):
    """The command did nothing, because it could not be recorded."""


def warnings(configuration: Configuration) -> Iterator[Problem]:
    """What an auditor would ask about first."""
    settings = configuration.settings
    if settings.auth.mode == "none":
        return
    if not settings.audit.sinks:
        yield configuration.problem(("audit", "sinks"), "nothing is recorded; name a file, stdout, otlp or a table")
    elif settings.audit.chain_key is None:
        yield configuration.problem(
            ("audit", "chain_key"), "without a key anybody who can write records can forge them"
        )


@asynccontextmanager
async def recorded(configuration: Configuration, command: str) -> AsyncIterator[None]:
    """Record the command, then run the block; a stdout sink gets standard error, where answers do not go.

    Raises:
        NotRecorded: the record cannot be written.
    """
    settings = configuration.settings
    fields = {
        "command": command,
        "user": _user(),
        "configuration": settings_hash(settings),
        "sources": sorted(settings.sources),
    }
    try:
        async with open_audit(configuration, stream=STDERR) as audit:
            await audit.write(events.OPERATOR_COMMAND, fields)
            yield
    except (AuditUnavailable, FileRefused) as error:
        raise NotRecorded(f"the command cannot be recorded, so nothing was asked: {error.message}") from error


def _user() -> str:
    """Who runs this, by the system's own account: variables can say anything."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
