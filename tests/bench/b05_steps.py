"""B5: steps that do nothing, one after another and all at once: what a step itself costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bench import Bench
from .findings import Finding, Outcome, Told
from .process import Subject
from .rounds import together
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

STEPWIRE, GRAPH, SAVER = "Stepwire", "LangGraph", "LangGraph with its SQLite saver"

WHAT = """
A chain and a fan of 100 and of 1,000 steps whose operation returns at once. Stepwire's steps have two events each,
which are committed (FULL) and read by a client of another process; LangGraph runs in the process that calls it, on a
graph that was compiled before, without a saver and with its own for SQLite on a real file. "Own time" is from the
event that starts the plan to the one that ends it; ratios are of what a caller waits, over gRPC in Stepwire's case.
"""


def run(bench: Bench) -> Outcome:
    sizes = bench.size((100, 1_000), (100,))
    stepwire, graph = bench.stepwire(), bench.yardstick("langgraph_steps", alone=True)
    outcome = Outcome()
    for shape in ("chain", "fan"):
        for steps in sizes:
            # A single run of 100 steps is over too soon for a clock.
            times = max(1, bench.size(500, 300) // steps)
            samples = bench.alternate(
                {
                    STEPWIRE: _asked(stepwire, times, shape=shape, steps=steps),
                    GRAPH: _asked(graph, times, shape=shape, steps=steps, saver=""),
                    SAVER: _asked(graph, 1, shape=shape, steps=steps, saver="sqlite"),
                }
            )
            said = f"a {shape} of {steps:,} steps"
            outcome.findings += [
                Finding(
                    what=f"{said}: own time a step",
                    spread=samples.spread(STEPWIRE, _own_microseconds),
                    unit="µs",
                    at_most=40,
                ),
                Finding(
                    what=f"{said}: time of {GRAPH} / {STEPWIRE}",
                    spread=samples.ratio(GRAPH, STEPWIRE, _microseconds),
                    at_least=5,
                    collapse=0.25,
                ),
                Finding(
                    what=f"{said}: time of {SAVER} / {STEPWIRE}",
                    spread=samples.ratio(SAVER, STEPWIRE, _microseconds),
                    at_least=40,
                    collapse=1.3,
                ),
            ]
            outcome.told += [
                Told(
                    name=f"{said}: {name}, for its caller", spread=samples.spread(name, _microseconds), unit="µs a step"
                )
                for name in (STEPWIRE, GRAPH, SAVER)
            ]
    return outcome


def _asked(subject: Subject, times: int, **command: Any) -> Callable[[], Figures]:
    def ask() -> Figures:
        found = [subject.ask(**command) for _ in range(times)]
        keys = [key for key in ("steps", "seconds", "own_seconds") if key in found[0]]
        return together(found, *keys)

    return ask


def _microseconds(figures: Figures) -> float:
    return float(figures["seconds"] / figures["steps"] * 1e6)


def _own_microseconds(figures: Figures) -> float:
    return float(figures["own_seconds"] / figures["steps"] * 1e6)


ROW = Row(number="B5", title="What a step costs", what=WHAT, run=run)
