"""B2: events at a pace: how long each one takes to its watcher, and whether a queue grows."""

from __future__ import annotations

from .bench import Bench
from .findings import Finding, Outcome, Told
from .rounds import figure
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

UNLOADED = "per message, 100/s"

WHAT = """
An execution emits 2,000 and 20,000 events a second; latency is from the moment an event was built to the moment its
watcher has decoded it, on one machine's clock. Stepwire commits each event to SQLite (FULL) in between. What it is
compared with is one event a message, with nothing else to do: 100 a second. A queue that grows shows in the last
tenth of the events against the first.
"""


def run(bench: Bench) -> Outcome:
    seconds = bench.size(3.0, 1.0)
    stepwire, bare = bench.stepwire(), bench.yardstick("per_message")
    rates = (2_000, 20_000)
    variants = {UNLOADED: lambda: bare.ask(events=round(100 * seconds), rate=100)}
    for rate in rates:
        count = round(rate * seconds)
        variants[_name("Stepwire", rate)] = lambda count=count, rate=rate: stepwire.ask(events=count, rate=rate)
        variants[_name("per message", rate)] = lambda count=count, rate=rate: bare.ask(events=count, rate=rate)
    samples = bench.alternate(variants)
    outcome = Outcome()
    for rate in rates:
        name = _name("Stepwire", rate)
        outcome.findings += [
            Finding(
                what=f"p50 of {name} / {UNLOADED}",
                spread=samples.ratio(name, UNLOADED, figure("p50_ms")),
                at_most=2.5,
                # A busy machine may not keep up with 20,000 events a second at all.
                collapse=20 if rate == rates[0] else None,
            ),
            Finding(what=f"p99 of {name}", spread=samples.spread(name, figure("p99_ms")), unit="ms", at_most=10),
            Finding(
                what=f"p50 of the last tenth / the first tenth, {name}",
                spread=samples.spread(name, _growth),
                at_most=1.5,
            ),
            Finding(
                what=f"p50 of {_name('per message', rate)} / {name}",
                spread=samples.ratio(_name("per message", rate), name, figure("p50_ms")),
            ),
        ]
    for name in variants:
        for quantile in ("p50_ms", "p99_ms", "max_ms"):
            told = Told(name=f"{name}: {quantile[:-3]}", spread=samples.spread(name, figure(quantile)), unit="ms")
            outcome.told.append(told)
    return outcome


def _name(who: str, rate: int) -> str:
    return f"{who}, {rate:,}/s"


def _growth(figures: Figures) -> float:
    return float(figures["last_tenth_ms"] / figures["first_tenth_ms"])


ROW = Row(number="B2", title="Latency at a pace", what=WHAT, run=run)
