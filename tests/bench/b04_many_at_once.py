"""B4: a thousand executions at once."""

from __future__ import annotations

from .bench import Bench
from .findings import Finding, Outcome, Told
from .rounds import Measure
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

STEPWIRE, BARE = "Stepwire", "bare server, no engine, no journal"

WHAT = """
1,000 calls at once on one connection, of 14 events each. Stepwire accepts an execution, runs three steps that report
twice, and commits every event (FULL) before it is read; the bare server builds 14 events and sends each as a message.
Both clients decode and check every event.
"""


def run(bench: Bench) -> Outcome:
    calls = bench.size(1_000, 200)
    stepwire, bare = bench.stepwire(), bench.yardstick("per_message")
    samples = bench.alternate(
        {STEPWIRE: lambda: stepwire.ask(calls=calls, events=14), BARE: lambda: bare.ask(calls=calls, events=14)}
    )
    ratio = samples.ratio(STEPWIRE, BARE, _calls_a_second)
    outcome = Outcome(
        findings=[Finding(what=f"executions/s of {STEPWIRE} / {BARE}", spread=ratio, at_least=0.7, collapse=0.15)]
    )
    for name in (STEPWIRE, BARE):
        outcome.told.append(Told(name=name, spread=samples.spread(name, _calls_a_second), unit="executions/s"))
        for side in ("server", "client"):
            spread = samples.spread(name, _cpu(side))
            outcome.told.append(Told(name=f"{name}: CPU of the {side}", spread=spread, unit="ms an execution"))
    return outcome


def _calls_a_second(figures: Figures) -> float:
    return float(figures["calls"] / figures["seconds"])


def _cpu(side: str) -> Measure:
    return lambda figures: float(figures[f"{side}_cpu"] / figures["calls"] * 1e3)


ROW = Row(number="B4", title="A thousand executions at once", what=WHAT, run=run)
