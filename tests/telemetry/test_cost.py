"""What telemetry costs a call; `make bench BENCH=telemetry` measures it, this sees that nobody forgot it."""

from __future__ import annotations

from tests.bench.telemetry import BUDGET, alone
from tests.tally import Tally


def test_metrics_and_a_tenth_of_the_traces_cost_little(tally: Tally) -> None:
    numbers, whole = alone()
    tally(f"{numbers:.1f} us of CPU for a call, {whole:.1f} with the spans of a tenth of them; budget {BUDGET:g}")
    assert 0 < numbers < whole
    assert whole < 3 * BUDGET, "even on a machine that does other things"
