"""B3: many watchers of one execution: what a delivered event costs the server, and what they cost the execution."""

from __future__ import annotations

from .bench import Bench
from .findings import Finding, Outcome, Told
from .rounds import cpu_an_event, figure
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

BARE = "per message, one watcher"
PACE = 1_000

WHAT = """
1, 10, 100 and 1,000 streams follow one execution, which begins to emit when all are there: flat out, and at 1,000
events a second. All streams belong to one client process; each checks that the ranges of its messages leave nothing
out, and every fiftieth decodes and checks every event. The time of the execution is from its first emitted event to
its end, by the events' own times.
"""


def run(bench: Bench) -> Outcome:
    crowds = bench.size((1, 10, 100, 1_000), (1, 50))
    events = bench.size(20_000, 5_000)
    paced = bench.size(3_000, 500)
    stepwire, bare = bench.stepwire(), bench.yardstick("per_message")
    variants = {BARE: lambda: bare.ask(events=events // 2)}
    for crowd in crowds:
        variants[_flat(crowd)] = lambda crowd=crowd: stepwire.ask(watchers=crowd, events=events)
        variants[_paced(crowd)] = lambda crowd=crowd: stepwire.ask(watchers=crowd, events=paced, rate=PACE)
    samples = bench.alternate(variants)
    outcome = Outcome()
    for crowd in crowds:
        cost = samples.spread(_flat(crowd), _delivered)
        outcome.findings += [
            Finding(
                what=f"{_flat(crowd)}: CPU of the server a delivered event",
                spread=cost,
                unit="µs",
                at_most=1.0 if crowd >= 100 else None,
            ),
            Finding(
                what=f"CPU of the server an event: {BARE} / {_flat(crowd)}",
                spread=samples.ratio(BARE, _flat(crowd), cpu_an_event("server"), under_measure=_delivered),
                collapse=20 if crowd == 50 else None,
            ),
        ]
        if crowd > 1:
            for name in (_flat, _paced):
                ratio = samples.ratio(name(crowd), name(1), figure("own_seconds"))
                outcome.findings.append(
                    Finding(what=f"time of the execution: {name(crowd)} / {name(1)}", spread=ratio, at_most=1.05)
                )
        outcome.told += [
            Told(name=f"{_flat(crowd)}: delivered", spread=samples.spread(_flat(crowd), _a_second), unit="events/s"),
            Told(
                name=f"{_flat(crowd)}: time of the execution",
                spread=samples.spread(_flat(crowd), figure("own_seconds")),
                unit="s",
            ),
            Told(
                name=f"{_paced(crowd)}: time of the execution",
                spread=samples.spread(_paced(crowd), figure("own_seconds")),
                unit="s",
            ),
        ]
    return outcome


def _watchers(crowd: int) -> str:
    return "1 watcher" if crowd == 1 else f"{crowd:,} watchers"


def _flat(crowd: int) -> str:
    return f"{_watchers(crowd)}, flat out"


def _paced(crowd: int) -> str:
    return f"{_watchers(crowd)}, {PACE:,}/s"


def _delivered(figures: Figures) -> float:
    return float(figures["server_cpu"] / (figures["watchers"] * figures["events"]) * 1e6)


def _a_second(figures: Figures) -> float:
    return float(figures["watchers"] * figures["events"] / figures["seconds"])


ROW = Row(number="B3", title="Many watchers of one execution", what=WHAT, run=run)
