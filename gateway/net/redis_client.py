"""How redis-py is set up here; the one file that imports it, since it is optional."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from yarl import URL

from gateway.config.redis import RedisSettings
from gateway.net.tls import Sighting, watch

FAILURES: Final = (RedisError, OSError, TimeoutError)
"""Whatever an operation may raise."""
OUTAGES: Final = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)
"""Those that say nothing of the operation: the server is away, refuses the login, loads or is late."""


class _Login(CredentialProvider):
    """User and password as they are now: a password file may change between two connections."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """What AUTH is called with."""
        password = self._settings.password.get_secret_value() if self._settings.password else ""
        return (self._settings.user, password) if self._settings.user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same: a small file is read at once."""
        return self.get_credentials()


class _Watched(SSLConnection):
    """A connection by TLS; what the server shows is remembered."""

    def __init__(self, *, sighting: Sighting, **options: Any) -> None:
        super().__init__(**options)
        watch(self.ssl_context.get(), sighting)


def make_client(settings: RedisSettings, max_connections: int, sighting: Sighting) -> Redis:
    """A client that has not connected yet: bounded, without retries, certificates verified and remembered."""
    url = URL(settings.url)
    options: dict[str, Any] = {
        "host": url.host,
        "port": url.port or 6379,
        "db": int(url.path.strip("/") or 0),
        "socket_timeout": settings.timeout,
        "socket_connect_timeout": settings.timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        # Two round trips less when a connection opens.
        "driver_info": None,
        "connection_class": Connection,
    }
    if url.scheme == "rediss":
        options |= {"connection_class": _Watched, "sighting": sighting}
        options["ssl_ca_certs"] = str(settings.ca) if settings.ca else None
    if settings.password is not None or settings.user is not None:
        options["credential_provider"] = _Login(settings)
    return Redis(connection_pool=ConnectionPool(max_connections=max_connections, **options))
