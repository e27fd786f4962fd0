"""How good the time remaining is: many executions of a plan whose steps take now longer, now shorter.

    python -m tests.server.engine.remaining --seen 20 --executions 50 --seed 7

The engine is the real one; the time is an event loop's that leaps to what comes next, so hours take seconds. What is
told at 25, 50 and 75 % of the way is held against what was left in truth, beside plain extrapolation: the time so far,
times what is left of the percentage over what is done of it. A table goes to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from statistics import median

from stepwire.v1 import Event, EventBatch, ExecuteRequest, Plan
from stepwire_server import App, StepContext, plan_step
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import MemoryJournal

from .rig import LoopClock, VirtualLoop

__all__ = ["Outcome", "measure"]

WAYS = (0.25, 0.5, 0.75)

_TYPICAL = {"fetch": 20.0, "parse": 5.0, "embed": 40.0, "search": 8.0, "draft": 90.0, "check": 15.0, "publish": 3.0}
"""Seconds that half of an operation's steps take at most."""

_NOISE = 0.4
"""The deviation of a duration's logarithm: two of three lie between 0.67 and 1.5 times the median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Errors as shares of an execution's whole time, by how much of it had passed; one for each execution."""

    told: dict[float, list[float]]
    extrapolated: dict[float, list[float]]
    untold: int
    """How often nothing was told."""
    within: dict[float, list[bool]]
    """Whether the truth lay within the margin."""
    jump: float
    """The largest change of what was told beside the time that passed, as a share of the whole time."""


def app_of(chance: Random) -> App:
    """Returns an app whose operations take their time, by chance; the longest one says how far it is."""
    app = App("noisy")

    def add(name: str, typical: float) -> None:
        @app.operation(name)
        async def work(step: StepContext) -> None:
            seconds = typical * chance.lognormvariate(0.0, _NOISE)
            pieces = 10 if name == "draft" else 1
            for piece in range(pieces):
                await asyncio.sleep(seconds / pieces)
                if pieces > 1:
                    await step.progress(current=piece + 1, total=pieces)

    for name, typical in _TYPICAL.items():
        add(name, typical)
    return app


def plan_of(chance: Random) -> Plan:
    """Returns a plan: 10 to 20 steps of any operation, each after up to two of those before it."""
    names = sorted(_TYPICAL)
    steps = []
    for i in range(chance.randint(10, 20)):
        before = [f"s{chance.randrange(i)}" for _ in range(chance.randint(0, 2))] if i else []
        steps.append(plan_step(f"s{i}", chance.choice(names), depends_on=sorted(set(before))))
    return Plan(steps=steps)


def measure(*, seen: int, executions: int, seed: int) -> Outcome:
    """Runs `seen` executions for the journal to learn from, then measures so many."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_measure(seen, executions, Random(seed)))


async def _measure(seen: int, executions: int, chance: Random) -> Outcome:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    journal = MemoryJournal()
    await journal.open()
    engine = Engine(app_of(chance).catalog(), journal, clock=LoopClock(loop))
    await engine.recover()
    plan = plan_of(chance)
    outcome = Outcome(
        told={way: [] for way in WAYS},
        extrapolated={way: [] for way in WAYS},
        within={way: [] for way in WAYS},
        untold=0,
        jump=0.0,
    )
    untold, jump = 0, 0.0
    for count in range(seen + executions):
        events = await _run(engine, plan)
        if count >= seen:
            untold += _judge(events, outcome)
            jump = max(jump, _jump(events))
    await engine.drain(0)
    await journal.close()
    return Outcome(
        told=outcome.told,
        extrapolated=outcome.extrapolated,
        within=outcome.within,
        untold=untold,
        jump=jump,
    )


async def _run(engine: Engine, plan: Plan) -> list[Event]:
    record = await engine.accept(ExecuteRequest(plan=plan))
    with engine.journal.follow(record.execution_id, after=0) as follower:
        events: list[Event] = []
        while not follower.ended:
            for chunk in await follower.read(max_events=512, max_bytes=1 << 20):
                events += EventBatch.FromString(chunk.data).events
            if not follower.ended:
                await follower.wait()
    return events


def _judge(events: Sequence[Event], outcome: Outcome) -> int:
    """Takes an execution into the outcome. Returns how often nothing was told."""
    begin, whole = _at(events[0]), _at(events[-1]) - _at(events[0])
    untold = 0
    for way in WAYS:
        now = begin + way * whole
        event = [event for event in events if _at(event) <= now][-1]
        left = whole * (1 - way)
        done = event.progress.percentage
        plain = way * whole * (100 - done) / done if done else whole
        outcome.extrapolated[way].append(abs(plain - left) / whole)
        if not event.progress.HasField("remaining"):
            untold += 1
            continue
        told = max(0.0, event.progress.remaining.ToNanoseconds() / 1e9 - (now - _at(event)))
        outcome.told[way].append(abs(told - left) / whole)
        outcome.within[way].append(abs(told - left) <= event.progress.remaining_margin.ToNanoseconds() / 1e9)
    return untold


def _jump(events: Sequence[Event]) -> float:
    """Returns the largest change between two events, beside the time between them, as a share of the whole time."""
    told = [
        (_at(event), event.progress.remaining.ToNanoseconds() / 1e9)
        for event in events
        if event.progress.HasField("remaining")
    ]
    whole = _at(events[-1]) - _at(events[0])
    jumps = [abs(after - max(0.0, before - (then - at))) for (at, before), (then, after) in pairwise(told)]
    return max(jumps, default=0.0) / whole


def _at(event: Event) -> float:
    return event.event_time.ToNanoseconds() / 1e9


def main(arguments: Sequence[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seen", type=int, default=20)
    parser.add_argument("--executions", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args(arguments)
    outcome = measure(seen=chosen.seen, executions=chosen.executions, seed=chosen.seed)
    print("| of the way | median error of what is told | of plain extrapolation | truth within the margin |")
    print("| --- | --- | --- | --- |")
    for way in WAYS:
        inside = outcome.within[way]
        print(
            f"| {way:.0%} | {median(outcome.told[way]):.1%} | {median(outcome.extrapolated[way]):.1%} "
            f"| {sum(inside)} of {len(inside)} |"
        )
    print(f"\nnot told: {outcome.untold}; largest jump: {outcome.jump:.1%} of the execution's time")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
