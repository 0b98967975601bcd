"""Oracle's connections under cancellation and broken networks at once: the compiled driver may not crash."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.database.sources import Source
from gateway.errors import Code, ToolError
from tests.database.support import ROUNDS, reached, run, statement, until
from tests.servers.certificates import Authority
from tests.servers.oracle.server import running_oracle
from tests.servers.proxy import FaultProxy, fault_proxy
from tests.tally import Tally

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NUMBERS = "with recursive n(i) as (select 1 union all select i + 1 from n{}) select {} from n"


async def _ask(source: Source, proxy: FaultProxy, dice: random.Random) -> str:
    is_endless, is_patient = dice.random() < 0.2, dice.random() < 0.5
    if is_endless:
        work = run(source, statement(source.engine, NUMBERS.format("", "count(*) as n"), name="endless"))
    else:
        series = statement(source.engine, NUMBERS.format(" where i < :n", "i"), name="series", n="integer")
        work = run(source, series, dice.randrange(1, 3000), max_rows=2000)
    task = asyncio.create_task(work)
    done, _ = await asyncio.wait({task}, timeout=5 if is_patient and not is_endless else dice.random() ** 3 * 0.05)
    if not done:
        task.cancel()
    if dice.random() < 0.02:
        proxy.reset()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    except ToolError as error:
        return error.code.value
    return "done"


@pytest.mark.parametrize("is_encrypted", [True, False])
async def test_resets_and_cancellations_together(tmp_path: Path, tally: Tally, is_encrypted: bool) -> None:
    authority = Authority(tmp_path / "authority")
    pair = authority.issue("localhost")
    certificate = {"certificate": str(pair.certificate), "key": str(pair.key)}
    dice = random.Random(3)
    outcomes: Counter[str] = Counter()
    overrides: dict[str, Any] = {
        "session": {"app.user": "subject"},
        "pool": {"min": 1, "max": 4, "acquire_timeout": "10s", "max_waiting": 1000},
    }
    if is_encrypted:
        overrides["tls"] = {"mode": "verify-full", "ca": str(authority.path)}
    with running_oracle(certificate if is_encrypted else None) as server:
        async with fault_proxy(server.host, server.port) as proxy:
            settings = server.settings(host="localhost", port=proxy.port, **overrides)
            async with reached(settings) as source:

                async def client() -> None:
                    for _ in range(ROUNDS):
                        outcomes[await _ask(source, proxy, dice)] += 1

                await asyncio.gather(*(client() for _ in range(8)))
                await until(lambda: source.stats.active == source.stats.opening == source.stats.waiting == 0)
                await proxy.heal()
                async with asyncio.timeout(10):
                    while await _ask(source, proxy, random.Random(1)) not in {"done", "cancelled"}:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
        assert "Traceback" not in server.log, server.log[-3000:]
    assert outcomes["done"]
    assert outcomes["cancelled"]
    tally(f"{sum(outcomes.values())} calls: {dict(outcomes)}")


@pytest.mark.parametrize("is_encrypted", [True, False])
async def test_a_server_that_stalls_or_hangs_up_costs_what_runs_and_no_more(tmp_path: Path, is_encrypted: bool) -> None:
    authority = Authority(tmp_path / "authority")
    pair = authority.issue("localhost")
    certificate = {"certificate": str(pair.certificate), "key": str(pair.key)}
    overrides: dict[str, Any] = {"pool": {"min": 1, "max": 1}, "statement_timeout": "1s", "connect_timeout": "2s"}
    if is_encrypted:
        overrides["tls"] = {"mode": "verify-full", "ca": str(authority.path)}
    with running_oracle(certificate if is_encrypted else None) as server:
        async with reached(server.settings(host="localhost", **overrides)) as source:
            item = statement(source.engine, "select 1 as n")
            server.tell(stall=True)
            with pytest.raises(ToolError) as caught:
                await run(source, item)
            assert caught.value.code is Code.STATEMENT_TIMEOUT
            await until(lambda: source.stats.active + source.stats.idle == 0)  # it did not answer the break either
            server.tell(stall=False)
            assert (await run(source, item)).rows
            slow = statement(source.engine, NUMBERS.format("", "count(*) as n"), name="endless")
            work = asyncio.create_task(run(source, slow))
            await until(lambda: source.stats.active == 1)
            server.tell(reset=True)
            with pytest.raises(ToolError) as caught:
                await work
            assert caught.value.code in (Code.CONNECTION_LOST, Code.STATEMENT_TIMEOUT)
            await until(lambda: source.is_up and source.stats.active == 0)
            assert (await run(source, item)).rows
