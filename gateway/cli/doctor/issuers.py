"""An identity provider: hosts, metadata, keys, clock, and whether it answers questions about tokens."""

from __future__ import annotations

import asyncio
import secrets
import time
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from gateway.auth.introspection import InquiryPolicy, Introspector
from gateway.auth.jwks import IssuerKeys, KeyPolicy
from gateway.cli.doctor import path
from gateway.cli.doctor.report import Outcome, Step, Target, ending
from gateway.config.introspection import IntrospectionSettings
from gateway.config.issuers import TrustedIssuer
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from gateway.net.http import FetchError, open_session
from gateway.net.proxy import way

_PEER: Final = "identity provider"
_TRUST: Final = "auth.ca, or the system's store without it"
_RESOLUTION: Final = 1.0
"""Seconds: how exactly a Date header tells the time (RFC 9110 section 5.6.7)."""


def target_of(issuer: TrustedIssuer) -> Target:
    """The target, before anything was tried."""
    return Target("issuer", issuer.issuer, issuer.jwks_uri or issuer.discovery)


async def examine(target: Target, issuer: TrustedIssuer, limit: float, ca: Path | None = None) -> None:
    """Try everything, in order; `limit` is in seconds, for each step; `ca` is whom to trust."""
    asked = issuer.written.introspection
    start = issuer.jwks_uri or issuer.discovery
    walked: set[tuple[str, int]] = set()
    if not await _walk(target, start, walked, limit, ca):
        target.skip("keys", "not tried: the way to the provider is not open")
        return
    async with open_session(ca=ca) as session:
        keys = IssuerKeys(issuer, session, KeyPolicy(timeout=limit))
        try:
            await _clock(target, session, start, issuer.leeway, limit)
            location = issuer.jwks_uri or await _discover(target, keys, "jwks_uri", limit)
            if location and await _walk(target, location, walked, limit, ca):
                await _keys(target, keys, issuer, limit)
            if asked is not None:
                where = asked.endpoint or await _discover(target, keys, "introspection_endpoint", limit)
                if where and await _walk(target, where, walked, limit, ca):
                    await _introspect(target, keys, issuer, asked, session, limit)
        finally:
            await keys.aclose()


async def _walk(target: Target, url: str, walked: set[tuple[str, int]], limit: float, ca: Path | None) -> bool:
    """Go to a URL's host, once for each host."""
    endpoint = path.endpoint_of(url, _PEER)
    if (endpoint.host, endpoint.port) in walked:
        return True
    walked.add((endpoint.host, endpoint.port))
    steps, is_open = await path.walk_web(url, _PEER, _TRUST, ca, limit)
    target.steps.extend(steps)
    return is_open


async def _discover(target: Target, keys: IssuerKeys, name: str, limit: float) -> str | None:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(limit):
            found = await keys.endpoint(name)
    except (FetchError, TimeoutError) as error:
        seconds = time.perf_counter() - started
        text = str(error) or f"no answer within {limit:g} s"
        advice = (
            "Compare the issuer with the provider's documentation: discovery is looked for below it."
            " Set discovery, or jwks_uri, where it is elsewhere."
        )
        target.steps.append(Step("discovery", ending(seconds, limit), text, advice, seconds))
        return None
    seconds = time.perf_counter() - started
    target.steps.append(Step("discovery", Outcome.OK, f"{name} is {found}", "", seconds, {name: found}))
    return found


async def _keys(target: Target, keys: IssuerKeys, issuer: TrustedIssuer, limit: float) -> None:
    started = time.perf_counter()
    await keys.refresh()
    seconds = time.perf_counter() - started
    if not keys.has_keys:
        advice = "Open the URL from here: it must be a JSON Web Key Set with at least one signing key."
        target.steps.append(Step("keys", ending(seconds, limit), keys.status(), advice, seconds))
        return
    usable = {algorithm: len(keys.find(None, algorithm)) for algorithm in sorted(issuer.algorithms)}
    fitting = [f"{count} for {algorithm}" for algorithm, count in usable.items() if count]
    if not fitting:
        advice = "Every token would be refused: add the algorithm that the provider signs with to algorithms."
        text = f"no published key fits algorithms ({', '.join(usable)})"
        target.steps.append(Step("keys", Outcome.FAILED, text, advice, seconds, {"usable": usable}))
        return
    text = f"usable keys: {', '.join(fitting)}"
    target.steps.append(Step("keys", Outcome.OK, text, "", seconds, {"usable": usable}))


async def _clock(target: Target, session: aiohttp.ClientSession, url: str, leeway: float, limit: float) -> None:
    """Compare the clocks by the Date header, which a cache on the way may have kept for its Age."""
    before = time.time()
    try:
        times = aiohttp.ClientTimeout(total=limit)
        async with session.get(url, allow_redirects=False, timeout=times, **way(url)) as response:
            date, age = response.headers.get("Date", ""), response.headers.get("Age", "0")
        there = parsedate_to_datetime(date).timestamp() + (int(age) if age.isdigit() else 0)
    except (aiohttp.ClientError, TimeoutError, OSError):
        target.skip("clock", "not compared: no answer")
        return
    except ValueError:
        target.skip("clock", "not compared: the provider sends no Date")
        return
    after = time.time()
    target.steps.append(_judge(there + _RESOLUTION / 2 - (before + after) / 2, leeway))


def _judge(skew: float, leeway: float) -> Step:
    facts = {"skew_seconds": round(skew, 1), "leeway_seconds": leeway}
    off = max(0.0, abs(skew) - _RESOLUTION)
    side = "ahead of" if skew > 0 else "behind"
    advice = "Set this machine's clock by NTP, and compare it with a third one: tokens are judged by time."
    if off > leeway:
        text = f"{off:.0f} s {side} ours, more than the leeway of {leeway:g} s: good tokens are refused"
        return Step("clock", Outcome.FAILED, text, advice, facts=facts)
    if off > leeway / 2:
        return Step("clock", Outcome.WARNING, f"{off:.0f} s {side} ours, leeway {leeway:g} s", advice, facts=facts)
    return Step("clock", Outcome.OK, f"within {abs(skew) + _RESOLUTION:.0f} s of ours", facts=facts)


async def _introspect(
    target: Target,
    keys: IssuerKeys,
    issuer: TrustedIssuer,
    asked: IntrospectionSettings,
    session: aiohttp.ClientSession,
    limit: float,
) -> None:
    """Ask about a token that nobody issued: "not active" proves the way and the gateway's credentials."""
    find = partial(keys.endpoint, "introspection_endpoint")
    one = Introspector(issuer, asked, find, session, InquiryPolicy(timeout=limit))
    started = time.perf_counter()
    try:
        await one.ask(f"doctor-{secrets.token_urlsafe(24)}")
    except Unauthenticated:
        text = "the provider answers our questions"
        target.steps.append(Step("introspection", Outcome.OK, text, seconds=time.perf_counter() - started))
    except IdentityProviderUnavailable:
        seconds = time.perf_counter() - started
        advice = "Check introspection.client_id with its secret or key, and that this client may ask about tokens."
        target.steps.append(Step("introspection", ending(seconds, limit), one.status(), advice, seconds))
    else:
        advice = "Do not use it: is introspection.endpoint really the provider's (RFC 7662)?"
        target.steps.append(Step("introspection", Outcome.FAILED, "it calls a made-up token active", advice))
    finally:
        await one.aclose()
