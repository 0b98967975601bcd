"""What turns tokens into principals, and the door without a lock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from gateway.auth.counters import Counters
from gateway.context import Principal


class Verifier(ABC):
    """Turns bearer tokens into principals.

    Attributes:
        counters: what happened to tokens, for metrics.
    """

    def __init__(self) -> None:
        self.counters = Counters()

    @abstractmethod
    def known(self, token: str) -> Principal | None:
        """The principal of a token verified not long ago; no waiting, no cryptography."""

    @abstractmethod
    async def verify(self, token: str) -> Principal:
        """The principal of a token.

        Raises:
            Unauthenticated: the token is not good; `reason` says why in one stable word.
            IdentityProviderUnavailable: it may be good, but there are no keys to tell.
        """

    def key_fetches(self) -> Mapping[tuple[str, str], int]:
        """How often each issuer's keys were fetched: by issuer and result, "ok" or "failed"."""
        return {}

    def certificates(self) -> Mapping[str, float]:
        """When the first certificate expires that each issuer's hosts showed last, in Unix time, by issuer."""
        return {}

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether tokens of at least one issuer can be judged."""

    @abstractmethod
    def status(self) -> dict[str, str]:
        """For each issuer "ready", or what is wrong, in the operator's words."""


class OpenDoor(Verifier):
    """`auth.mode: none`: everybody is the same caller with every scope. For development on loopback."""

    principal: Final = Principal("none", "anonymous", "", frozenset(), has_every_scope=True)

    def known(self, token: str) -> Principal | None:
        """The development principal, whatever the token."""
        return self.principal

    async def verify(self, token: str) -> Principal:
        """The development principal, whatever the token."""
        return self.principal

    @property
    def is_ready(self) -> bool:
        """Always."""
        return True

    def status(self) -> dict[str, str]:
        """There is no issuer."""
        return {}
