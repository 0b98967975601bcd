"""Failed authentications: counted by address, told once a minute, so that a stranger cannot fill the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.telemetry.audit import events
from gateway.telemetry.audit.chain import Clock

MAX_ADDRESSES: Final = 100
"""Addresses told apart within a minute; the rest is counted together."""
OTHERS: Final = "others"
"""Stands for the rest."""


class Failures:
    """Counts until it is flushed.

    Args:
        note: takes one record for each address.
    """

    def __init__(self, note: Callable[[str, Mapping[str, Any]], object]) -> None:
        self._note = note
        self._reasons: dict[str, Counter[str]] = {}
        self._since = ""

    def count(self, address: str, reason: str) -> None:
        """Count one failure.

        Args:
            address: the client's.
            reason: one of the verifier's stable words.
        """
        if not self._reasons:
            self._since = Clock().now().decode()
        known = address in self._reasons or len(self._reasons) < MAX_ADDRESSES
        self._reasons.setdefault(address if known else OTHERS, Counter())[reason] += 1

    def flush(self) -> None:
        """Record what was counted, and begin anew."""
        reasons, self._reasons = self._reasons, {}
        for address, counted in reasons.items():
            fields = {"address": address, "since": self._since, "count": counted.total(), "reasons": dict(counted)}
            self._note(events.AUTHENTICATION_FAILURE, fields)
