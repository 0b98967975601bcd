"""Whose limits count, how addresses are told apart, and that nobody can fill the memory."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from typing import Any

import pytest

from gateway.config.limits import LimitSettings
from gateway.context import Call, Principal
from gateway.errors import RateLimited, Unauthenticated
from gateway.resilience.ratelimit import Rate
from gateway.server.admission import Admission, network_of
from tests.tally import Tally

IDP = "https://idp.test/"
LIMITS = {
    "requests_per_minute": 100,
    "burst": 20,
    "concurrency_per_client": 4,
    "clients": [
        {"issuer": IDP, "subject": "vip", "requests_per_minute": 500, "burst": 50},
        {"issuer": IDP, "client_id": "batch", "requests_per_minute": 1000, "concurrency": 9},
        {"issuer": IDP, "client_id": "wide", "concurrency": 30},
        {"issuer": IDP, "client_id": "slow", "requests_per_minute": 3},
    ],
    "scopes": [{"scope": "bulk", "requests_per_minute": 600}, {"scope": "read", "requests_per_minute": 5}],
}


def principal(client_id: str = "", subject: str = "", scopes: tuple[str, ...] = (), issuer: str = IDP) -> Principal:
    return Principal(issuer, subject or client_id, client_id, frozenset(scopes))


def admission(**limits: Any) -> Admission:
    return Admission(LimitSettings.model_validate_json(json.dumps(limits)))


@pytest.mark.parametrize(
    ("who", "rate", "concurrency"),
    [
        (principal("any"), Rate(100, 20), 4),
        (principal("batch"), Rate(1000, 20), 9),
        (principal("batch", scopes=("read", "bulk")), Rate(1000, 20), 9),
        (principal("batch", issuer="https://other.test/"), Rate(100, 20), 4),
        (principal("any", "batch"), Rate(100, 20), 4),  # a subject of that name is somebody else
        (principal("", "batch"), Rate(100, 20), 4),
        (principal("batch", "vip"), Rate(500, 50), 4),  # the first that fits
        (principal("wide"), Rate(100, 20), 30),
        (principal("wide", scopes=("bulk",)), Rate(600, 20), 30),
        (principal("slow"), Rate(3, 3), 4),
        (principal("any", scopes=("read", "bulk")), Rate(600, 20), 4),
        (principal("any", scopes=("read",)), Rate(5, 5), 4),
    ],
)
def test_the_first_that_fits(who: Principal, rate: Rate, concurrency: int) -> None:
    allowance = admission(**LIMITS).allowance(who)
    assert allowance.rate == rate
    assert allowance.concurrency == concurrency


def test_who_is_counted_together() -> None:
    limits = admission(**LIMITS)

    def bucket(who: Principal) -> tuple[str, ...]:
        return limits.allowance(who).bucket

    assert bucket(principal("app", "ann")) == bucket(principal("app", "bob"))
    assert bucket(principal("app")) != bucket(principal("app", issuer="https://other.test/"))
    assert bucket(principal("app", "vip")) == bucket(principal("batch", "vip"))
    # A user who is named like a client takes nothing from it.
    assert bucket(principal("app")) != bucket(principal("", "app"))
    # With other rights come other budgets: what a token without them spent counts apart.
    assert bucket(principal("app")) != bucket(principal("app", scopes=("bulk",)))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
        ("unix:", "192.0.2.1", False),
    ],
)
def test_what_one_subscriber_holds(one: str, other: str, is_same: bool) -> None:
    assert (network_of(one) == network_of(other)) is is_same


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def test_ten_thousand_clients_and_addresses_fit_and_more_change_nothing(tally: Tally) -> None:
    limits = admission(max_clients=1000, tools={"one": {"requests_per_minute": 5}})
    failure = Unauthenticated("", reason="signature")

    async def flood(start: int, count: int) -> None:
        deadline = asyncio.get_running_loop().time() + 60
        for number in range(start, start + count):
            who = principal(f"client-{number}")
            await limits.admit(who)
            async with limits.running(Call("", who, deadline), "one"):
                assert limits.remembered <= 3001
            address = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"
            limits.failed_logins.check(address)
            limits.failed_logins.count(address, failure)

    tracemalloc.start()
    try:
        before = _held()
        await flood(0, 2_000)
        full = _held()
        await flood(2_000, 8_000)
        after = _held()
    finally:
        tracemalloc.stop()
    assert limits.remembered == 3000
    assert full - before < 3000 * 700
    assert after - full < 50_000
    tally(f"{(full - before) / 3000:.0f} bytes for each of 3000 entries; {after - full} more after 8000 more clients")


def test_a_flood_of_addresses_does_not_free_one_that_goes_on_failing() -> None:
    limits = admission(max_clients=100, failed_logins_per_minute=1, failed_logins_burst=1)
    failure = Unauthenticated("", reason="signature")
    limits.failed_logins.count("192.0.2.1", failure)
    for number in range(1000):
        limits.failed_logins.count(f"198.51.{number >> 8}.{number & 255}", failure)
        with pytest.raises(RateLimited):
            limits.failed_logins.check("192.0.2.1")
    limits.failed_logins.check("198.51.100.1")  # idle for long, and forgotten
    assert len(limits.failed_logins) == 100
