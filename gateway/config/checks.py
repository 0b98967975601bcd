"""Contradictions between settings that are each well-formed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.config import oracle
from gateway.config.accounts import credentials
from gateway.config.addresses import is_loopback
from gateway.config.audit import audit_contradictions
from gateway.config.budgets import limits
from gateway.config.features import feature_misfits
from gateway.config.introspection import IntrospectionSettings
from gateway.config.issuers import TrustedIssuer, misfits, resolve
from gateway.config.listener import listener_tls
from gateway.config.models import GatewaySettings
from gateway.config.permissions import permissions
from gateway.config.problems import Finding, KeyPath
from gateway.config.redis import MIN_KEY_LENGTH, RedisSettings
from gateway.config.session import APPLICATION
from gateway.config.sources import OracleSettings, PostgresqlSettings, SourceSettings, SqliteSettings
from gateway.config.tools import ToolSettings
from gateway.config.validation import suggestion

_HOST: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?", re.ASCII)
_DATABASE: Final = re.compile(r"/?|/[0-9]{1,5}", re.ASCII)
_ALL_ADDRESSES: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104


def find_contradictions(settings: GatewaySettings, names: frozenset[str] | None) -> Iterator[Finding]:
    """Look at everything that needs more than one setting, or more than a type, to judge.

    Args:
        names: every source that is written, also those left out of the settings; None if that is unknown.
    """
    yield from _server(settings)
    yield from _auth(settings)
    yield from audit_contradictions(settings.audit, settings.sources)
    if settings.redis is not None:
        yield from _redis(settings.redis)
    yield from limits(settings)
    for name, source in settings.sources.items():
        yield from _source(("sources", name), source)
    for name, tool in settings.tools.items():
        yield from _tool(("tools", name), tool, settings, names)
    yield from permissions(settings)
    yield from feature_misfits(settings.features)


def _server(settings: GatewaySettings) -> Iterator[Finding]:
    server = settings.server
    if server.public_url is not None and (trouble := _origin_trouble(server.public_url)):
        yield Finding(("server", "public_url"), trouble)
    for index, origin in enumerate(server.allowed_origins):
        if trouble := _origin_trouble(origin, may_be_plain=True):
            yield Finding(("server", "allowed_origins", index), trouble)
    for index, host in enumerate(server.allowed_hosts):
        if not _HOST.fullmatch(host):
            yield Finding(("server", "allowed_hosts", index), "expected a host, or host:port, without scheme or path")
    for index, network in enumerate(server.trusted_proxies):
        try:
            ip_network(network)
        except ValueError:
            message = "expected a network such as 10.0.0.0/8, with no address bits beyond the prefix"
            yield Finding(("server", "trusted_proxies", index), message)
    yield from listener_tls(server)
    admin = settings.admin
    is_one_address = server.host == admin.host or not {server.host, admin.host}.isdisjoint(_ALL_ADDRESSES)
    if server.port and server.port == admin.port and is_one_address:
        message = f"expected another port than the server's, {server.port}"
        yield Finding(("admin", "port"), message, (("server", "port"), ("server", "host"), ("admin", "host")))


def _auth(settings: GatewaySettings) -> Iterator[Finding]:
    auth, server = settings.auth, settings.server
    if auth.mode == "none":
        public = urlsplit(server.public_url).hostname if server.public_url else None
        involved: tuple[KeyPath, ...] = (("server", "host"), ("server", "public_url"))
        if not is_loopback(server.host) or (public and not is_loopback(public)):
            message = "none is refused off loopback; use jwt, or listen on 127.0.0.1 without a public_url"
            yield Finding(("auth", "mode"), message, involved)
    elif not auth.issuers and settings.stdio is None:
        message = "expected at least one issuer, since auth.mode is jwt; without one nobody may call"
        yield Finding(("auth", "issuers"), message, (("auth", "mode"),))
    if auth.cache.backend == "redis" and settings.redis is None:
        yield Finding(("auth", "cache", "backend"), "expected the section redis beside it", (("redis",),))
    seen: dict[str, int] = {}
    for index, written in enumerate(auth.issuers):
        path = ("auth", "issuers", index)
        if found := tuple(misfits(path, written)):
            yield from found
            continue
        issuer = resolve(written)
        yield from _issuer(path, issuer)
        first = min(seen.setdefault(name, index) for name in issuer.names)
        if first != index:
            yield Finding((*path, "issuer"), f"the same as auth.issuers.{first}; give it once, with all audiences")


def _issuer(path: KeyPath, issuer: TrustedIssuer) -> Iterator[Finding]:
    preset = ((*path, "preset"),)
    if trouble := _url_trouble(issuer.issuer):
        yield Finding((*path, "issuer"), trouble, preset)
    further = {"discovery": issuer.discovery, "jwks_uri": issuer.jwks_uri, "advertised": issuer.advertised}
    for key, url in further.items():
        if url not in (None, issuer.issuer) and (trouble := _url_trouble(url, may_have_query=key != "advertised")):
            yield Finding((*path, key), trouble, preset)
    if issuer.written.introspection is not None and issuer.written.preset == "entra":
        yield Finding((*path, "introspection"), "Entra answers no questions about tokens; leave it out", preset)
    elif issuer.written.introspection is not None:
        yield from _introspection((*path, "introspection"), issuer.written.introspection)


def _introspection(path: KeyPath, asked: IntrospectionSettings) -> Iterator[Finding]:
    if asked.endpoint is not None and (trouble := _url_trouble(asked.endpoint, may_have_query=True)):
        yield Finding((*path, "endpoint"), trouble)
    if (asked.client_secret is None) == (asked.private_key is None):
        message = "expected either client_secret or private_key, got " + ("both" if asked.client_secret else "neither")
        yield Finding((*path, "client_secret"), message, ((*path, "private_key"),))
    if not asked.opaque and not asked.required:
        message = "expected true where opaque is false; nothing would ever be asked"
        yield Finding((*path, "required"), message, ((*path, "opaque"),))


def _redis(redis: RedisSettings) -> Iterator[Finding]:
    parts = _split(redis.url)
    is_plain = parts is not None and not parts.query and _DATABASE.fullmatch(parts.path) is not None
    if parts is None or not is_plain or parts.scheme not in ("redis", "rediss"):
        message = "expected rediss://host:port or rediss://host:port/number, user and password apart"
        yield Finding(("redis", "url"), message)
    elif parts.scheme == "redis" and not is_loopback(parts.hostname or ""):
        yield Finding(("redis", "url"), "expected rediss; redis without TLS is for loopback only")
    if redis.user is not None and redis.password is None:
        yield Finding(("redis", "user"), "expected a password beside it", (("redis", "password"),))
    if len(redis.key.get_secret_value()) < MIN_KEY_LENGTH:
        message = f"expected at least {MIN_KEY_LENGTH} characters; `openssl rand -base64 32` makes such a key"
        yield Finding(("redis", "key"), message)


def _source(path: KeyPath, source: SourceSettings) -> Iterator[Finding]:
    pool = source.pool
    if pool.min > pool.max:
        message = f"expected at most pool.max, which is {pool.max}, got {pool.min}"
        yield Finding((*path, "pool", "min"), message, ((*path, "pool", "max"),))
    if pool.max_per_client is not None and pool.max_per_client > pool.max:
        message = f"expected at most pool.max, which is {pool.max}, got {pool.max_per_client}"
        yield Finding((*path, "pool", "max_per_client"), message, ((*path, "pool", "max"),))
    if APPLICATION in source.session and not isinstance(source, PostgresqlSettings):
        yield Finding((*path, "session", APPLICATION), "only PostgreSQL has this setting; give a name with a dot")
    if source.session and isinstance(source, SqliteSettings):
        message = "SQLite has no session settings and no row-level security; use :parameters, or another engine"
        yield Finding((*path, "session"), message)
    if source.credentials:
        yield from credentials(path, source)
    if isinstance(source, PostgresqlSettings):
        yield from _postgresql(path, source)
    if isinstance(source, OracleSettings):
        yield from oracle.contradictions(path, source)
    if isinstance(source, PostgresqlSettings | OracleSettings):
        yield from _secrets(path, source)


def _postgresql(path: KeyPath, source: PostgresqlSettings) -> Iterator[Finding]:
    if source.host is None and not source.hosts:
        yield Finding((*path, "host"), "missing; give host, or hosts", ((*path, "hosts"),))
    if source.host is not None and source.hosts:
        yield Finding((*path, "hosts"), "expected either host or hosts, got both", ((*path, "host"),))
    if source.token is not None and source.password is not None:
        yield Finding((*path, "token"), "expected either password or token, got both", ((*path, "password"),))


def _secrets(path: KeyPath, source: PostgresqlSettings | OracleSettings) -> Iterator[Finding]:
    for name in ("token", "oci_token"):
        url = getattr(getattr(source, name, None), "url", None)
        if url is not None and (trouble := _url_trouble(url, may_have_query=True)):
            yield Finding((*path, name, "url"), trouble)
    if (source.tls.certificate is None) != (source.tls.key is None):
        given, absent = ("certificate", "key") if source.tls.certificate else ("key", "certificate")
        message = f"expected {absent} beside it; mutual TLS needs both"
        yield Finding((*path, "tls", given), message, ((*path, "tls", absent),))


def _tool(
    path: KeyPath, tool: ToolSettings, settings: GatewaySettings, names: frozenset[str] | None
) -> Iterator[Finding]:
    if names is not None and tool.source not in names:
        known = tuple(sorted(names))
        message = "there is no source of this name" + suggestion(tool.source, known)
        yield Finding((*path, "source"), message)
    if tool.parameters is not None and tool.input_schema is not None:
        message = "expected either parameters or input_schema, got both"
        yield Finding((*path, "input_schema"), message, ((*path, "parameters"),))
    if tool.idempotent and not tool.writes:
        message = "true is for tools with writes: true; a read is idempotent anyway"
        yield Finding((*path, "idempotent"), message, ((*path, "writes"),))
    source = settings.sources.get(tool.source)
    if tool.writes and source is not None and source.access == "read-only":
        access = ("sources", tool.source, "access")
        message = f"true is refused, since {'.'.join(access)} is read-only"
        yield Finding((*path, "writes"), message, (access,))


def _split(url: str) -> SplitResult | None:
    """The parts of an absolute URL with a host; None for anything else."""
    if not url.isascii() or not url.isprintable() or any(letter in url for letter in ' "<>\\^`{|}'):
        return None
    try:
        parts = urlsplit(url)
        is_url = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_url and _HOST.fullmatch(parts.netloc) else None


def _origin_trouble(url: str, *, may_be_plain: bool = False) -> str:
    """What is wrong with an origin (RFC 6454 section 6.2); empty when nothing is."""
    parts = _split(url)
    if parts is None or url != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in ("http", "https"):
        return "expected scheme://host or scheme://host:port and nothing more"
    if parts.scheme == "http" and not may_be_plain and not is_loopback(parts.hostname or ""):
        return "expected https; http is for loopback only"
    return ""


def _url_trouble(url: str, *, may_have_query: bool = False) -> str:
    """What is wrong with the URL of an issuer (RFC 8414 section 2); empty when nothing is."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or (parts.query and not may_have_query) or "#" in url:
        return "expected an absolute URL without user, fragment" + (" or password" if may_have_query else " or query")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        return "expected https; http is for loopback only"
    return ""
