"""A database, from its name to its clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from gateway.cli import accounts
from gateway.cli.doctor import certificates, local, oracle, path
from gateway.cli.doctor.places import Place, places_of
from gateway.cli.doctor.report import Outcome, Step, Target
from gateway.config.loader import Configuration
from gateway.config.problems import KeyPath
from gateway.config.sources import AnySource, OracleSettings, SqliteSettings
from gateway.database import care, tls
from gateway.database.accounts import account_settings
from gateway.database.engine import Audit, Auditable, Connection, Engine, Statement
from gateway.database.sources import build_engine
from gateway.errors import Code, GatewayError, ToolError

_QUERIES: Final = {
    "postgres": (
        "select current_setting('server_version') as version, extract(epoch from clock_timestamp())::float8 as seconds,"
        " (select sum(numbackends) from pg_stat_database)::int as used"
    ),
    "mysql": "select version() as version, unix_timestamp(now(6)) as seconds, null as used",
    "oracle": (
        "select version, (cast(sys_extract_utc(systimestamp) as date) - to_date('1970-01-01', 'YYYY-MM-DD')) * 86400"
        " as seconds, null as used from product_component_version where rownum = 1"
    ),
    "sqlite": "select sqlite_version() as version, null as seconds, null as used",
}
"""The server's version, its Unix time in seconds, and how many connections it has."""
_SKEW: Final = 5.0
"""Seconds between two clocks that nobody need care about."""
_LOGIN: Final = {
    Code.LOGIN_FAILED: (
        "Check user and password (a rotated secret?), and what the server allows from this address:"
        " pg_hba.conf, or MySQL's user@host."
    ),
    Code.CONNECT_TIMEOUT: (
        "The port is open, but the login does not end: the server is overloaded, or waits for something itself"
        " (reverse DNS, LDAP, its own disk). If it is only slow, raise connect_timeout."
    ),
    Code.STATEMENT_INVALID: "Does the database exist, and is its name spelt right?",
    Code.ACCESS_DENIED: "Grant the account the right to connect to this database.",
}
_ELSE: Final = "The server's own log says more."
# With TLS 1.3 a server judges a client's certificate after the handshake, and its reason may be lost on the way.
_TRUST: Final = f"Does the server trust the authority that signed tls.certificate? {_ELSE}"
_NOTED: Final = "The server told this when it was asked about the account; its operator can change it."
_SHOW: Final = f"Does the server ask for a client certificate (tls.certificate, tls.key)? {_ELSE}"


def target_of(name: str, settings: AnySource) -> Target:
    """The target, before anything was tried."""
    try:
        where = ", ".join(map(str, places_of(settings)))
    except GatewayError:  # a connect descriptor that is none: its examination says so
        where = "?"
    match settings:
        case SqliteSettings():
            database = ""
        case OracleSettings():
            database = f"/{settings.service}" if settings.service else ""
        case _:
            database = f"/{settings.database}"
    return Target("source", name, f"{settings.engine} {where}{database}{_as(settings)}")


def _as(settings: AnySource) -> str:
    """Which account logs in; with Oracle's tokens none is named."""
    user = None if isinstance(settings, SqliteSettings) else settings.user
    return f" as {user}" if user else ""


async def examine(target: Target, configuration: Configuration, limit: float, audits: dict[str, list[Audit]]) -> None:
    """Try everything, in order.

    Args:
        target: gets the steps.
        limit: seconds for each step; logins have the source's own limit.
        audits: gets what the accounts may do.
    """
    settings = configuration.settings.sources[target.name]
    places = places_of(settings)
    _own_certificate(target, settings)
    if isinstance(settings, OracleSettings) and settings.wallet is not None:
        target.steps.append(oracle.wallet_step(settings.wallet))
    ways = await asyncio.gather(*(_reach(place, settings, limit) for place in places), _token(settings, limit))
    for steps, _ in ways:
        target.steps.extend(steps)
    *ways, _ = ways  # a token endpoint that is away is told by the login
    if ways and not any(is_open for _, is_open in ways):
        target.skip("login", "not tried: the way to the database is not open")
        return
    await _log_in(target, ("sources", target.name), configuration, settings, limit, audits)
    for index, account in enumerate(settings.credentials):
        key: KeyPath = ("sources", target.name, "credentials", index)
        await _log_in(target, key, configuration, account_settings(settings, account), limit, audits)


