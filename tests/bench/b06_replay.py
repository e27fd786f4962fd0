"""B6: replay of an execution of a million events."""

from __future__ import annotations

from collections.abc import Callable

from .bench import STEPWIRE, Bench
from .findings import Finding, Outcome, Told
from .process import Subject
from .rounds import figure, per_second
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

BASE = "per message (grpc.aio), live"
CLIENT, BARE = "Stepwire", "Stepwire, bare reader"

WHAT = """
An execution of 1,000,000 events was recorded before, by a server that has ended. Another server, which has just
started on that journal, replays it to a client that decodes and checks every event: Stepwire's own, and grpc.aio with
the generated messages alone. The per-message yardstick sends events that it builds, as in B1. Memory is the server's
resident one: before, and the most while it replays.
"""


def run(bench: Bench) -> Outcome:
    events = bench.size(1_000_000, 50_000)
    journal = str(bench.folder() / "journal.db")
    with Subject(STEPWIRE, serve=["--journal", journal], drive=["--reader", "bare"]) as recording:
        recorded = recording.ask(events=events)["execution_id"]
    stepwire = bench.stepwire("--journal", journal)
    samples = bench.alternate(
        {
            BASE: _per_message(bench, bench.size(20_000, 4_000)),
            CLIENT: _replay(stepwire, recorded, events),
            BARE: _replay(bench.another_client(stepwire, reader="bare"), recorded, events),
        },
        warm_up=False,
    )
    outcome = Outcome()
    for name in (CLIENT, BARE):
        outcome.findings += [
            Finding(
                what=f"events/s of {name} / {BASE}",
                spread=samples.ratio(name, BASE, per_second),
                at_least=60,
                collapse=8,
            ),
            Finding(
                what=f"{name}: the first event", spread=samples.spread(name, figure("first_ms")), unit="ms", at_most=5
            ),
            Finding(
                what=f"{name}: the server's memory, most / before",
                spread=samples.spread(name, _grown),
                at_most=1.3,
                collapse=4,
            ),
        ]
    for name in (BASE, CLIENT, BARE):
        outcome.told.append(Told(name=name, spread=samples.spread(name, per_second), unit="events/s"))
    for name in (CLIENT, BARE):
        outcome.told += [
            Told(name=f"{name}: memory {when}", spread=samples.spread(name, figure(when)), unit="MiB")
            for when in ("before", "most", "after")
        ]
    return outcome


def _per_message(bench: Bench, events: int) -> Callable[[], Figures]:
    subject = bench.yardstick("per_message")
    subject.ask(events=events)  # For warmth; a replay needs none, and its first round is to be the server's first.
    return lambda: subject.ask(events=events)


def _replay(subject: Subject, execution_id: str, events: int) -> Callable[[], Figures]:
    def replay() -> Figures:
        before = subject.server.memory()
        with subject.server.peak() as most:
            figures = subject.ask(replay=execution_id, events=events)
        after = subject.server.memory()
        return figures | {"before": before / (1 << 20), "most": most[0] / (1 << 20), "after": after / (1 << 20)}

    return replay


def _grown(figures: Figures) -> float:
    return float(figures["most"] / figures["before"])


ROW = Row(number="B6", title="Replay of a million events", what=WHAT, run=run, quick=False)
