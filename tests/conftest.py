"""What all tests share: rounds of hypothesis, private servers, and which engines are left out."""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.logged import logged
from tests.servers.containers import MysqlContainer, PostgresqlContainer, has_engine, running_container, running_mysql
from tests.servers.mariadb import MariadbServer, running_mariadb
from tests.servers.oidc import OidcServer, running_oidc
from tests.servers.oracle.container import OracleContainer, running_oracle_container
from tests.servers.oracle.server import OracleServer, running_oracle
from tests.servers.pgbouncer import PgbouncerServer, running_pgbouncer
from tests.servers.postgresql import PostgresqlServer, running_postgresql
from tests.servers.programs import PACKAGES, MissingServer, programs
from tests.servers.redis import RedisServer, running_redis
from tests.tally import LINES, Tally

SKIPPED = frozenset(filter(None, os.environ.get("GATEWAY_TEST_SKIP", "").split(",")))
# Which engine a test needs is told by the fixtures it uses.
ENGINES = {
    "postgresql": "postgresql",
    "own_postgresql": "postgresql",
    "bench_world": "postgresql+wrk",
    "service": "postgresql",
    "pgbouncer": "postgresql+pgbouncer",
    "postgresql+pgbouncer": "postgresql+pgbouncer",
    "mysql": "mysql",
    "mariadb": "mysql",
    "own_mariadb": "mysql",
    "mysql_container": "mysql",
    "redis": "redis",
    "own_redis": "redis",
    "tls_redis": "redis",
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "oidc": "oidc",
    "own_oidc": "oidc",
    "zones": "network+postgresql",
    "fault_servers": "postgresql+mysql",
    "zones_wanted": "network+postgresql",
    "faketime": "faketime",
    "chromium": "chromium",
    "nginx": "nginx",
    "firewall": "network",
    "rolling_world": "nginx+network",
}

settings.register_profile("gateway", max_examples=int(os.environ.get("GATEWAY_TEST_ROUNDS", "50")), deadline=None)
settings.load_profile("gateway")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a misspelt engine: leaving out nothing would look like leaving out something."""
    if unknown := SKIPPED - PACKAGES.keys():
        raise pytest.UsageError(f"GATEWAY_TEST_SKIP names {', '.join(unknown)}; known are {', '.join(PACKAGES)}")


def _engines_of(item: pytest.Item) -> set[str]:
    names = set(getattr(item, "fixturenames", ()))
    callspec = getattr(item, "callspec", None)
    if callspec is not None:
        names |= {value for value in callspec.params.values() if isinstance(value, str)}
    return {engine for name in names if name in ENGINES for engine in ENGINES[name].split("+")}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the engines that were named, and find or install the servers of the others before the first test."""
    kept = [item for item in items if not _engines_of(item) & SKIPPED]
    dropped = [item for item in items if _engines_of(item) & SKIPPED]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
    if config.option.collectonly:
        return
    try:
        for engine in sorted({engine for item in kept for engine in _engines_of(item)}):
            programs(engine)
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=3)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports travel between processes as UTF-8, and some tests write what is none on purpose."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over what its tests counted."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = LINES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker's tests counted is shown with everybody's."""
    LINES.extend(getattr(node, "workeroutput", {}).get("tally", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the counts of rounds and faults, and name what was left out."""
    if LINES:
        terminalreporter.section("rounds and faults")
        for line in LINES:
            terminalreporter.write_line(line)
    if SKIPPED:
        terminalreporter.write_line(f"LEFT OUT by GATEWAY_TEST_SKIP: {', '.join(sorted(SKIPPED))}", yellow=True)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Takes a line for the end of the run."""
    return lambda line: LINES.append(f"{request.node.name}: {line}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer | PostgresqlContainer]:
    """A server that no test stops."""
    with running_container() if has_engine() else running_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgresql: PostgresqlServer) -> Iterator[PgbouncerServer]:
    """A pooler in front of the server that no test stops."""
    with running_pgbouncer(postgresql) as pooler:
        yield pooler


@pytest.fixture
def own_postgresql() -> Iterator[PostgresqlServer]:
    """A server that a test may stop, kill and freeze."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A server that no test stops."""
    with running_mariadb() as server:
        yield server


@pytest.fixture
def own_mariadb() -> Iterator[MariadbServer]:
    """A server that a test may stop, kill and freeze."""
    with running_mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def oracle() -> Iterator[OracleServer]:
    """A stand-in for Oracle that no test stops."""
    with running_oracle() as server:
        yield server


@pytest.fixture(scope="session")
def oracle_container() -> Iterator[OracleContainer]:
    """Oracle itself, where a container engine answers."""
    with running_oracle_container() as server:
        yield server


@pytest.fixture
def own_oracle() -> Iterator[OracleServer]:
    """A stand-in for Oracle that a test may stop, kill and freeze."""
    with running_oracle() as server:
        yield server


@pytest.fixture(scope="session")
def mysql_container() -> Iterator[MysqlContainer]:
    """MySQL itself, where a container engine answers."""
    with running_mysql() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A server that no test stops."""
    with running_redis() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that a test may stop, kill and freeze."""
    with running_redis() as server:
        yield server


@pytest.fixture
def tls_redis() -> Iterator[RedisServer]:
    """A server that speaks TLS only."""
    with running_redis(has_tls=True) as server:
        yield server


@pytest.fixture(scope="session")
def oidc() -> Iterator[OidcServer]:
    """A certified identity provider that no test stops."""
    with running_oidc() as server:
        yield server


@pytest.fixture
def own_oidc() -> Iterator[OidcServer]:
    """A certified identity provider that a test may kill and give new keys."""
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="session")
def faketime() -> None:
    """Clocks can be moved."""


@pytest.fixture
def nginx() -> None:
    """A balancer is here; which one is told by `programs`."""


@pytest.fixture
def rolling_world() -> None:
    """A balancer and a DNS server are here."""


@pytest.fixture
def firewall() -> None:
    """nft is here, and network namespaces may be made."""


@pytest.fixture
def chromium() -> None:
    """A browser is here; which one is told by `programs`."""


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """The JSON lines that the gateway logs meanwhile; parametrized indirectly by a level, those of that level too."""
    with logged(getattr(request, "param", "INFO")) as stream:
        yield stream
