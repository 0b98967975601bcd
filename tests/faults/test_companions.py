"""What stands beside the gateway and is lost: Redis, the collector, the disk of the audit, whoever reads the log."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest
import pytest_asyncio

from gateway.telemetry.audit.verify import Verifier
from tests.faults.backends import Backend
from tests.faults.process import Place
from tests.faults.trial import trial
from tests.faults.world import LIMITS, World, configuration, open_world, seconds, write
from tests.servers.otlp import Collector, running_http_collector
from tests.servers.proxy import FaultProxy, fault_proxy
from tests.servers.redis import RedisServer, running_redis

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAIN_KEY = "an-audit-chain-key-for-fault-tests-0123456789"
REFUSED = ("audit_unavailable", "outcome_unknown")
"""What callers are told whose call cannot be recorded; a write that was made already is unknown."""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 16 MB, where one may be made."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    """A server that may be stopped."""
    with running_redis() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def collector() -> AsyncIterator[tuple[Collector, FaultProxy]]:
    """An OTLP collector, and what stands in front of it."""
    async with running_http_collector() as opened:
        port = int(opened.endpoint.rpartition(":")[2])
        async with fault_proxy("127.0.0.1", port) as proxy:
            yield opened, proxy


def sections(disk: Path, redis: RedisServer, **audit: Any) -> dict[str, Any]:
    """Limits in Redis, verdicts too, every call traced, and an audit on a small disk."""
    place = {"url": f"redis://{redis.host}:{redis.port}", "password": redis.password, "key": redis.key}
    sinks = [{"file": {"path": str(disk / "audit.jsonl"), "rotate": "1MiB"}}]
    return {
        "redis": place,
        "limits": {**LIMITS, "backend": "redis"},
        "telemetry": {"traces": {"sample": 1.0}},
        "audit": {"sinks": sinks, "chain_key": CHAIN_KEY, **audit},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def accompanied(
    backends: dict[str, Backend],
    small_disk: Path,
    own_redis: RedisServer,
    collector: tuple[Collector, FaultProxy],
) -> AsyncIterator[World]:
    """A gateway with all companions."""
    words = ("env", f"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{collector[1].port}")
    place = Place((*words, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"))
    served = {"postgresql": backends["postgresql"]}
    async with open_world(served, place, **sections(small_disk, own_redis)) as opened:
        opened.files["disk"] = small_disk
        yield opened


async def test_redis_lost(accompanied: World, own_redis: RedisServer) -> None:
    """Each replica goes on with what it knows itself: no call fails, and limits are counted here."""
    long = seconds(20, 1.5)
    fallbacks = (await accompanied.gateway.total("gateway_rate_limit_fallbacks_total")).total()
    async with trial(accompanied, f"Redis killed, and back after {long:g} s", is_felt=False):
        own_redis.kill()
        await asyncio.sleep(long)
        own_redis.start()
        await accompanied.gateway.until_health(lambda health: bool(health["redis"] == "up"))
    assert (await accompanied.gateway.total("gateway_rate_limit_fallbacks_total")).total() > fallbacks


async def test_redis_frozen(accompanied: World, own_redis: RedisServer) -> None:
    """It costs who notices one short wait; then it is left alone."""
    long = seconds(20, 1.5)
    async with trial(accompanied, f"Redis frozen for {long:g} s", is_felt=False):
        own_redis.signal(signal.SIGSTOP)
        await asyncio.sleep(long)
        own_redis.signal(signal.SIGCONT)
        await accompanied.gateway.until_health(lambda health: bool(health["redis"] == "up"))


async def test_collector_lost(accompanied: World, collector: tuple[Collector, FaultProxy]) -> None:
    """No call waits for it; what is traced afterwards arrives."""
    spans, proxy = collector
    long = seconds(20, 1.5)
    async with trial(accompanied, f"the OTLP collector lost for {long:g} s", is_felt=False):
        proxy.refuse()
        proxy.reset()
        await asyncio.sleep(long)
        await proxy.heal()
        arrived = len(spans.spans)
        await spans.until(lambda: len(spans.spans) > arrived, 30)


async def test_disk_full_and_calls_refused(accompanied: World) -> None:
    """With `on_failure: refuse` nothing is told that is not recorded; when there is room again, all goes on."""
    long = seconds(20, 1)
    async with trial(
        accompanied,
        f"the audit's disk full for {long:g} s, calls refused",
        hits=["postgresql"],
        may_fail=REFUSED,
    ) as one:
        fill(accompanied.files["disk"])
        await asyncio.sleep(long)
        (accompanied.files["disk"] / "filler").unlink()
    assert one.failed["audit_unavailable"]
    check_chain(accompanied.files["disk"])


async def test_disk_full_and_calls_go_on(accompanied: World, own_redis: RedisServer) -> None:
    """With `on_failure: continue` no call fails; what is not recorded is counted."""
    process, disk = accompanied.gateway, accompanied.files["disk"]
    more = sections(disk, own_redis, on_failure="continue", queue=100)
    write(configuration(accompanied.backends, accompanied.provider, process.admin_port, **more), process.configuration)
    await accompanied.restart()
    long = seconds(20, 1)
    async with trial(accompanied, f"the audit's disk full for {long:g} s, calls go on", is_felt=False):
        fill(disk)
        await asyncio.sleep(long)
        (disk / "filler").unlink()
    assert (await process.total("gateway_audit_records_total", "result"))["lost"]


def fill(disk: Path) -> None:
    """Leave no byte; what else is on a larger disk is spared."""
    if not disk.is_mount():
        pytest.skip("mounting a tmpfs is not permitted here")
    with (disk / "filler").open("wb") as filler, suppress(OSError):
        while True:
            os.write(filler.fileno(), bytes(4096))
    assert not os.statvfs(disk).f_bavail


def check_chain(disk: Path) -> None:
    """Whatever happened, what is recorded is whole and in order."""
    report = Verifier([CHAIN_KEY]).verify(sorted(disk.glob("audit*.jsonl")))
    assert report.is_whole, report


class Reader:
    """Reads the gateway's log from a pipe into its file, unless told to stop."""

    def __init__(self, pipe: IO[bytes], log: Path) -> None:
        self._pipe, self._log = pipe, log
        self.reads = threading.Event()
        self.reads.set()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with self._log.open("ab") as log:
            while self.reads.wait() and (line := self._pipe.readline()):
                log.write(line)
                log.flush()


@contextmanager
def piped(world: World) -> Iterator[Reader]:
    """Start the gateway anew with its log on a pipe that holds little."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    world.gateway.kill()
    world.gateway.start(stderr=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        reader = Reader(pipe, world.gateway.log)
        try:
            yield reader
        finally:
            reader.reads.set()
            world.gateway.kill()
            reader.thread.join(10)


async def test_log_pipe_blocked(accompanied: World) -> None:
    """Nobody reads the log: its lines wait, or are left out and counted, and no call waits."""
    with piped(accompanied) as reader:
        await accompanied.warm()
        async with trial(accompanied, "nobody reads the log's pipe", is_felt=False) as one:
            reader.reads.clear()
            await one.answers(round(seconds(1000, 100)), "postgresql")
            reader.reads.set()
