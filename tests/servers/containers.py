"""The same servers from images, where a container engine answers.

The shared servers may come from there; tests that freeze or kill a server's
processes use local programs in any case.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import asyncpg
import pymysql

from gateway.config.sources import MysqlSettings, PostgresqlSettings

POSTGRESQL_IMAGE = "postgres:17-alpine"
MYSQL_IMAGE = "mysql:8.4"


@cache
def has_engine() -> bool:
    """Whether a container engine answers."""
    if not (os.environ.get("DOCKER_HOST") or os.path.exists("/var/run/docker.sock")):  # noqa: PTH110 - a socket
        return False
    import docker

    try:
        return bool(docker.from_env(timeout=3).ping())
    except docker.errors.DockerException:
        return False


class PostgresqlContainer:
    """PostgreSQL from its image, with the same surface as the local server's."""

    user = "postgres"
    password = "postgres-password"
    database = "postgres"

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from testcontainers.postgres import PostgresContainer

            self._container = PostgresContainer(
                POSTGRESQL_IMAGE, username=self.user, password=self.password, dbname=self.database, driver=None
            )

    def start(self) -> None:
        """Pull if needed, start, and wait until it takes connections."""
        self._container.start()
        self.host = str(self._container.get_container_host_ip())
        self.port = int(self._container.get_exposed_port(5432))

    def close(self) -> None:
        """Stop and remove."""
        self._container.stop()

    def settings(self, **overrides: Any) -> PostgresqlSettings:
        """A source's settings."""
        values: dict[str, Any] = {
            "engine": "postgresql",
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
            "tls": {"mode": "disable"},
        }
        return PostgresqlSettings.model_validate(values | overrides, strict=False)

    async def admin(self) -> Any:
        """A connection of the tests' own."""
        return await asyncpg.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, database=self.database, ssl=False
        )


@contextmanager
def running_container() -> Iterator[PostgresqlContainer]:
    """A started container, removed at the end."""
    server = PostgresqlContainer()
    server.start()
    try:
        yield server
    finally:
        server.close()


class MysqlContainer:
    """MySQL from its image; no package of Debian brings it."""

    user = "tests"
    password = "mysql-password"
    database = "tests"

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from testcontainers.mysql import MySqlContainer

            self._container = MySqlContainer(
                MYSQL_IMAGE,
                username=self.user,
                password=self.password,
                root_password=self.password,
                dbname=self.database,
            ).with_command("--cte-max-recursion-depth=2000000")

    def start(self) -> None:
        """Pull if needed, start, and wait until it takes connections."""
        self._container.start()
        self.host = str(self._container.get_container_host_ip())
        self.port = int(self._container.get_exposed_port(3306))

    def close(self) -> None:
        """Stop and remove."""
        self._container.stop()

    def settings(self, **overrides: Any) -> MysqlSettings:
        """A source's settings."""
        values: dict[str, Any] = {
            "engine": "mysql",
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
            "tls": {"mode": "require"},
        }
        return MysqlSettings.model_validate(values | overrides, strict=False)

    async def execute(self, *statements: str) -> None:
        """Run statements as the tests' own account."""
        await asyncio.to_thread(self._execute, *statements)

    def _execute(self, *statements: str) -> None:
        with (
            pymysql.connect(
                host=self.host, port=self.port, user=self.user, password=self.password, database=self.database
            ) as connection,
            connection.cursor() as cursor,
        ):
            for text in statements:
                cursor.execute(text)
            connection.commit()


@contextmanager
def running_mysql() -> Iterator[MysqlContainer]:
    """A started container, removed at the end."""
    server = MysqlContainer()
    server.start()
    try:
        yield server
    finally:
        server.close()
