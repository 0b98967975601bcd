"""What the verifier counts, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Counts since the start; only ever growing.

    Attributes:
        hits: tokens whose verdict was remembered here.
        misses: tokens that were not, refused ones included.
        shared_hits: misses that another replica's answer settled.
        introspections: questions put to providers.
        verified: tokens that a new verdict found good.
        unavailable: tokens that could not be judged.
        refusals: refused tokens, by reason.
    """

    hits: int = 0
    misses: int = 0
    shared_hits: int = 0
    introspections: int = 0
    verified: int = 0
    unavailable: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
