"""Many executions that run are cancelled at once: how long until the last of them has ended, and what is left?

    python -m tests.faults.cancel_many --executions 1000 --grace 2

Twice, each time with a server of its own: with an operation that lets itself be cancelled, and with one that swallows
every cancellation, which must be given up after the grace period, and leave the server unharmed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.serving import PATIENCE, ServerProcess

import stepwire.aio
from stepwire.events import is_terminal
from stepwire.v1 import Event

from .gauges import Gauge, Held, markdown, mebibytes, percentile
from .kill_loop import APPS

__all__ = ["GRACES", "Outcome", "run", "table"]

GRACES = {"hangs": False, "swallows": True}
"""The operations, and whether they need the grace period."""

_TICK = 0.002
"""Seconds that a timer may come early by the wall's clock: uvloop counts whole milliseconds."""


@dataclass(kw_only=True)
class Outcome:
    """What one run showed. Times are in seconds."""

    operation: str
    executions: int
    grace: float
    accepted: float = 0.0
    """From the first cancel's call to the last one's answer."""
    ended: float = 0.0
    """From the first cancel's call until a watcher has the last terminal event."""
    each: list[float] = field(default_factory=list)
    """For each execution, from `plan_cancelling` to `plan_cancelled`, by the server's clock."""
    wrong: list[str] = field(default_factory=list)
    """What is not as it must be."""
    before: Held | None = None
    after: Held | None = None
    abandoned: int = 0
    honest: float = 0.0
    """How long an execution took afterwards."""


async def run(folder: Path, operation: str, *, executions: int, grace: float) -> Outcome:
    """Starts so many executions of two steps, cancels all at once, and looks at what each has recorded."""
    outcome = Outcome(operation=operation, executions=executions, grace=grace)
    with ServerProcess(folder, app="bad:app", cwd=APPS, flags=["--cancel-grace", str(grace)]) as server:
        gauge = Gauge(server.process.pid)
        async with stepwire.aio.Client(server.address, timeout=PATIENCE + grace) as client:
            steps = [{"id": "a", "operation": operation}, {"id": "b", "operation": "honest", "depends_on": ["a"]}]
            started = await client.start_batch([{"plan": {"steps": steps}} for _ in range(executions)])
            names = [execution.execution_id for execution in started]
            watch = await client.watch_executions(execution_ids=names, after_position=0)
            histories: dict[str, list[Event]] = {name: [] for name in names}
            running = 0
            while running < executions:
                event = await anext(watch)
                histories[event.execution_id].append(event)
                running += event.HasField("step_started")
            outcome.before = gauge.sample()
            begun = time.monotonic()
            cancels = asyncio.gather(*(client.cancel(name, "enough", "tester") for name in names))
            cancels.add_done_callback(lambda _: setattr(outcome, "accepted", time.monotonic() - begun))
            async for event in watch:
                histories[event.execution_id].append(event)
            outcome.ended = time.monotonic() - begun
            await cancels
            for name, events in histories.items():
                _judge(name, events, outcome)
            outcome.abandoned = (await client.server_info()).load.abandoned_operations
            begun = time.monotonic()
            honest = await client.execute(plan={"steps": [{"id": "a", "operation": "honest"}]})
            await honest.result()
            outcome.honest = time.monotonic() - begun
        outcome.after = gauge.sample()
        assert server.terminate() == 0
    if outcome.abandoned != (executions if GRACES[operation] else 0):
        outcome.wrong.append(f"{outcome.abandoned} abandoned")
    return outcome


def _judge(name: str, events: Sequence[Event], outcome: Outcome) -> None:
    """Notes what is not as it must be in one history."""
    if [event.sequence for event in events] != list(range(1, len(events) + 1)):
        outcome.wrong.append(f"{name}: not dense")
    kinds = [str(event.WhichOneof("kind")) for event in events]
    abandoned = GRACES[outcome.operation]
    if kinds != ["plan_started", "step_started", "plan_cancelling", "step_cancelled", "step_skipped", "plan_cancelled"]:
        outcome.wrong.append(f"{name}: {kinds}")
        return
    if not is_terminal(events[-1]) or events[3].step_cancelled.abandoned != abandoned:
        outcome.wrong.append(f"{name}: abandoned is {events[3].step_cancelled.abandoned}")
    took = (events[-1].event_time.ToNanoseconds() - events[2].event_time.ToNanoseconds()) / 1e9
    outcome.each.append(took)
    if abandoned and took < outcome.grace - _TICK:
        outcome.wrong.append(f"{name}: given up after {took:.3f} s")


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns the runs as a table."""
    rows: list[list[Any]] = []
    for outcome in outcomes:
        assert outcome.before is not None
        assert outcome.after is not None
        rows.append(
            [
                outcome.operation,
                f"{outcome.executions:,}",
                f"{outcome.grace:g}" if GRACES[outcome.operation] else "",
                f"{outcome.accepted:.2f}",
                f"{outcome.ended:.2f}",
                f"{percentile(outcome.each, 0.5):.2f}, {max(outcome.each):.2f}",
                f"{outcome.abandoned:,}",
                f"{1000 * outcome.honest:.0f} ms",
                f"{mebibytes(outcome.before.resident)}, {mebibytes(outcome.after.resident)}",
                f"{len(outcome.wrong)}",
            ]
        )
    head = ["operation", "executions", "grace", "last accepted, s", "last ended, s", "to its end, median, worst, s"]
    return markdown([*head, "abandoned", "an execution after", "MiB before, after", "wrong"], rows)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--executions", type=int, default=1000, help="at most 1,000: one batch")
    parser.add_argument("--grace", type=float, default=2.0, help="seconds that an operation has to end")
    options = parser.parse_args()
    outcomes = []
    for operation in GRACES:
        with tempfile.TemporaryDirectory() as folder:
            outcome = asyncio.run(run(Path(folder), operation, executions=options.executions, grace=options.grace))
        outcomes.append(outcome)
        for problem in outcome.wrong[:10]:
            print(problem, file=sys.stderr)
    print(table(outcomes))
    sys.exit(1 if any(outcome.wrong for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
