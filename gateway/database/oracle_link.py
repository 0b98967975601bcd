"""Reaches an Oracle database: the first of its addresses that lets us in, over TLS, each for its share of the time."""

from __future__ import annotations

import asyncio
import importlib
import random
import re
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import oracledb

from gateway.config.sources import OracleSettings
from gateway.database import oracle_errors as errors
from gateway.database import oracle_wallet as wallet
from gateway.database.failures import failure
from gateway.database.tls import TlsUnusable
from gateway.errors import Code, GatewayError, ToolError
from gateway.net.tls import Sighting

_CRASHING: Final = ((26, 0, 0), (26, 1, 0))
"""The first and the last version of the driver that were seen to crash the process on closed connections."""
_ADDRESS: Final = re.compile(r"\(ADDRESS=(?:\([^()]*\))+\)")
_EMPTY: Final = re.compile(r"\(ADDRESS_LIST=(?:\([A-Z_]+=\w+\))*\)")
_WHOLE: Final = ("(DESCRIPTION_LIST=", "(SOURCE_ROUTE=ON)", "(FAILOVER=OFF)")
_BALANCED: Final = "(LOAD_BALANCE=ON)"
_OLDEST: Final = (3, 4, 2)
_PROBE: Final = 1.0
_SDU: Final = 65535
_STATEMENTS: Final = 100
"""Cursors that the driver keeps open for each connection; servers admit 300 unless told otherwise."""

_opened: ContextVar[list[asyncio.BaseTransport] | None] = ContextVar("oracle_transports", default=None)


def _remember(protocol: Any, transport: asyncio.BaseTransport) -> None:
    """Keep a connection's transport: the driver has no way to drop one without asking its peer."""
    transports = _opened.get()
    if transports is not None:
        transports.append(transport)


importlib.import_module("oracledb.thin_impl").AsyncProtocol.connection_made = _remember


class DriverUnfit(GatewayError):
    """The driver that is installed may not be used."""


@dataclass(frozen=True, slots=True)
class Address:
    """A listener, and how to ask it; with a connect descriptor that has to stay whole, the first that it names."""

    host: str
    port: int
    dsn: str = ""


