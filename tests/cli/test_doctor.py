"""`gateway doctor` at real databases and a real Redis: what is well, what is not, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main
from tests.cli.doctor import visit, visit_beside, write
from tests.servers.certificates import Authority
from tests.servers.local import HOST, free_port
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.proxy import FaultProxy
from tests.servers.redis import RedisServer

SECRET = "a-secret-that-nobody-may-read"
Server = PostgresqlServer | MariadbServer


def source(folder: Path, server: Server, **overrides: Any) -> dict[str, Any]:
    """A source's settings; its password goes by a file."""
    values: dict[str, Any] = {
        "engine": "postgresql" if isinstance(server, PostgresqlServer) else "mysql",
        "host": server.host,
        "port": server.port,
        "database": server.database,
        "user": server.user,
        "password": server.password,
        "connect_timeout": "3s",
    } | overrides
    file = folder / f"password-{len(list(folder.iterdir()))}"
    file.write_text(values["password"])
    return values | {"password": f"${{file:{file}}}"}


def outcomes(steps: Any) -> dict[str, str]:
    return {name: step["outcome"] for name, step in steps.items()}


def test_a_database_that_is_well(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = "create role doctor_reader login password 'reader-password'"
    asyncio.run(_execute(postgresql, f"drop role if exists doctor_reader; {admin}"))
    narrow = source(tmp_path, postgresql, user="doctor_reader", password="reader-password")
    found = visit(write(tmp_path, sources={"orders": narrow}), capsys)
    assert found.code == 0
    assert outcomes(found.steps["orders"]) == {
        "dns": "skipped",
        "tcp": "ok",
        "tls": "skipped",
        "login": "ok",
        "query": "ok",
        "load": "ok",
        "clock": "ok",
        "privileges": "ok",
        "limits": "ok",
    }
    assert found.steps["orders"]["limits"]["facts"] == {"wanted": 20, "admitted": 97}
    assert found.document["targets"][0]["where"] == f"postgresql {HOST}:{postgresql.port}/postgres as doctor_reader"
    owner = source(tmp_path, postgresql)
    deployment = {"max_replicas": 20}
    found = visit(write(tmp_path, sources={"orders": owner}, deployment=deployment), capsys)
    assert found.code == 0
    steps = found.steps["orders"]
    assert steps["privileges"]["text"].endswith("its account could write: it is a superuser")
    assert steps["privileges"]["advice"] == "Give it SELECT only."
    assert steps["limits"]["outcome"] == "warning"
    assert "= 210, but the server admits 97" in steps["limits"]["text"]


async def _execute(server: PostgresqlServer, text: str) -> None:
    connection = await server.admin()
    try:
        await connection.execute(text)
    finally:
        await connection.close()


@pytest.mark.parametrize("engine", ["postgresql", "mariadb"])
def test_a_login_that_is_refused(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server: Server = request.getfixturevalue(engine)
    sources = {
        "good": source(tmp_path, server),
        "password": source(tmp_path, server, password=SECRET),
        "database": source(tmp_path, server, database="no_such_database"),
    }
    path = write(tmp_path, sources=sources)
    found = visit(path, capsys)
    assert found.code == 1
    assert outcomes(found.steps["good"])["login"] == outcomes(found.steps["good"])["query"] == "ok"
    assert outcomes(found.steps["good"])["clock"] == "ok"
    refused = found.steps["password"]["login"]
    assert refused["outcome"] == "failed"
    assert server.user in refused["text"]
    assert refused["advice"].startswith("Check user and password (a rotated secret?)")
    assert "no_such_database" in found.steps["database"]["login"]["text"]
    assert SECRET not in json.dumps(found.document)
    assert visit(path, capsys, "--only", "good").code == 0


async def test_a_port_that_takes_connections_and_says_nothing(
    postgresql: PostgresqlServer, mariadb: MariadbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them at once: together they take no longer than one."""
    ways: dict[str, tuple[Server, str, dict[str, Any]]] = {
        "plain": (postgresql, "login", {}),
        "starttls": (postgresql, "tls", {"tls": {"mode": "require"}}),
        "mysql": (mariadb, "login", {}),
        "mysqltls": (mariadb, "tls", {"tls": {"mode": "require"}}),
    }
    proxies = {name: FaultProxy(server.host, server.port) for name, (server, _, _) in ways.items()}
    for proxy in proxies.values():
        await proxy.open()
        proxy.stall()
    sources = {
        name: source(tmp_path, server, port=proxies[name].port, connect_timeout="2s", **more)
        for name, (server, _, more) in ways.items()
    }
    started = time.monotonic()
    try:
        found = await visit_beside(write(tmp_path, sources=sources), capsys, "--timeout", "2")
    finally:
        for proxy in proxies.values():
            await proxy.close()
    assert time.monotonic() - started < 2 * len(ways)
    assert found.code == 124
    for name, (_, step, _) in ways.items():
        assert found.steps[name]["tcp"]["outcome"] == "ok"
        assert found.steps[name][step]["outcome"] == "timed_out", found.steps[name]
        assert "overloaded" in found.steps[name][step]["advice"]


async def test_a_query_that_is_not_answered(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = await postgresql.admin()
    try:
        await connection.execute("drop role if exists doctor_slow; create role doctor_slow login password 'slow-word'")
        await connection.execute("alter role doctor_slow set search_path = doctor_slow, pg_catalog")
        await connection.execute(
            "create schema if not exists doctor_slow; grant usage on schema doctor_slow to doctor_slow;"
            "create or replace view doctor_slow.pg_stat_database as select 1 as numbackends from pg_sleep(20);"
            "grant select on doctor_slow.pg_stat_database to doctor_slow"
        )
        sources = {"slow": source(tmp_path, postgresql, user="doctor_slow", password="slow-word")}
        found = await visit_beside(write(tmp_path, sources=sources), capsys, "--timeout", "0.5")
    finally:
        await connection.execute("drop schema doctor_slow cascade; drop role doctor_slow")
        await connection.close()
    assert found.code == 124
    assert found.steps["slow"]["query"]["outcome"] == "timed_out"
    assert found.steps["slow"]["query"]["advice"].startswith("The login worked, but a query does not")


def test_a_token_endpoint_that_is_away(
    postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    settings = source(tmp_path, postgresql)
    del settings["password"]
    port = free_port()
    settings["token"] = {
        "url": f"http://{HOST}:{port}/token",
        "client_id": "gw",
        "client_secret": f"${{file:{tmp_path}/secret}}",
    }
    settings["tls"] = {"mode": "disable"}
    found = visit(write(tmp_path, sources={"a": settings}), capsys)
    assert found.code == 1
    assert found.steps["a"]["tcp"]["text"] == f"{HOST}:{port} refused the connection"
    assert "Is the token endpoint up" in found.steps["a"]["tcp"]["advice"]
    assert f"The token endpoint http://{HOST}:{port}/token cannot be reached" in found.steps["a"]["login"]["text"]
    assert SECRET not in json.dumps(found.document)


def test_what_answers_is_another_database(
    mariadb: MariadbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = {"tls": {"mode": "require"}, "host": mariadb.host, "port": mariadb.port, "database": "d", "user": "u"}
    found = visit(write(tmp_path, sources={"p": {"engine": "postgresql", **tls}}), capsys)
    assert found.code == 1
    assert found.steps["p"]["tls"]["text"] == "the server does not speak PostgreSQL's protocol"
    assert f"Is port {mariadb.port} the database's" in found.steps["p"]["tls"]["advice"]


def test_databases_of_this_machine(
    own_postgresql: PostgresqlServer, mariadb: MariadbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.sqlite").touch()
    sources = {
        "socket": source(tmp_path, own_postgresql, host=str(own_postgresql.folder)),
        "nosocket": source(tmp_path, own_postgresql, host=str(tmp_path)),
        "mysocket": source(tmp_path, mariadb, host=mariadb.socket),
        "file": {"engine": "sqlite", "path": "shop.sqlite"},
        "nofile": {"engine": "sqlite", "path": "missing.sqlite"},
        "folder": {"engine": "sqlite", "path": "."},
    }
    found = visit(write(tmp_path, sources=sources), capsys)
    assert found.code == 1
    for name in ("socket", "mysocket"):
        assert outcomes(found.steps[name])["socket"] == outcomes(found.steps[name])["query"] == "ok"
    assert outcomes(found.steps["file"]) == {"file": "ok", "login": "ok", "query": "ok"}
    assert found.steps["nosocket"]["socket"]["text"].endswith(
        f".s.PGSQL.{own_postgresql.port}: No such file or directory"
    )
    assert found.steps["nofile"]["file"]["text"].endswith("missing.sqlite: No such file or directory")
    assert found.steps["folder"]["file"]["text"].endswith(" is not a file")
    for name in ("nofile", "folder"):
        assert found.steps[name]["file"]["advice"].startswith("Is the volume mounted here")


def redis_section(folder: Path, server: RedisServer, **overrides: Any) -> dict[str, Any]:
    (folder / "redis-password").write_text(overrides.pop("password", server.password))
    (folder / "redis-key").write_text(server.key)
    scheme = "rediss" if server.authority else "redis"
    section = {"url": f"{scheme}://{server.host}:{server.port}", "timeout": "2s"} | overrides
    section |= {name: f"${{file:{folder}/redis-{name}}}" for name in ("password", "key")}
    return section | ({"ca": str(server.authority.path)} if server.authority and "ca" not in section else {})


async def test_redis(redis: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = await visit_beside(write(tmp_path, redis=redis_section(tmp_path, redis)), capsys)
    assert (found.code, outcomes(found.steps["redis"])) == (0, {"dns": "skipped", "tcp": "ok", "ping": "ok"})
    found = await visit_beside(write(tmp_path, redis=redis_section(tmp_path, redis, password=SECRET)), capsys)
    assert found.code == 1
    assert found.steps["redis"]["ping"]["text"].startswith("AuthenticationError")
    assert found.steps["redis"]["ping"]["advice"].startswith("Check redis.user and redis.password")
    assert SECRET not in json.dumps(found.document)
    proxy = FaultProxy(redis.host, redis.port)
    await proxy.open()
    try:
        proxy.down.delay = 0.1
        url = f"redis://{HOST}:{proxy.port}"
        path = write(tmp_path, redis=redis_section(tmp_path, redis, url=url, timeout="50ms"))
        found = await visit_beside(path, capsys)
        assert found.code == 0
        assert found.steps["redis"]["ping"]["outcome"] == "warning"
        assert "redis.timeout is 50 ms" in found.steps["redis"]["ping"]["text"]
        proxy.stall()
        found = await visit_beside(path, capsys, "--timeout", "0.5")
        assert found.code == 124
        assert found.steps["redis"]["ping"]["text"] == "no answer within 0.5 s"
    finally:
        await proxy.close()


def test_redis_over_tls(tls_redis: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = visit(write(tmp_path, redis=redis_section(tmp_path, tls_redis)), capsys)
    assert found.code == 0
    assert found.steps["redis"]["tls"]["facts"]["version"] == "TLSv1.3"
    assert outcomes(found.steps["redis"])["ping"] == "ok"
    stranger = Authority(tmp_path / "stranger", "stranger")
    found = visit(write(tmp_path, redis=redis_section(tmp_path, tls_redis, ca=str(stranger.path))), capsys)
    assert found.code == 1
    assert "nobody we trust has signed it; it was issued by CN=test authority" in found.steps["redis"]["tls"]["text"]
    assert found.steps["redis"]["tls"]["advice"].endswith("where it is read: redis.ca.")
    assert found.steps["redis"]["ping"]["outcome"] == "skipped"


def test_the_collector(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:{SECRET}@{HOST}:{port}/v1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization={SECRET}")
    path = write(tmp_path)
    found = visit(path, capsys)
    assert found.code == 1
    assert found.document["targets"][0]["where"] == f"http://{HOST}:{port}"
    assert found.steps["otlp"]["tcp"]["text"] == f"{HOST}:{port} refused the connection"
    assert SECRET not in json.dumps(found.document)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert visit(path, capsys).document["targets"] == []


def test_one_target_or_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.sqlite").touch()
    files: dict[str, dict[str, Any]] = {name: {"engine": "sqlite", "path": f"{name}.sqlite"} for name in "abc"}
    path = write(tmp_path, sources=files)
    assert list(visit(path, capsys).steps) == ["a", "b", "c"]
    found = visit(path, capsys, "--only", "a")
    assert (found.code, list(found.steps)) == (0, ["a"])
    assert list(visit(path, capsys, "--only", "c", "--only", "a").steps) == ["a", "c"]
    files["b"]["enabled"] = False
    write(tmp_path, sources=files)
    assert list(visit(path, capsys).steps) == ["a", "c"]
    assert list(visit(path, capsys, "--only", "b").steps) == ["b"]
    for wrong in (["--only", "d"], ["--timeout", "0"], ["--timeout", "nan"], ["--timeout", "soon"]):
        with pytest.raises(SystemExit) as left:
            main(["doctor", "--config", str(path), *wrong])
        assert left.value.code == 2
    assert "known are a, b, c" in capsys.readouterr().err


def test_a_configuration_that_is_none_is_told_as_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--config", str(write(tmp_path, sources={"a": {"engine": "sqlite"}}))]) == 1
    assert "sources.a.path" in capsys.readouterr().err
