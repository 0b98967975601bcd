"""`gateway check` on accounts that may too much and on more connections than there are."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import pytest

from gateway.cli import check
from gateway.config.problems import ConfigError
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import PostgresqlServer

SCHEMA = """
drop schema if exists audited cascade;
create schema audited;
create table audited.orders (id int);
grant usage on schema audited to public;
"""
ROLES = {
    "audit_reader": "grant select on audited.orders to audit_reader",
    "audit_writer": "grant select, update (id) on audited.orders to audit_writer",
    "audit_all": "grant pg_write_all_data to audit_all",
    "audit_bypass": "alter role audit_bypass bypassrls",
    "audit_owner": "alter table audited.orders owner to audit_owner; revoke all on audited.orders from audit_owner",
    "audit_few": "alter role audit_few connection limit 3",
}


async def _prepare(server: PostgresqlServer, role: str) -> None:
    admin = await server.admin()
    await admin.execute(SCHEMA)
    if not await admin.fetchval("select count(*) from pg_roles where rolname = $1", role):
        await admin.execute(f"create role {role} login password 'secret'")
    await admin.execute(ROLES[role])
    await admin.close()


def _configuration(folder: Path, server: PostgresqlServer, role: str, more: str = "") -> Path:
    (folder / "password").write_text("secret" if role in ROLES else server.password)
    path = folder / "gateway.yaml"
    path.write_text(
        "auth: {mode: none}\nsources:\n  shop:\n    engine: postgresql\n"
        f"    host: {server.host}\n    port: {server.port}\n    database: {server.database}\n    user: {role}\n"
        f"    password: ${{file:password}}\n{more}"
    )
    return path


def _checked(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], list[str]]:
    code = check.run(argparse.Namespace(config=path, offline=False, claims=None, json=True))
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    lines = {
        kind: [f"{each['line']}: {each['key']}: {each['message']}" for each in report[kind]]
        for kind in ("problems", "warnings")
    }
    return code, lines["problems"], lines["warnings"]


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("audit_reader", ""),
        ("audit_writer", "it may change audited.orders"),
        ("audit_all", "it is a member of pg_write_all_data"),
        ("audit_owner", "it may change audited.orders"),
        ("postgres", "it is a superuser"),
    ],
)
def test_an_account_that_could_write_is_a_warning(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str, reason: str
) -> None:
    if role in ROLES:
        asyncio.run(_prepare(postgresql, role))
    warning = (
        f"8: sources.shop.user: the source is read-only, but its account could write: {reason}; give it SELECT only"
    )
    expected = [warning] if reason else []
    assert _checked(_configuration(tmp_path, postgresql, role), capsys) == (0, [], expected)
    writable = _configuration(tmp_path, postgresql, role, "    access: read-write\n")
    assert _checked(writable, capsys) == (0, [], [])


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("audit_reader", ""),
        ("audit_bypass", "it has BYPASSRLS"),
        ("audit_owner", "it owns audited.orders, and owners can lift policies"),
        ("postgres", "it is a superuser"),
    ],
)
def test_row_level_security_needs_an_account_that_it_holds_for(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str, reason: str
) -> None:
    if role in ROLES:
        asyncio.run(_prepare(postgresql, role))
    path = _configuration(tmp_path, postgresql, role, "    session: {app.tenant: subject}\n")
    code, problems, _ = _checked(path, capsys)
    trouble = "row-level security does not hold for this account"
    expected = f"10: sources.shop.session: {trouble}: {reason}; use one that may only read"
    assert problems == ([expected] if reason else [])
    assert code == bool(reason)


def test_more_connections_than_the_server_admits_are_a_warning(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_prepare(postgresql, "audit_few"))
    enough = "    pool: {min: 0, max: 1}\n"
    assert _checked(_configuration(tmp_path, postgresql, "audit_few", enough), capsys) == (0, [], [])
    more = "    pool: {min: 0, max: 2}\ndeployment: {max_replicas: 3, surge: 2}\n"
    path = _configuration(tmp_path, postgresql, "audit_few", more)
    warning = (
        "10: sources.shop.pool.max: 2 connections x (3 max_replicas + 2 surge) = 10, but the server admits 3;"
        " lower pool.max or raise the server's limit"
    )
    assert _checked(path, capsys) == (0, [], [warning])
    assert check.run(argparse.Namespace(config=path, offline=False, claims=None, json=False)) == 0
    captured = capsys.readouterr()
    assert captured.err == f"warning: {path}:{warning}\n"
    assert captured.out.startswith("OK: ")


def test_every_account_is_checked(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for role in ("audit_few", "audit_reader", "audit_writer"):
        asyncio.run(_prepare(postgresql, role))
    (tmp_path / "wrong").write_text("wrong")
    accounts = "    credentials:\n" + "".join(
        f"      - {{when: {{scope: {role}}}, user: {role}, password: '${{file:{file}}}'}}\n"
        for role, file in (("audit_writer", "password"), ("audit_few", "password"), ("audit_bypass", "wrong"))
    )
    path = _configuration(tmp_path, postgresql, "audit_reader", f"{accounts}    pool: {{max: 2}}\n")
    code, problems, warnings = _checked(path, capsys)
    assert code == 1
    [problem] = problems
    assert problem.startswith("13: sources.shop.credentials.2: cannot connect: InvalidPasswordError: ")
    assert warnings == [
        "11: sources.shop.credentials.0.user: the source is read-only, but its account could write: it may change"
        " audited.orders; give it SELECT only",
        "14: sources.shop.pool.max: 2 connections x (1 max_replicas + 1 surge) = 4, but the server admits 3;"
        " lower pool.max or raise the server's limit",
    ]


def test_row_level_security_must_hold_for_the_accounts_not_for_the_own_one(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_prepare(postgresql, "audit_reader"))
    asyncio.run(_prepare(postgresql, "audit_bypass"))
    session = "    session: {app.tenant: subject}\n    credentials:\n"
    entry = "      - {{when: {{scope: a}}, user: {}, password: '${{file:password}}'}}\n"
    path = _configuration(tmp_path, postgresql, "audit_bypass", session + entry.format("audit_reader"))
    assert _checked(path, capsys)[:2] == (0, [])
    path = _configuration(tmp_path, postgresql, "audit_reader", session + entry.format("audit_bypass"))
    _, [problem], _ = _checked(path, capsys)
    trouble = "row-level security does not hold for this account: it has BYPASSRLS; use one that may only read"
    assert problem == f"12: sources.shop.credentials.0.user: {trouble}"


def test_sources_of_one_server_are_counted_together(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_prepare(postgresql, "audit_reader"))
    first = _configuration(tmp_path, postgresql, "audit_reader", "    pool: {max: 30}\n").read_text()
    source = first.partition("  shop:")[2]
    path = tmp_path / "gateway.yaml"
    path.write_text(f"{first}  stock:{source}")
    _, _, (warning,) = _checked(path, capsys)
    assert (
        "(30 + 30 of shop, stock) connections x (1 max_replicas + 1 surge) = 120, but the server admits 97" in warning
    )


def test_problems_of_both_kinds_are_told(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _configuration(tmp_path, postgresql, "postgres", "    session: {app.tenant: subject}\n")
    with pytest.raises(ConfigError, match="row-level security does not hold"):
        check.run(argparse.Namespace(config=path, offline=False, claims=None, json=False))
    assert capsys.readouterr().err.startswith("warning: ")


@pytest.mark.parametrize(
    ("grant", "reason"),
    [
        ("select on {0}.*", ""),
        ("insert on {0}.audited", "it may change {0}.audited"),
        ("select, update on {0}.*", "it may change {0}"),
        ("all on *.*", "it may change every database"),
    ],
)
def test_mysql_tells_what_was_granted_and_how_many_it_admits(
    mariadb: MariadbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], grant: str, reason: str
) -> None:
    database = mariadb.database
    statements = (
        f"create or replace table {database}.audited (id int)",
        "create or replace user 'au@dit'@'%' identified by 'secret' with max_user_connections 15",
        f"grant {grant.format(database)} to 'au@dit'@'%'",
    )
    asyncio.run(mariadb.execute(*statements))
    (tmp_path / "password").write_text("secret")
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "auth: {mode: none}\nsources:\n  shop:\n    engine: mysql\n    user: au@dit\n"
        f"    host: {mariadb.host}\n    port: {mariadb.port}\n    database: {database}\n"
        "    password: ${file:password}\n"
    )
    code, problems, warnings = _checked(path, capsys)
    assert (code, problems) == (0, [])
    assert [each for each in warnings if "could write" in each] == [
        f"5: sources.shop.user: the source is read-only, but its account could write: {reason.format(database)};"
        " give it SELECT only"
        for _ in filter(None, [reason])
    ]
    assert any(
        "10 connections x (1 max_replicas + 1 surge) = 20, but the server admits 15" in each for each in warnings
    )
