"""The verdicts of a real verifier beside a model, while time passes, keys rotate and the provider comes and goes."""

from __future__ import annotations

import asyncio
import functools
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.auth.jwks import KeyPolicy
from gateway.auth.verifier import open_verifier
from gateway.demo.identity import _Key
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from tests.auth.provider import Clock, FaultyProvider, answers, auth_settings, until_ready

ACCEPTED: Final = "accepted"
UNAVAILABLE: Final = "unavailable"
LEEWAY: Final = 30.0
MAX_AGE: Final = 3300.0
BUFFER: Final = 300.0
REFUSAL_AGE: Final = 5.0
POLICY: Final = KeyPolicy()
PASSING: Final = {"unknown_key", UNAVAILABLE}
"""What may be another answer a moment later is not remembered."""


@functools.cache
def keys() -> list[_Key]:
    """Enough for every rotation of one run; making one takes its time."""
    return [_Key.generate() for _ in range(6)]


@dataclass(frozen=True)
class Token:
    """One token, and what is true of it."""

    text: str
    kid: str
    expires_at: float
    is_forged: bool = False


@dataclass
class Model:
    """What is remembered, what is published, and what the verifier knows of that.

    Attributes:
        size: most verdicts remembered.
        now: seconds of both clocks.
        published: names of the keys that the provider has.
        known: those that the verifier has seen published, last time it asked.
        seen_at: when that was.
        is_away: whether the provider answers nothing of use.
        is_in_doubt: whether the verifier found it so, last time it asked.
        may_ask_at: when an unknown key may make the verifier ask again.
        verdicts: until when each is believed, the longest unused first.
        refusals: likewise, and why.
    """

    size: int
    now: float
    published: list[str]
    known: list[str] = field(default_factory=list)
    seen_at: float = 0.0
    is_away: bool = False
    is_in_doubt: bool = False
    may_ask_at: float = float("-inf")
    verdicts: dict[Token, float] = field(default_factory=dict)
    refusals: dict[Token, tuple[float, str]] = field(default_factory=dict)

    @property
    def usable(self) -> list[str]:
        return self.known if self.now - self.seen_at <= POLICY.max_stale else []

    def ask(self) -> None:
        """Look for keys that are missing, if it is not too soon."""
        if self.now >= self.may_ask_at:
            self.may_ask_at = self.now + POLICY.cool_down
            self.is_in_doubt = self.is_away
            if not self.is_away:
                self.known, self.seen_at = list(self.published), self.now

    def recall(self, token: Token) -> bool:
        """Whether it is remembered as good; used just now, if so."""
        until = self.verdicts.pop(token, 0.0)
        is_good = until > self.now and token.kid in self.usable
        if is_good:
            self.verdicts[token] = until
        return is_good

    def verify(self, token: Token) -> str:
        if self.recall(token):
            return ACCEPTED
        until, reason = self.refusals.pop(token, (0.0, ""))
        if until > self.now:
            self.refusals[token] = until, reason
            return reason
        outcome = self.examine(token)
        if outcome == ACCEPTED:
            self.remember(token)
        elif outcome not in PASSING:
            self.refusals[token] = self.now + REFUSAL_AGE, outcome
        return outcome

    def examine(self, token: Token) -> str:
        if token.kid not in self.usable or token.is_forged:
            self.ask()
        if not self.usable:
            return UNAVAILABLE
        if token.kid not in self.usable:
            # Without the provider's word an unknown key may be a new one.
            return UNAVAILABLE if self.is_in_doubt else "unknown_key"
        if token.is_forged:
            return "signature"
        return ACCEPTED if self.now < token.expires_at + LEEWAY else "expired"

    def remember(self, token: Token) -> None:
        left = token.expires_at - self.now
        until = min(self.now + MAX_AGE, token.expires_at - min(BUFFER, max(0.0, left) / 5))
        if until > self.now:
            self.verdicts[token] = until
            if len(self.verdicts) > self.size:
                del self.verdicts[next(iter(self.verdicts))]


class Machine(RuleBasedStateMachine):
    """A provider over real HTTP, and callers whose tokens are good, old, forged, or of keys that are gone."""

    @initialize(size=st.integers(1, 4))
    def open(self, size: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.clock, self.monotonic = Clock(1_800_000_000.0), Clock(1_800_000_000.0)
        self.tokens: list[Token] = []
        self.rotations = 0
        self.loop.run_until_complete(self.begin(size))

    async def begin(self, size: int) -> None:
        self.provider = FaultyProvider()
        self.provider._keys = [keys()[0]]
        await self.stack.enter_async_context(self.provider)
        settings = auth_settings([self.provider.issuer], max_entries=size)
        opening = open_verifier(settings, policy=POLICY, clock=self.clock, monotonic=self.monotonic)
        self.verifier = await until_ready(await self.stack.enter_async_context(opening))
        self.model = Model(size, self.clock.now, [keys()[0].kid])
        self.model.known, self.model.seen_at = list(self.model.published), self.model.now

    @rule(life=st.sampled_from([10, 100, 400, 4000, 90_000]))
    def issue(self, life: int) -> None:
        now = int(self.clock.now)
        text = self.provider.issue("agent", claims={"iat": now, "exp": now + life})
        self.tokens.append(Token(text, self.provider.current_kid, now + life))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def forge(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        forged = Token(f"{token.text[:-8]}AAAAAAAA", token.kid, token.expires_at, is_forged=True)
        if forged not in self.tokens:
            self.tokens.append(forged)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), times=st.integers(1, 2))
    def verify(self, data: st.DataObject, times: int) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        for _ in range(times):
            outcome = self.loop.run_until_complete(self.outcome(token))
            assert outcome == self.model.verify(token)
            event(outcome)

    async def outcome(self, token: Token) -> str:
        try:
            principal = await self.verifier.verify(token.text)
        except Unauthenticated as error:
            return error.reason
        except IdentityProviderUnavailable:
            return UNAVAILABLE
        assert principal.subject == "agent"
        return ACCEPTED

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def recall(self, data: st.DataObject) -> None:
        """A token that is known costs nothing; every other one is unknown, not refused."""
        token = data.draw(st.sampled_from(self.tokens))
        assert (self.verifier.known(token.text) is not None) is self.model.recall(token)

    @rule(seconds=st.sampled_from([1.0, 4.9, 29.0, 80.0, 240.0, 3000.0, 90_000.0]))
    def time_passes(self, seconds: float) -> None:
        for clock in (self.clock, self.monotonic):
            clock.now += seconds
        self.model.now += seconds

    @precondition(lambda self: self.rotations + 1 < len(keys()))
    @rule(keeps_old=st.booleans())
    def rotate(self, keeps_old: bool) -> None:
        self.rotations += 1
        fresh = keys()[self.rotations]
        self.provider._keys = [fresh, *(self.provider._keys if keeps_old else ())]
        self.model.published = [key.kid for key in self.provider._keys]

    @rule(is_away=st.booleans())
    def come_and_go(self, is_away: bool) -> None:
        self.model.is_away = is_away
        self.provider.faults.clear()
        if is_away:
            self.provider.break_all(answers("", 500))

    @invariant()
    def as_much_is_remembered(self) -> None:
        if hasattr(self, "model"):
            assert self.verifier.remembered() == (len(self.model.verdicts), len(self.model.refusals))
            assert len(self.model.verdicts) <= self.model.size

    def teardown(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.close()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=max(10, settings().max_examples // 2))
"""Each has a provider of its own, which takes its time."""
