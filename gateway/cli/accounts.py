"""What `gateway check` thinks of the accounts and of the number of connections: mistakes and warnings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gateway.config.loader import Configuration
from gateway.config.problems import KeyPath, Problem
from gateway.config.sources import AnySource, OracleSettings, SqliteSettings
from gateway.database.engine import Audit

_UNDER: Final = "row-level security does not hold for this account"
_OWN: Final = len(("sources", "NAME"))


def mistakes(configuration: Configuration, path: KeyPath, audit: Audit) -> Iterator[Problem]:
    """Accounts for which the policies that `session` is for would not hold.

    Args:
        path: ("sources", NAME), or ("sources", NAME, "credentials", N) for one of its accounts.
    """
    settings = configuration.settings.sources[str(path[1])]
    is_own = len(path) == _OWN
    if not settings.session or (is_own and settings.credentials):  # then the own account serves no caller
        return
    path = (*path, "session" if is_own else "user")
    if audit.bypasses_row_security:
        yield configuration.problem(path, f"{_UNDER}: {audit.bypasses_row_security}; use one that may only read")
    elif audit.owns_tables:
        message = f"{_UNDER}: it owns {audit.owns_tables}, and owners can lift policies; use one that may only read"
        yield configuration.problem(path, message)


def rights(configuration: Configuration, path: KeyPath, audit: Audit) -> Iterator[Problem]:
    """Accounts that could write although their source only reads."""
    if configuration.settings.sources[str(path[1])].access == "read-only" and audit.can_write:
        message = f"the source is read-only, but its account could write: {audit.can_write}; give it SELECT only"
        yield configuration.problem((*path, "user"), message)


def notes(configuration: Configuration, path: KeyPath, audit: Audit) -> Iterator[Problem]:
    """What else the server or the files for it make worth a warning."""
    for message in audit.notes:
        yield configuration.problem(path, message)


def budgets(configuration: Configuration, audits: Mapping[str, Sequence[Audit]]) -> Iterator[Problem]:
    """Servers that admit fewer connections than all replicas together may open."""
    deployment = configuration.settings.deployment
    processes = deployment.max_replicas + deployment.surge
    servers: defaultdict[object, list[str]] = defaultdict(list)
    for name in audits:
        servers[_server(configuration.settings.sources[name], name)].append(name)
    for names in servers.values():
        found = [each.connection_limit for name in names for each in audits[name]]
        limits = [limit for limit in found if limit is not None]
        sizes = [configuration.settings.sources[name].pool.max for name in names]
        if limits and sum(sizes) * processes > min(limits):
            largest = max(names, key=lambda name: configuration.settings.sources[name].pool.max)
            together = f"({' + '.join(map(str, sizes))} of {', '.join(names)})" if len(names) > 1 else str(sizes[0])
            message = (
                f"{together} connections x ({deployment.max_replicas} max_replicas + {deployment.surge} surge)"
                f" = {sum(sizes) * processes}, but the server admits {min(limits)};"
                " lower pool.max or raise the server's limit"
            )
            yield configuration.problem(("sources", largest, "pool", "max"), message)


def _server(settings: AnySource, name: str) -> object:
    """What tells servers apart: sources of one server share its connections."""
    if isinstance(settings, OracleSettings):
        return (settings.dsn, settings.host, settings.port, settings.hosts)
    return name if isinstance(settings, SqliteSettings) else (settings.host, settings.port)
