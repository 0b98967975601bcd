"""Where each engine's settings lead: endpoints and their transport security, a Unix socket, or a file."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.doctor.handshake import Opening, Security, mysql_opening, postgresql_opening
from gateway.cli.doctor.network import Endpoint
from gateway.config.logins import TlsSettings
from gateway.config.sources import AnySource, MysqlSettings, OracleSettings, PostgresqlSettings, SqliteSettings
from gateway.database import oracle_wallet, tls

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
        case OracleSettings():
            return [_oracle(settings, host, port) for host, port in _listeners(settings)]
        case SqliteSettings():
            return [Place(file=settings.path)]


def _postgresql(settings: PostgresqlSettings, host: str, port: int) -> Place:
    if host.startswith("/"):
        return Place(socket=Path(host) / f".s.PGSQL.{port}")
    return _remote(host, port, settings.tls, postgresql_opening)


def _listeners(settings: OracleSettings) -> list[tuple[str, int]]:
    """Only the driver reads connect descriptors; where it is missing, the login says so."""
    if settings.dsn is not None:
        try:
            link = importlib.import_module("gateway.database.oracle_link")
        except ModuleNotFoundError:
            return []
        return list(link.listeners(settings))
    alone = [(settings.host, settings.port)] if settings.host is not None else []
    return alone or [(each.host, each.port) for each in settings.hosts]


def _oracle(settings: OracleSettings, host: str, port: int) -> Place:
    endpoint, mode = Endpoint(host, port, _PEER), oracle_wallet.mode_of(settings, host)
    if mode == "disable":
        return Place(endpoint)

    def make() -> ssl.SSLContext:
        context = oracle_wallet.context_of(settings, host)
        if context is None:  # the mode was asked for before
            raise tls.TlsUnusable("tls.mode is disable")
        # The driver compares names after the handshake; a server_dn is for the login to judge.
        context.check_hostname = mode == "verify-full" and settings.server_dn is None
        return context

    trust = "the wallet" if settings.wallet is not None else "tls.ca, or the system's store without it"
    return Place(endpoint, Security(make, host, trust, " in full, set server_dn"))


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
