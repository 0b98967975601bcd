"""A Redis that may be down: every use is short, and while it is away no use costs anything."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from gateway.config.problems import ConfigError, Problem
from gateway.config.redis import RedisSettings
from gateway.errors import GatewayError
from gateway.net.tls import Sighting

_log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_CONNECTIONS: Final = 8
PAUSE: Final = 1.0
"""Seconds between two knocks at a Redis that is down."""
_PACKAGES: Final = ("redis", "aiocache")


class RedisUnavailable(GatewayError):
    """Redis gave no answer; the caller goes on without. The message is for operators."""


class Redis:
    """One shared Redis behind a circuit: after a failure nobody waits for it until it answers again.

    Args:
        settings: where it is, and how long an answer may take.
        client: a redis-py client.
        failures: the exceptions an operation may raise.
        outages: those of them that say nothing of the operation itself.
        sighting: where the client remembers the server's certificate.
    """

    def __init__(
        self,
        settings: RedisSettings,
        client: Any,
        failures: tuple[type[BaseException], ...],
        outages: tuple[type[BaseException], ...],
        sighting: Sighting,
    ) -> None:
        self.settings = settings
        self._client = client
        self._failures = failures
        self._outages = outages
        self._sighting = sighting
        # As many as there are connections: whoever waits, waits here and within the time of the operation.
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._trouble = "not reached yet"
        self._complaint = ""
        self._knocking: asyncio.Task[None] | None = None
        self._scripts: dict[str, Any] = {}

    @property
    def is_up(self) -> bool:
        """Whether it answered last."""
        return not self._trouble

    @property
    def certificate_expires_at(self) -> float | None:
        """When the certificate expires that the server showed last, in Unix time; None where none was seen."""
        return self._sighting.expires_at

    @property
    def pool(self) -> Any:
        """The connection pool of redis-py, for libraries that bring a client of their own; use it within `run`."""
        return self._client.connection_pool

    def status(self) -> str:
        """ "ready", or what is wrong, in the operator's words."""
        return self._trouble or self._complaint or "ready"

    async def run(self, operation: Callable[[Any], Awaitable[T]]) -> T:
        """Do something with the client of redis-py, within the configured time.

        Raises:
            RedisUnavailable: it is down (at once, without any I/O, after the first failure), late, or refused.
        """
        if self._trouble:
            raise RedisUnavailable(f"Redis is left alone: {self._trouble}")
        is_admitted = False
        try:
            async with asyncio.timeout(self.settings.timeout), self._slots:
                is_admitted = True
                return await operation(self._client)
        except self._failures as error:
            trouble = _words(error, self.settings.timeout)
            # Too many callers at once are no outage; those who hold the connections will find out.
            if is_admitted and isinstance(error, self._outages):
                self._fail(trouble)
            elif is_admitted and trouble != self._complaint:
                self._complaint = trouble
                _log.warning("Redis refused an operation: %s", trouble)
            raise RedisUnavailable(f"Redis: {trouble}") from error

    async def evaluate(self, script: str, keys: Sequence[str], arguments: Sequence[str | bytes | int | float]) -> Any:
        """Run a Lua script, by its hash once Redis knows it.

        Raises:
            RedisUnavailable: see `run`.
        """
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self._client.register_script(script)
        return await self.run(lambda _: known(keys=list(keys), args=list(arguments)))

    def _fail(self, trouble: str) -> None:
        if self._trouble:
            return
        self._trouble = trouble
        _log.warning("Redis is down, replicas share nothing until it is back: %s", trouble)
        self._knock_until_open()

    def _knock_until_open(self) -> None:
        if self._knocking is None or self._knocking.done():
            self._knocking = asyncio.create_task(self._knock())

    async def _knock(self) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            if await self.ping():
                return

    async def ping(self) -> bool:
        """Ask whether it is there; closes the circuit if so."""
        try:
            async with asyncio.timeout(self.settings.timeout):
                await self._client.ping()
        except self._failures as error:
            self._trouble = _words(error, self.settings.timeout)
            return False
        if self._trouble:
            _log.info("Redis answers")
        self._trouble = self._complaint = ""
        return True

    async def open(self) -> None:
        """Ask once; while there is no answer, go on asking in the background."""
        if not await self.ping():
            _log.warning("Redis is down, replicas share nothing until it is back: %s", self._trouble)
            self._knock_until_open()

    async def aclose(self) -> None:
        """Stop asking and close the connections."""
        self._trouble = "closed"
        if self._knocking is not None:
            self._knocking.cancel()
            await asyncio.wait([self._knocking])
        try:
            await self._client.connection_pool.aclose()
        except self._failures as error:
            _log.debug("closing Redis: %s", type(error).__name__)


def _words(error: BaseException, limit: float) -> str:
    """What happened, without what was sent."""
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return f"no answer within {limit:g} s"
    # A server's own text begins with a word such as NOPERM or OOM; the rest may quote keys.
    word = str(error).partition(" ")[0]
    return f"{type(error).__name__} {word}" if word.isupper() else type(error).__name__


def problems(settings: RedisSettings | None) -> tuple[Problem, ...]:
    """What makes these settings unusable here, without any I/O."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None] if settings else []
    if not missing:
        return ()
    text = f"needs its packages: pip install 'mcp-database-gateway[redis]' (missing: {', '.join(missing)})"
    return (Problem(("redis",), text),)


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator[Redis]:
    """The shared Redis; waits at most `settings.timeout` for it, and begins without it when it is down.

    Raises:
        ConfigError: its packages are not installed.
    """
    if found := problems(settings):
        raise ConfigError(found)
    driver = importlib.import_module("gateway.net.redis_client")
    sighting = Sighting()
    client = driver.make_client(settings, MAX_CONNECTIONS + 1, sighting)
    redis = Redis(settings, client, driver.FAILURES, driver.OUTAGES, sighting)
    try:
        await redis.open()
        yield redis
    finally:
        await redis.aclose()
