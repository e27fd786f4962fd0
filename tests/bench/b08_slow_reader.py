"""B8: a slow reader beside a fast one: what does it cost the fast one?"""

from __future__ import annotations

from .bench import Bench
from .findings import Finding, Outcome, Told
from .rounds import figure
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

ALONE, BESIDE = "alone", "beside a slow reader"

WHAT = """
A watcher reads an execution that emits flat out as fast as it can, alone, and with another watcher of the same
execution that takes one message each 100 ms, in a process of its own. The execution begins to emit when both are
there.
"""


def run(bench: Bench) -> Outcome:
    events = bench.size(200_000, 20_000)
    fast = bench.stepwire()
    slow = bench.another_client(fast, reader="aio")

    def alone() -> Figures:
        question = fast.ask(hold=events)
        return fast.ask(follow=question["execution_id"], input_id=question["input_id"], events=events)

    def beside() -> Figures:
        question = fast.ask(hold=events)
        slow.ask(crawl=question["execution_id"])
        figures = fast.ask(follow=question["execution_id"], input_id=question["input_id"], events=events)
        reached = slow.ask(release=True)["reached"]
        return figures | {"behind": events - reached}

    samples = bench.alternate({ALONE: alone, BESIDE: beside})
    return Outcome(
        findings=[
            Finding(
                what=f"time of the fast reader: {BESIDE} / {ALONE}",
                spread=samples.ratio(BESIDE, ALONE, figure("seconds")),
                at_most=1.05,
                collapse=3,
            )
        ],
        told=[
            Told(name=f"the fast reader {name}", spread=samples.spread(name, figure("seconds")), unit="s")
            for name in (ALONE, BESIDE)
        ]
        + [
            Told(
                name="the slow one is behind at that moment",
                spread=samples.spread(BESIDE, figure("behind")),
                unit="events",
            )
        ],
    )


ROW = Row(number="B8", title="A slow reader beside a fast one", what=WHAT, run=run, quick=False)
