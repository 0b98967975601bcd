"""What the gateway can do without, but not well: Redis, and the collector of telemetry."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yarl import URL

from gateway.cli.doctor import path
from gateway.cli.doctor.report import Outcome, Step, Target, ending
from gateway.config.redis import RedisSettings
from gateway.net.redis import open_redis

_REDIS_PORT: Final = 6379
_SIGNALS: Final = ("", "TRACES_", "METRICS_", "LOGS_")


def redis_target(settings: RedisSettings) -> Target:
    """The target, before anything was tried."""
    endpoint = path.endpoint_of(settings.url, "Redis", _REDIS_PORT)
    return Target("redis", "redis", f"{endpoint.host}:{endpoint.port}")


async def examine_redis(target: Target, settings: RedisSettings, limit: float) -> None:
    """Name, port, TLS, login, ping."""
    endpoint = path.endpoint_of(settings.url, "Redis", _REDIS_PORT)
    trust = "redis.ca" if settings.ca else "redis.ca, or the system's store without it"
    steps, is_open = await path.walk(endpoint, path.web_security(settings.url, trust, settings.ca), limit)
    target.steps.extend(steps)
    if not is_open:
        target.skip("ping", "not tried: the way to Redis is not open")
        return
    started = time.perf_counter()
    async with open_redis(settings.model_copy(update={"timeout": limit})) as redis:
        seconds = time.perf_counter() - started
        target.steps.append(_pong(redis.status() if not redis.is_up else "", settings, seconds, limit))


def _pong(trouble: str, settings: RedisSettings, seconds: float, limit: float) -> Step:
    if trouble:
        advice = "Check redis.user and redis.password, and that the account may PING; Redis's log says more."
        return Step("ping", ending(seconds, limit), trouble, advice, seconds)
    if seconds > settings.timeout:
        advice = "Replicas would go on without it: raise redis.timeout, or bring Redis nearer."
        text = f"answered after {seconds * 1000:.0f} ms; redis.timeout is {settings.timeout * 1000:.0f} ms"
        return Step("ping", Outcome.WARNING, text, advice, seconds)
    return Step("ping", Outcome.OK, "logged in, and it answers", seconds=seconds)


@dataclass(frozen=True, slots=True)
class Collector:
    """Where telemetry goes (OpenTelemetry specification, "OTLP Exporter Configuration").

    Attributes:
        url: with a scheme; credentials and path left out.
        ca: whom to trust; the system's store when absent.
        is_grpc: whether it speaks gRPC rather than HTTP.
    """

    url: str
    ca: Path | None
    is_grpc: bool


def collectors(environment: Mapping[str, str]) -> Iterator[Collector]:
    """Every collector that the environment names, each once."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    seen = set()
    for signal in _SIGNALS:
        if not (endpoint := environment.get(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT")):
            continue
        given = [environment.get(f"OTEL_EXPORTER_OTLP_{each}PROTOCOL") for each in (signal, "")]
        is_grpc = (given[0] or given[1] or "grpc") == "grpc"
        ca = environment.get(f"OTEL_EXPORTER_OTLP_{signal}CERTIFICATE") or environment.get(
            "OTEL_EXPORTER_OTLP_CERTIFICATE"
        )
        insecure = environment.get("OTEL_EXPORTER_OTLP_INSECURE", "").lower() == "true"
        found = Collector(_bare(endpoint, is_insecure=insecure), Path(ca) if ca else None, is_grpc)
        if found not in seen:
            seen.add(found)
            yield found


def _bare(endpoint: str, *, is_insecure: bool) -> str:
    """Scheme, host and port only: what else stands there may be a secret."""
    if "://" not in endpoint:
        endpoint = f"{'http' if is_insecure else 'https'}://{endpoint}"
    url = URL(endpoint)
    return str(URL.build(scheme=url.scheme, host=url.host or "", port=url.explicit_port))


def collector_target(collector: Collector) -> Target:
    """The target, before anything was tried."""
    return Target("otlp", "otlp", collector.url)


async def examine_collector(target: Target, collector: Collector, limit: float) -> None:
    """Name, port, TLS."""
    trust = "OTEL_EXPORTER_OTLP_CERTIFICATE"
    if collector.is_grpc:
        security = path.web_security(collector.url, trust, collector.ca, is_grpc=True)
        steps, _ = await path.walk(path.endpoint_of(collector.url, "collector"), security, limit)
    else:
        steps, _ = await path.walk_web(collector.url, "collector", trust, collector.ca, limit)
    target.steps.extend(steps)
