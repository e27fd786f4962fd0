"""B7: ten thousand watchers while nothing happens."""

from __future__ import annotations

import time
from collections.abc import Callable

from .bench import STEPWIRE, YARDSTICKS, Bench
from .findings import Finding, Outcome, Told
from .process import Subject
from .rounds import figure
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

BARE, SILENT, BEATING = "bare server", "Stepwire, no heartbeat due", "Stepwire, a heartbeat each 15 s"
HEARTBEAT = 15.0

WHAT = """
10,000 streams are open on an execution that waits for an answer, on four connections; the bare grpc.aio server has as
many streams, on one, whose handler waits. Memory is what the server's resident one has grown by since before the
first stream, for each. The processor time is that of the next 15 seconds, as a share of one core. Servers are new in
every round: memory that was once taken stays taken.
"""


def run(bench: Bench) -> Outcome:
    watchers = bench.size(10_000, 1_000)
    window = bench.size(HEARTBEAT, 3.0)
    samples = bench.alternate(
        {
            BARE: _idle(lambda: Subject(f"{YARDSTICKS}.per_message"), watchers, window),
            SILENT: _idle(lambda: Subject(STEPWIRE), watchers, window, heartbeat=3600.0),
            BEATING: _idle(lambda: Subject(STEPWIRE), watchers, window, heartbeat=window),
        },
        warm_up=False,
    )
    outcome = Outcome(
        findings=[
            Finding(
                what=f"memory of the server a watcher: {SILENT} / {BARE}",
                spread=samples.ratio(SILENT, BARE, figure("kibibytes")),
                at_most=1.3,
                collapse=4,
            ),
            Finding(
                what=f"CPU of the server, {BEATING}",
                spread=samples.spread(BEATING, figure("share")),
                unit="% of a core",
                at_most=6,
            ),
            Finding(
                what=f"CPU of the server, {SILENT}",
                spread=samples.spread(SILENT, figure("share")),
                unit="% of a core",
                at_most=1,
            ),
        ]
    )
    for name in (BARE, SILENT, BEATING):
        outcome.told += [
            Told(name=f"{name}: memory a watcher", spread=samples.spread(name, figure("kibibytes")), unit="KiB"),
            Told(name=f"{name}: until all are open", spread=samples.spread(name, figure("seconds")), unit="s"),
        ]
    return outcome


def _idle(make: Callable[[], Subject], watchers: int, window: float, **command: float) -> Callable[[], Figures]:
    def idle() -> Figures:
        with make() as subject:
            # The first stream brings what all share: it is no watcher's memory.
            subject.ask(idle=1, **command)
            subject.ask(release=True)
            before = subject.server.memory()
            figures = subject.ask(idle=watchers, **command)
            kibibytes = (subject.server.memory() - before) / watchers / 1024
            cpu, start = subject.server.cpu(), time.monotonic()
            time.sleep(window)
            share = (subject.server.cpu() - cpu) / (time.monotonic() - start) * 100
            subject.ask(release=True)
        return {"kibibytes": kibibytes, "share": share, "seconds": figures["seconds"]}

    return idle


ROW = Row(number="B7", title="Ten thousand idle watchers", what=WHAT, run=run, quick=False)
