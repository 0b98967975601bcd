"""Contradictions in the settings of an Oracle source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from gateway.config.problems import Finding, KeyPath
from gateway.config.sources import OracleSettings

ATTRIBUTES: Final = ("userenv.client_identifier", "userenv.client_info")
"""What of the session itself may be told who calls; the other names are application contexts."""
TOKENS: Final = ("token", "oci_token", "token_folder")
"""The settings that log in instead of user and password."""
_CREDENTIALS: Final = re.compile(r"^[^(@]*/[^(@]*@|\((?:USER|PASSWORD)\s*=", re.IGNORECASE)
_ALIAS: Final = re.compile(r"[\w.-]+")
_EXTERNAL: Final = re.compile(r"/@|/$")
_LOGINS: Final = "give user and password, token, oci_token or token_folder"
_HELD: Final = (
    "A password within a wallet (SEPS), and a login by certificate alone (IDENTIFIED EXTERNALLY), are for Oracle's"
    " client libraries, which the gateway does not use; mount the password as a file: ${file:...}"
)


def contradictions(path: KeyPath, source: OracleSettings) -> Iterator[Finding]:
    """What is wrong with where a source is, how it is secured, and how it logs in."""
    yield from _place(path, source)
    yield from _security(path, source)
    yield from _login(path, source)
    yield from _session(path, source)


def _place(path: KeyPath, source: OracleSettings) -> Iterator[Finding]:
    given = [name for name in ("host", "hosts", "dsn") if getattr(source, name)]
    if not given:
        yield Finding((*path, "host"), "missing; give host, hosts or dsn", ((*path, "hosts"), (*path, "dsn")))
    for other in given[1:]:
        message = f"expected one of host, hosts and dsn, got {' and '.join(given)}"
        yield Finding((*path, other), message, ((*path, given[0]),))
    if source.dsn is None:
        if source.service is None:
            yield Finding((*path, "service"), "missing; it is the service name that the listener knows")
        return
    if source.service is not None:
        yield Finding((*path, "service"), "expected it within dsn", ((*path, "dsn"),))
    if _EXTERNAL.match(source.dsn):
        yield Finding((*path, "dsn"), f"expected no login in it; {_LOGINS}. {_HELD}")
    elif _CREDENTIALS.search(source.dsn):
        yield Finding((*path, "dsn"), "expected no user and password in it; give them as user and password")
    elif _ALIAS.fullmatch(source.dsn):
        message = (
            "expected a connect descriptor or host:port/service; TNS aliases are not resolved,"
            " and their short names fail the check of certificates"
        )
        yield Finding((*path, "dsn"), message)


def _security(path: KeyPath, source: OracleSettings) -> Iterator[Finding]:
    tls, inside = source.tls, (*path, "tls")
    if tls.server_name is not None:
        yield Finding(
            (*inside, "server_name"), "expected server_dn of the source instead; the driver takes no other name"
        )
    if source.wallet is not None:
        for name in ("ca", "certificate", "key"):
            if getattr(tls, name) is not None:
                message = f"expected either wallet or tls.{name}, got both"
                yield Finding((*inside, name), message, ((*path, "wallet"),))
        if tls.mode == "disable":
            yield Finding((*inside, "mode"), "a wallet is for TLS; say verify-full", ((*path, "wallet"),))
    elif source.wallet_password is not None:
        yield Finding((*path, "wallet_password"), "expected wallet beside it", ((*path, "wallet"),))
    if tls.mode in (None, "verify-full") and source.server_dn is None:
        for key, host in _hosts(source):
            if _is_remote_address(host):
                message = (
                    f"expected a host name in full, since certificates are checked for it, got the address {host};"
                    " or set server_dn"
                )
                yield Finding((*path, *key), message, ((*path, "server_dn"),))


def _hosts(source: OracleSettings) -> Iterator[tuple[KeyPath, str]]:
    if source.host is not None:
        yield ("host",), source.host
    for index, each in enumerate(source.hosts):
        yield ("hosts", index, "host"), each.host


def _is_remote_address(host: str) -> bool:
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return False


def _login(path: KeyPath, source: OracleSettings) -> Iterator[Finding]:
    tokens = [name for name in TOKENS if getattr(source, name) is not None]
    if not tokens and source.user is None:
        yield Finding((*path, "user"), _missing(source), ((*path, "token"), (*path, "wallet")))
    elif not tokens and source.password is None:
        yield Finding((*path, "password"), _missing(source), ((*path, "user"), (*path, "wallet")))
    given = [name for name in ("user", "password") if getattr(source, name) is not None]
    for other in (*given, *tokens[1:]) if tokens else ():
        yield Finding((*path, tokens[0]), f"expected either {other} or {tokens[0]}, got both", ((*path, other),))
    if tokens and source.tls.mode == "disable":
        message = "expected TLS; a database takes no token without"
        yield Finding((*path, "tls", "mode"), message, ((*path, tokens[0]),))
    if source.oci_token is not None and (source.oci_token.region is None) == (source.oci_token.url is None):
        yield Finding((*path, "oci_token", "region"), "expected either region or url")
    for index, account in enumerate(source.credentials):
        if account.password is None:
            yield Finding((*path, "credentials", index, "password"), _missing(source))
    if source.connection_class is not None and not source.pooled:
        message = "expected pooled: true beside it"
        yield Finding((*path, "connection_class"), message, ((*path, "pooled"),))


def _missing(source: OracleSettings) -> str:
    return f"missing; {_LOGINS}" if source.wallet is None else f"missing; {_LOGINS}. {_HELD}"


def _session(path: KeyPath, source: OracleSettings) -> Iterator[Finding]:
    for name in source.session:
        here = (*path, "session", name)
        is_attribute = name.lower() in ATTRIBUTES
        if name.lower().startswith("userenv.") and not is_attribute:
            yield Finding(here, f"expected one of {' and '.join(ATTRIBUTES)}, or a context of your own")
        elif is_attribute and name not in ATTRIBUTES:
            yield Finding(here, f"expected it in lower case: {name.lower()}")
        elif not is_attribute and source.context_procedure is None:
            message = "expected context_procedure beside it: only a procedure of the DBA's can set a context"
            yield Finding(here, message, ((*path, "context_procedure"),))
    if source.context_procedure is not None and not set(source.session) - set(ATTRIBUTES):
        message = "expected names under session for it to set, such as app.tenant"
        yield Finding((*path, "context_procedure"), message, ((*path, "session"),))