@dataclass(slots=True)
class Link:
    """One connection of the driver, and the transports under it."""

    raw: Any
    transports: list[asyncio.BaseTransport] = field(default_factory=list)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is known to be gone."""
        return not self.raw.is_healthy() or any(each.is_closing() for each in self.transports)

    def abort(self) -> None:
        """Drop the sockets at once."""
        _abort(self.transports)


def _abort(transports: Iterable[asyncio.BaseTransport]) -> None:
    """Drop sockets. What the driver closes itself may still be given data by TLS, which crashes the process."""
    for each in transports:
        each.abort()  # type: ignore[attr-defined]


def check_driver(version: str) -> None:
    """Hold the driver's version to those that were tested.

    Raises:
        DriverUnfit: it is too old, or one that can crash the process.
    """
    numbers = tuple(int(digits) for digits in re.findall(r"\d+", version)[:3])
    if _CRASHING[0] <= numbers <= _CRASHING[1]:
        reason = "can crash the process when a connection closes"
    elif numbers < _OLDEST:
        reason = "is too old"
    else:
        return
    raise DriverUnfit(f"python-oracledb {version} {reason}: pip install 'mcp-database-gateway[oracle]' takes a fit one")


def addresses(settings: OracleSettings) -> tuple[Address, ...]:
    """Every address, in the order in which they are tried.

    Raises:
        ToolError: SOURCE_UNAVAILABLE, the `dsn` cannot be read.
    """
    if settings.dsn is not None:
        return _apart(settings.dsn)
    if settings.host is not None:
        return (Address(settings.host, settings.port),)
    return tuple(Address(each.host, each.port) for each in settings.hosts)


def listeners(settings: OracleSettings) -> tuple[tuple[str, int], ...]:
    """Host and port of every listener, those of a connect descriptor too.

    Raises:
        ToolError: SOURCE_UNAVAILABLE, the `dsn` cannot be read.
    """
    if settings.dsn is not None:
        return _listed(_parsed(settings.dsn))
    return tuple((each.host, each.port) for each in addresses(settings))


def _listed(params: Any) -> tuple[tuple[str, int], ...]:
    hosts = params.host if isinstance(params.host, list) else [params.host]
    ports = params.port if isinstance(params.port, list) else [params.port]
    return tuple((host or "", port) for host, port in zip(hosts, ports, strict=True))


def _apart(dsn: str) -> tuple[Address, ...]:
    """A descriptor for each of a descriptor's addresses, so that one that does not answer takes its share only.

    The driver would wait for it until all of the time is used up. What means more than a choice of them stays whole.
    """
    params = _parsed(dsn)
    places, text = _listed(params), params.get_connect_string()
    nodes = [match.span() for match in _ADDRESS.finditer(text)]
    if len(places) == 1 or len(nodes) != len(places) or any(word in text for word in _WHOLE):
        return (Address(*places[0], dsn),)
    found = []
    for kept, place in zip(nodes, places, strict=True):
        without = "".join(text[end:start] for end, start in _between(nodes, kept, len(text)))
        found.append(Address(*place, _EMPTY.sub("", without)))
    return tuple(random.sample(found, len(found)) if _BALANCED in text else found)


def _between(nodes: Sequence[tuple[int, int]], kept: tuple[int, int], size: int) -> Iterator[tuple[int, int]]:
    """The stretches of a text that are left when all nodes but one are taken out."""
    at = 0
    for node in nodes:
        if node != kept:
            yield at, node[0]
            at = node[1]
    yield at, size


async def open_first(settings: OracleSettings, name: str, login: dict[str, Any], sighting: Sighting) -> Link:
    """Connect to the first address that will do.

    Args:
        settings: where to, and the time for all of it.
        name: the source's name, shown in the server's views.
        login: user and password, or access_token.
        sighting: where the server's certificate is remembered.

    Raises:
        ToolError: SOURCE_UNAVAILABLE naming what is wrong with each, where there are several.
        Exception: whatever the driver raised for the only one, or a refused login.
    """
    places = addresses(settings)
    if len(places) == 1:
        return await _open(settings, name, login, places[0], sighting)
    share = settings.connect_timeout / len(places)
    troubles = []
    for place in places:
        try:
            async with asyncio.timeout(share):
                return await _open(settings, name, login, place, sighting)
        except (oracledb.Error, OSError, TimeoutError, ToolError) as error:
            named = errors.translate(error)
            if named.code is Code.LOGIN_FAILED:
                raise
            detail = f"no answer within {share:g} s" if isinstance(error, TimeoutError) else named.detail
            troubles.append(f"{place.host}:{place.port}: {detail}")
    raise failure(Code.SOURCE_UNAVAILABLE, "no host will do: " + "; ".join(troubles))


async def _open(settings: OracleSettings, name: str, login: dict[str, Any], place: Address, sighting: Sighting) -> Link:
    context = wallet.context_of(settings, place.host, sighting)
    params = _params(settings, name, place, context)
    if params.https_proxy is None:  # else it is the proxy that knows the name
        # The driver resolves names with a call that blocks everything; so that one that hangs, hangs here.
        await asyncio.get_running_loop().getaddrinfo(place.host, place.port)
    transports: list[asyncio.BaseTransport] = []
    token = _opened.set(transports)
    try:
        raw = await oracledb.connect_async(params=params, **login)
    except BaseException as error:
        _abort(transports)
        if context is not None and isinstance(error, oracledb.Error):
            await _explain(error, context, place)
        raise
    finally:
        _opened.reset(token)
    return Link(raw, transports)


def _params(settings: OracleSettings, name: str, place: Address, context: ssl.SSLContext | None) -> Any:
    params = _parsed(place.dsn) if place.dsn else oracledb.ConnectParams(host=place.host, port=place.port)
    if place.dsn:
        _check_dsn(settings, params, context)
    else:
        params.set(service_name=settings.service, protocol="tcp" if context is None else "tcps")
    params.set(
        ssl_context=context,
        ssl_server_dn_match=wallet.mode_of(settings, place.host) == "verify-full",
        retry_count=0,  # our pool knows when to try again
        sdu=_SDU,
        stmtcachesize=_STATEMENTS,
        program=f"mcp-database-gateway/{name}"[:48],
    )
    if settings.server_dn is not None:
        params.set(ssl_server_cert_dn=settings.server_dn)
    if settings.pooled:
        params.set(server_type="pooled", cclass=settings.connection_class, purity=oracledb.PURITY_SELF)
    return params


def _parsed(dsn: str) -> Any:
    params = oracledb.ConnectParams()
    try:
        params.parse_connect_string(dsn)
    except oracledb.Error as error:
        detail = f"dsn: {error}; write a connect descriptor or host:port/service, not a TNS alias"
        raise failure(Code.SOURCE_UNAVAILABLE, detail) from error
    return params


def _check_dsn(settings: OracleSettings, params: Any, context: ssl.SSLContext | None) -> None:
    """Hold a descriptor to what the settings say of TLS.

    Raises:
        TlsUnusable: it says less.
    """
    protocols = params.protocol if isinstance(params.protocol, list) else [params.protocol]
    if context is not None and set(protocols) != {"tcps"}:
        raise TlsUnusable("dsn: it connects without TLS; write tcps, or say tls.mode: disable on a network you trust")
    if context is None and "tcps" in protocols:
        raise TlsUnusable("dsn: it says tcps, but tls.mode is disable here; say tls.mode: verify-full")
    if params.wallet_location is not None:
        raise TlsUnusable("dsn: give the wallet as `wallet`, so that its files are checked")


async def _explain(error: oracledb.Error, context: ssl.SSLContext, place: Address) -> None:
    """Look whether the server is too old for the oldest TLS that we accept.

    It refuses with an alert or by hanging up; what it has instead is found by asking for it.

    Raises:
        ToolError: SOURCE_UNAVAILABLE, it is.
    """
    if context.minimum_version != ssl.TLSVersion.TLSv1_3 or not errors.is_handshake(error):
        return
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        async with asyncio.timeout(_PROBE):
            _, writer = await asyncio.open_connection(place.host, place.port, ssl=context)
    except (OSError, TimeoutError):
        return
    version = writer.get_extra_info("ssl_object").version()
    writer.transport.abort()
    if version == "TLSv1.2":
        raise failure(Code.SOURCE_UNAVAILABLE, errors.too_old("TLS 1.2")) from error
