"""Where each engine's settings lead: endpoints and their transport security, a Unix socket, or a file."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.doctor.handshake import Opening, Security, mysql_opening, postgresql_opening
from gateway.cli.doctor.network import Endpoint
from gateway.config.logins import TlsSettings
from gateway.config.sources import AnySource, MysqlSettings, PostgresqlSettings, SqliteSettings
from gateway.database import tls

_PEER = "database"


@dataclass(frozen=True, slots=True)
class Place:
    """One place where a source may be.

    Attributes:
        endpoint: over the network.
        security: how it is encrypted there; None in the clear.
        socket: or a Unix socket.
        file: or a file.
    """

    endpoint: Endpoint | None = None
    security: Security | None = None
    socket: Path | None = None
    file: Path | None = None

    def __str__(self) -> str:
        if self.endpoint is not None:
            return f"{self.endpoint.host}:{self.endpoint.port}"
        return str(self.socket or self.file)


def places_of(settings: AnySource) -> list[Place]:
    """Every place, in the order in which the engine tries them."""
    match settings:
        case PostgresqlSettings():
            alone = [(settings.host, settings.port)] if settings.host is not None else []
            hosts = alone or [(each.host, each.port) for each in settings.hosts]
            return [_postgresql(settings, host, port) for host, port in hosts]
        case MysqlSettings():
            if settings.host.startswith("/"):
                return [Place(socket=Path(settings.host))]
            return [_remote(settings.host, settings.port, settings.tls, mysql_opening)]
        case SqliteSettings():
            return [Place(file=settings.path)]


def _postgresql(settings: PostgresqlSettings, host: str, port: int) -> Place:
    if host.startswith("/"):
        return Place(socket=Path(host) / f".s.PGSQL.{port}")
    return _remote(host, port, settings.tls, postgresql_opening)


def _remote(host: str, port: int, settings: TlsSettings, opening: Opening) -> Place:
    endpoint = Endpoint(host, port, _PEER)
    if tls.mode_of(settings, host) == "disable":
        return Place(endpoint)
    trust = "tls.ca" if settings.ca is not None else "tls.ca, or the system's store without it"
    name = settings.server_name or host
    return Place(endpoint, Security(_maker(settings, host), name, trust, ", set tls.server_name", opening))


def _maker(settings: TlsSettings, host: str) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = tls.context_of(settings, host)
        if context is None:  # the caller has asked for the mode before
            raise tls.TlsUnusable("tls.mode is disable")
        return context

    return make
