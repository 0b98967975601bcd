"""One budget for all replicas, in Redis; while that is away, each replica counts for itself."""

from __future__ import annotations

import hashlib
from typing import Final

from gateway.net.redis import Redis, RedisUnavailable
from gateway.resilience.ratelimit import Rate, RateLimiter

_MICRO: Final = 1_000_000.0

# The clock is Redis's own, so replicas need not agree on the time. Microseconds since 1970 fit a double exactly.
# A bucket is never emptier than empty: a standby's clock may lag, and burst may have been more.
# A refusal writes nothing. A bucket that is full again needs no entry: the key lives until then.
_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, slack = tonumber(ARGV[1]), tonumber(ARGV[2])
local function keep(full_at)
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
end
local full_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now) or now)
if full_at > now + slack + interval then
  full_at = now + slack + interval
  keep(full_at)
end
local wait = full_at - now - slack
if wait > 1 then
  return {string.format('%.0f', wait), string.format('%.0f', full_at - now)}
end
keep(full_at + interval)
return {'0', string.format('%.0f', full_at + interval - now)}
"""


class SharedLimiter:
    """The generic cell rate algorithm as one atomic script, one round trip for each request.

    What Redis answers is kept in a local limiter. It refuses without asking
    whoever was told to wait, and goes on from there when Redis gives no answer.

    Args:
        redis: where the budget is.
        local: what each bucket held when it was last heard of.

    Attributes:
        fallbacks: requests judged by the local limiter alone, since the start.
    """

    def __init__(self, redis: Redis, local: RateLimiter) -> None:
        self._redis = redis
        self._local = local
        self._key = hashlib.sha256(b"rate limits:" + redis.settings.key.get_secret_value().encode()).digest()
        self._prefix = f"{redis.settings.prefix}rate:"
        self.fallbacks = 0

    async def admit(self, key: tuple[str, ...], rate: Rate) -> float:
        """Take one token: 0.0 if admitted, else the seconds to wait; a refusal costs nothing.

        Args:
            key: whose bucket; always with the same rate.
            rate: of that bucket.
        """
        wait = self._local.wait(key, rate)
        if wait > 0:
            return wait
        try:
            answer = await self._redis.evaluate(
                _SCRIPT, [self._name(key)], [rate.interval * _MICRO, rate.slack * _MICRO]
            )
            wait, full_in = (int(each) / _MICRO for each in answer)
        except RedisUnavailable:
            self.fallbacks += 1
            return self._local.admit(key, rate)
        self._local.learn(key, full_in)
        return wait

    def _name(self, key: tuple[str, ...]) -> str:
        """A key that tells nobody who the client is, not even by guessing."""
        parts = [part.encode("utf-8", "surrogatepass") for part in key]
        joined = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return self._prefix + hashlib.blake2b(joined, digest_size=16, key=self._key).hexdigest()
