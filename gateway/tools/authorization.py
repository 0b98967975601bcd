"""Who may call a tool: the one decision that listing and calling share.

Rules over claims come first. Where one does not hold the tool does not exist for
the caller; only who passes them all may learn which scopes are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.context import Principal
from gateway.tools.rules import Arguments, Rule


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller of one tool must have.

    Attributes:
        scopes: all of these.
        any_scopes: at least one of these, the one to ask for first; empty where any will do.
        rules: conditions on claims, all of which must hold.
    """

    scopes: frozenset[str]
    any_scopes: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    def broken(self, claims: Mapping[str, Any], arguments: Arguments | None) -> tuple[Rule, ...]:
        """The rules that do not hold; the caller must be told nothing of them.

        Args:
            claims: of the caller's token.
            arguments: of the call; None for a list: rules that need some may still hold.
        """
        return tuple([rule for rule in self.rules if not rule.holds(claims, arguments)]) if self.rules else ()

    def is_granted(self, principal: Principal) -> bool:
        """Whether the caller has the scopes."""
        if not principal.grants(self.scopes):
            return False
        return not self.any_scopes or principal.has_every_scope or not principal.scopes.isdisjoint(self.any_scopes)

    def is_open(self, principal: Principal) -> bool:
        """Whether the tool is one that the caller may call, with arguments that fit."""
        return self.is_granted(principal) and not self.broken(principal.claims, None)

    def needed(self, principal: Principal) -> tuple[str, ...]:
        """The smallest set of scopes that opens the tool, in order.

        It has one of `any_scopes`: the first that the caller has, else the first of all.
        """
        one = next((scope for scope in self.any_scopes if scope in principal.scopes), None)
        further = (one or self.any_scopes[0],) if self.any_scopes else ()
        return tuple(sorted(self.scopes.union(further)))

    def behind(self, scopes: frozenset[str]) -> Access:
        """The same behind a door that needs scopes, too."""
        return replace(self, scopes=self.scopes | scopes)