async def _reach(place: Place, settings: AnySource, limit: float) -> tuple[list[Step], bool]:
    if place.endpoint is not None:
        steps, is_open = await path.walk(place.endpoint, place.security, limit)
        if is_open and place.security is None:
            steps.append(_plain(place, settings))
        return steps, is_open
    if place.socket is not None:
        step = await local.knock_socket(place.socket, limit)
    else:
        step = local.look_at_file(place.file, writes=settings.access == "read-write")  # type: ignore[arg-type]
    return [step], not step.outcome.is_bad


async def _token(settings: AnySource, limit: float) -> tuple[list[Step], bool]:
    """The way to whoever issues the token that the gateway logs in with."""
    if (token := getattr(settings, "token", None)) is not None:
        url = token.url
    elif isinstance(settings, OracleSettings) and settings.oci_token is not None:
        url = settings.oci_token.endpoint
    else:
        return [], True
    trust = "the system's store (SSL_CERT_FILE names another one)"
    return await path.walk(path.endpoint_of(url, "token endpoint"), path.web_security(url, trust), limit)


def _plain(place: Place, settings: AnySource) -> Step:
    endpoint, written = place.endpoint, getattr(settings, "tls", None)
    if endpoint is not None and written is not None and tls.is_local(endpoint.host):
        return Step("tls", Outcome.SKIPPED, "off on loopback")
    advice = "Passwords and rows travel in the clear: take tls.mode: disable away, and set TLS up at the server."
    return Step("tls", Outcome.WARNING, "tls.mode is disable", advice)


def _own_certificate(target: Target, settings: AnySource) -> None:
    """Whether the certificate that the gateway shows is still good."""
    if isinstance(settings, SqliteSettings) or (file := settings.tls.certificate) is None:
        return
    try:
        found = certificates.read_file(file)
    except (OSError, ValueError) as error:
        advice = "Correct tls.certificate: is the secret mounted?"
        target.steps.append(Step("certificate", Outcome.FAILED, f"{file}: {error}", advice))
        return
    text, outcome, advice = f"ours, {found.subject}, {found.life()}", Outcome.OK, ""
    if found.is_ending:
        outcome = Outcome.FAILED if found.days < 0 else Outcome.WARNING
        advice = "Renew tls.certificate; the gateway reads it again for its next connection."
    target.steps.append(Step("certificate", outcome, text, advice, facts=found.facts()))


async def _log_in(
    target: Target,
    key: KeyPath,
    configuration: Configuration,
    settings: AnySource,
    limit: float,
    audits: dict[str, list[Audit]],
) -> None:
    engine, started = build_engine(settings, target.name), time.perf_counter()
    try:
        connection = await care.open_connection(engine, settings.connect_timeout)
    except ToolError as error:
        answered = oracle.listener_step(settings, error) if isinstance(settings, OracleSettings) else None
        target.steps.extend([answered] if answered is not None else [])
        if answered is None or not answered.outcome.is_bad:
            target.steps.append(_not_in(error, settings, time.perf_counter() - started))
        return
    if isinstance(settings, OracleSettings) and (answered := oracle.listener_step(settings, None)) is not None:
        target.steps.append(answered)
    seconds = time.perf_counter() - started
    shown = bool(getattr(getattr(settings, "tls", None), "certificate", None))
    text = f"connected{_as(settings)}{', with our certificate' * shown}"
    target.steps.append(Step("login", Outcome.OK, text, seconds=seconds))
    try:
        await _ask(target, engine, connection, limit)
        if isinstance(connection, Auditable):
            await _audit(target, key, configuration, engine, connection, limit, audits)
    finally:
        connection.abort()


def _not_in(error: ToolError, settings: AnySource, seconds: float) -> Step:
    outcome = Outcome.TIMED_OUT if error.code is Code.CONNECT_TIMEOUT else Outcome.FAILED
    if outcome is Outcome.TIMED_OUT:
        return Step("login", outcome, f"no login within {settings.connect_timeout:g} s", _LOGIN[error.code], seconds)
    advice = _LOGIN.get(error.code, _ELSE)
    if error.code is Code.SOURCE_UNAVAILABLE and not isinstance(settings, SqliteSettings):
        advice = _TRUST if settings.tls.certificate else _SHOW
    return Step("login", outcome, error.detail or error.message, advice, seconds)


