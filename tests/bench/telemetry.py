"""`telemetry`: what metrics and traces add to a call, at most 30 microseconds of CPU with every tenth call traced."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

import yaml
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway.config.telemetry import TelemetrySettings
from gateway.context import Call, Principal
from gateway.database.engine import Statement
from gateway.server.record import Record
from gateway.server.watch import Watch
from gateway.telemetry.export import Pace as ExportPace
from gateway.telemetry.export import SpanOutlet, resource
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracer, current
from tests.bench import gateways
from tests.bench.contenders import enter, python, serving
from tests.bench.figures import Figure, Table
from tests.bench.rounds import Pace, cpu, run, values
from tests.bench.world import World
from tests.servers.local import free_port

BUDGET: Final = 30.0
"""Microseconds of CPU that telemetry may add to a call."""
ROUNDS: Final = 3000
_STATEMENT: Final = Statement("customer_by_id", "select id, name from customers where id = ?", ("id",), ("integer",))
_CALLER: Final = Principal("https://idp.example.com", "ada", "agent", frozenset())


def measure(world: World, pace: Pace) -> list[Table]:
    """The same gateway under load without telemetry, with metrics, and with traces; and telemetry all by itself."""
    folder, port = gateways.folder_of(world, "telemetry"), free_port()
    config, recipe = folder / "gateway.yaml", gateways.recipe(world.token())
    config.write_text(yaml.safe_dump(gateways.configuration(world)))
    untold = python("-m", "tests.bench.untold", "serve", "--config", config, "--port", port)
    opened = {
        "neither": serving("untold", untold, port, folder),
        "metrics": gateways.gateway(world),
        "metrics, 10 % of traces": gateways.gateway(world, "gateway traced", environment=gateways.traced(world)),
    }
    with ExitStack() as stack:
        entries = [enter(name, stack.enter_context(each), recipe, folder) for name, each in opened.items()]
        run(entries, pace)
    base = values(entries[0], cpu)
    rows = [
        (
            each.name,
            Figure.of(values(each, cpu)),
            Figure.of(a - b for a, b in zip(values(each, cpu), base, strict=True)),
        )
        for each in entries
    ]
    notes = (
        f"Budget: {BUDGET:g} us of CPU a call. Added: round by round, whole processes under load, log line in all.",
        "The second table takes the same code out of the noise: no HTTP, no database, no log.",
    )
    return [
        Table("What telemetry adds to a call", ("gateway with", "CPU us/call", "added us"), tuple(rows), notes),
        _alone(pace),
    ]


def _alone(pace: Pace) -> Table:
    found = [alone() for _ in range(pace.rounds)]
    rows = (
        ("timestamps, ids, numbers", Figure.of(numbers for numbers, _ in found)),
        ("the same, and the spans of every tenth call", Figure.of(whole for _, whole in found)),
    )
    is_kept = Figure.of(whole for _, whole in found).median <= BUDGET
    verdict = f"Within the budget of {BUDGET:g} us." if is_kept else f"MORE THAN THE BUDGET of {BUDGET:g} us."
    return Table("Telemetry by itself", ("work", "CPU us/call"), rows, (verdict,))


def alone(rounds: int = ROUNDS) -> tuple[float, float]:
    """Microseconds of CPU for a call: without traces, and with every tenth traced, encoded and handed over."""
    bare = _microseconds(_bare, rounds)
    settings = TelemetrySettings.model_validate({"logs": {"sample": 0.0}})
    watch = Watch(settings, Metrics(), Tracer(settings.traces, None, {}), Counter())
    numbers = _microseconds(lambda: _watched(watch), rounds) - bare
    outlet = SpanOutlet(Encoder(), resource(), ExportPace(100_000))
    tracing = Watch(settings, Metrics(), Tracer(settings.traces, outlet, {}), Counter())

    def drained() -> None:
        while outlet.waiting:  # the exporter's thread counts as well
            time.sleep(0.001)

    whole = _microseconds(lambda: _watched(tracing), rounds, drained) - bare
    outlet.close()
    return numbers, whole


class Encoder(SpanExporter):
    """Does what the real exporter does but for the network."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not encode_spans(spans).SerializeToString():
            raise AssertionError("nothing was encoded")
        return SpanExportResult.SUCCESS


def _bare() -> None:
    record = Record("POST", "192.0.2.1", method="tools/call", tool="customer_by_id", status=200)
    Call("c", _CALLER, 0.0, marks=record.marks)


def _watched(watch: Watch) -> None:
    trace = watch.begin({})
    record = Record("POST", "192.0.2.1", method="tools/call", tool="customer_by_id", status=200)
    call = Call("c", _CALLER, 0.0, marks=record.marks)
    current().enter({})
    started = time.perf_counter()
    call.mark("statement", started, "", ("shop", "sqlite", _STATEMENT))
    call.mark("tool", started, "", "2026-07-28")
    watch.end(record, trace, "c", "/mcp")


def _microseconds(work: Callable[[], None], rounds: int, finish: Callable[[], None] = lambda: None) -> float:
    """CPU of the whole process for each round, the best of three: what disturbs only ever adds."""
    costs = []
    for _ in range(3):
        began = time.process_time()
        for _ in range(rounds):
            work()
        finish()
        costs.append((time.process_time() - began) / rounds * 1e6)
    return min(costs)
