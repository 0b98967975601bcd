"""Verdicts that replicas share through Redis, by aiocache; sealed, so that Redis need not be trusted."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

from aiocache.backends.redis import RedisBackend
from aiocache.serializers import NullSerializer

from gateway.auth.inquiry import Answer
from gateway.auth.sealed import Sealer
from gateway.net.redis import Redis, RedisUnavailable

_MAX_BYTES: Final = 32 * 1024


class _Backend(RedisBackend):  # type: ignore[misc]  # aiocache has no types
    """aiocache's own, but for SETEX, which redis-py deprecates."""

    async def _set(self, key: str, value: bytes, ttl: float, **_: Any) -> Any:
        return await self.client.set(key, value, px=int(ttl * 1000))


class SharedVerdicts:
    """A store that may be away, slow or hostile: whatever is not exactly as it was put is a miss.

    Args:
        redis: where entries lie.
        context: a fingerprint of the configuration; entries of another one are never seen.
    """

    def __init__(self, redis: Redis, context: bytes) -> None:
        settings = redis.settings
        self._redis = redis
        self._sealer = Sealer(settings.key.get_secret_value(), context)
        # The pool is lent; bounds and time limits are those of `Redis.run`.
        self._cache: Any = _Backend(
            serializer=NullSerializer(encoding=None),
            namespace=settings.prefix + "verdict:",
            timeout=None,
            connection_pool_class=lambda **_: redis.pool,
        )

    async def get(self, digest: bytes) -> Answer | None:
        """The answer kept for a token; None also when Redis has no answer in time."""
        name = self._sealer.name(digest)
        try:
            answer: Answer | None = await self._redis.run(
                lambda _: self._cache.get(name, loads_fn=partial(self._load, name))
            )
        except RedisUnavailable:
            return None
        return answer

    async def put(self, digest: bytes, answer: Answer, life: float) -> None:
        """Keep an answer for so many seconds, if Redis takes it in time."""
        # Claims nest no deeper than tokens and providers' answers may.
        value = json.dumps([answer.issuer, answer.claims, answer.thumbprint, answer.until]).encode()
        if life <= 0.01 or len(value) > _MAX_BYTES:
            return
        name = self._sealer.name(digest)
        dumps = partial(self._sealer.seal, name)
        try:
            await self._redis.run(lambda _: self._cache.set(name, value, ttl=life, dumps_fn=dumps))
        except RedisUnavailable:
            return

    def _load(self, name: str, sealed: bytes | None) -> Answer | None:
        value = self._sealer.unseal(name, sealed) if sealed else None
        return Answer(*json.loads(value)) if value else None