async def _ask(target: Target, engine: Engine, connection: Connection, limit: float) -> None:
    """A query, and what it tells of version, load and clock."""
    before, started = time.time(), time.perf_counter()
    told = await _row(target, engine, connection, Statement("query", _QUERIES[engine.dialect], (), ()), limit)
    if told is None:
        return
    after, seconds = time.time(), time.perf_counter() - started
    version, there, used = told
    target.steps.append(Step("query", Outcome.OK, f"version {version}", "", seconds, {"version": version}))
    if used is not None:
        target.steps.append(Step("load", Outcome.OK, f"{used} connections are open now", facts={"connections": used}))
    if there is not None:
        target.steps.append(_clock(float(there) - (before + after) / 2, (after - before) / 2))
    if engine.dialect == "oracle" and (found := await _row(target, engine, connection, oracle.NLS, limit)) is not None:
        target.steps.append(oracle.nls_step(tuple(found)))


async def _row(
    target: Target, engine: Engine, connection: Connection, query: Statement, limit: float
) -> Sequence[Any] | None:
    """The one row of a query; None, and a step of its name, where it does not come."""
    try:
        async with asyncio.timeout(limit):
            if connection.needs_reset:  # the one before is not over
                await connection.reset()
            return (await connection.run(query, (), 1, _silence)).rows[0]
    except Exception as error:  # noqa: BLE001 - the engine names whatever its driver raised
        target.steps.append(_unanswered(query.name, engine, error, limit))
        return None


def _clock(skew: float, doubt: float) -> Step:
    facts = {"skew_seconds": round(skew, 3)}
    if abs(skew) - doubt <= _SKEW:
        return Step("clock", Outcome.OK, f"within {abs(skew) + doubt:.1f} s of ours", facts=facts)
    side = "ahead of" if skew > 0 else "behind"
    advice = "Times in rows and logs will not fit together: let both machines ask an NTP server."
    return Step("clock", Outcome.WARNING, f"{abs(skew):.0f} s {side} ours", advice, facts=facts)


def _unanswered(name: str, engine: Engine, error: Exception, limit: float) -> Step:
    if isinstance(error, TimeoutError):
        advice = "The login worked, but a query does not: the server is overloaded, or its disk is stuck."
        return Step(name, Outcome.TIMED_OUT, f"no answer within {limit:g} s", advice, limit)
    named = engine.translate(error)
    return Step(name, Outcome.FAILED, named.detail or named.message, _LOGIN.get(named.code, _ELSE))


async def _audit(
    target: Target,
    key: KeyPath,
    configuration: Configuration,
    engine: Engine,
    connection: Auditable,
    limit: float,
    audits: dict[str, list[Audit]],
) -> None:
    """What the account may do, judged as `gateway check` judges it."""
    try:
        async with asyncio.timeout(limit):
            found = await connection.audit()
    except Exception as error:  # noqa: BLE001 - as above
        target.steps.append(_unanswered("privileges", engine, error, limit))
        return
    audits.setdefault(target.name, []).append(found)
    bad = [problem.message for problem in accounts.mistakes(configuration, key, found)]
    doubtful = [problem.message for problem in accounts.rights(configuration, key, found)]
    target.steps.extend(Step("notes", Outcome.WARNING, note, _NOTED) for note in found.notes)
    for outcome, messages in ((Outcome.FAILED, bad), (Outcome.WARNING, doubtful)):
        target.steps.extend(_split("privileges", outcome, message) for message in messages)
    if not bad and not doubtful:
        reads = configuration.settings.sources[target.name].access == "read-only"
        text = "the account may not change data" if reads else "the source is read-write"
        target.steps.append(Step("privileges", Outcome.OK, text))


def _split(name: str, outcome: Outcome, message: str) -> Step:
    """A problem's message ends with what to do about it."""
    text, _, advice = message.rpartition("; ")
    return Step(name, outcome, text or advice, f"{advice[0].upper()}{advice[1:]}." if text else "")


def judge_limits(targets: Sequence[Target], configuration: Configuration, audits: dict[str, list[Audit]]) -> None:
    """Compare the connections that all replicas may open with what each server admits."""
    over = {str(problem.path[1]): problem.message for problem in accounts.budgets(configuration, audits)}
    deployment = configuration.settings.deployment
    processes = deployment.max_replicas + deployment.surge
    for target in targets:
        limits = [each.connection_limit for each in audits.get(target.name, ()) if each.connection_limit is not None]
        if target.name in over:
            target.steps.append(_split("limits", Outcome.WARNING, over[target.name]))
        elif limits:
            most = configuration.settings.sources[target.name].pool.max
            facts: dict[str, Any] = {"wanted": most * processes, "admitted": min(limits)}
            text = f"{most} x {processes} processes = {most * processes} of {min(limits)} connections"
            target.steps.append(Step("limits", Outcome.OK, text, facts=facts))


def _silence(_: str) -> None:
    """Nobody waits for progress."""
