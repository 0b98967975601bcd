"""Oracle itself, from the image of its free edition, where a container engine answers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import oracledb

from gateway.config.sources import OracleSettings

IMAGE = "gvenzl/oracle-free:23-slim-faststart"
_READY = "DATABASE IS READY TO USE!"
_STARTING = 600


class OracleContainer:
    """Oracle Database Free, with an account that owns what the tests make."""

    user = "tests"
    password = "oracle-password"
    service = "FREEPDB1"

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from testcontainers.core.container import DockerContainer

            self._container = DockerContainer(IMAGE).with_exposed_ports(1521)
        for name, value in (
            ("ORACLE_PASSWORD", self.password),
            ("APP_USER", self.user),
            ("APP_USER_PASSWORD", self.password),
        ):
            self._container.with_env(name, value)

    def start(self) -> None:
        """Pull if needed, start, and wait until it takes connections."""
        from testcontainers.core.waiting_utils import wait_for_logs

        self._container.start()
        wait_for_logs(self._container, _READY, timeout=_STARTING)
        self.host = str(self._container.get_container_host_ip())
        self.port = int(self._container.get_exposed_port(1521))

    def close(self) -> None:
        """Stop and remove."""
        self._container.stop()

    def settings(self, **overrides: Any) -> OracleSettings:
        """A source's settings."""
        values: dict[str, Any] = {
            "engine": "oracle",
            "host": self.host,
            "port": self.port,
            "service": self.service,
            "user": self.user,
            "password": self.password,
            "tls": {"mode": "disable"},
        }
        return OracleSettings.model_validate(values | overrides, strict=False)

    async def execute(self, *statements: str) -> None:
        """Run statements as the tests' own account."""
        connection = await oracledb.connect_async(
            user=self.user, password=self.password, host=self.host, port=self.port, service_name=self.service
        )
        for text in statements:
            await connection.execute(text)
        await connection.commit()
        await connection.close()


@contextmanager
def running_oracle_container() -> Iterator[OracleContainer]:
    """A started container, removed at the end."""
    server = OracleContainer()
    try:
        server.start()
        yield server
    finally:
        server.close()
