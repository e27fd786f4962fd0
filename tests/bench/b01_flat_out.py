"""B1: one execution that emits as fast as it can, and one watcher."""

from __future__ import annotations

from collections.abc import Callable

from .bench import Bench
from .findings import Finding, Outcome, Told
from .process import Subject
from .rounds import cpu_an_event, per_second, together
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

BASE = "per message (grpc.aio)"
WEBSOCKET = "WebSocket, JSON (Starlette)"
SSE = "SSE, JSON (sse-starlette)"
STEPWIRE = "Stepwire, FULL journal"
MEMORY = "Stepwire, memory journal"
BARE = "Stepwire, FULL journal, bare reader"
BARE_MEMORY = "Stepwire, memory journal, bare reader"

A2A = "a2a-sdk over gRPC"
LIVE = "batches of 128, built live"
BATCHED = "batches of 128, encoded before"
SOCKET = "raw socket, encoded before"

BEFORE = {SSE: 3.9, WEBSOCKET: 7.0, A2A: 0.42, LIVE: 20, BATCHED: 69, SOCKET: 230}
"""Times per message on the machine that the targets were set on: a yardstick that is far below would be a weak one."""

_PIECE = 1_000

WHAT = """
An execution of one step emits events of about 208 bytes without a pause; a client in a process of its own decodes and
checks each. Stepwire commits every event to SQLite (synchronous FULL) before it is shown. The yardsticks keep
nothing: each sends the same content as programs of its kind normally do. "Bare reader" is Stepwire's server read by
grpc.aio and the generated messages alone, as the per-message client reads: without resuming and without a tracker.
Batches are what makes the difference, and not gRPC: a socket that carries the same batches is faster. a2a-sdk closes
the stream of a reader that is 1,024 events behind, so it is asked for 1,000 at a time.
"""


def run(bench: Bench) -> Outcome:
    events = bench.size(20_000, 4_000)

    def flat_out(subject: Subject, times: float) -> Callable[[], Figures]:
        # Faster ones get more events, so that each variant runs for about as long.
        count = round(events * times)
        return lambda: subject.ask(events=count)

    lasting, memory = bench.stepwire(), bench.stepwire("--journal", "memory")
    variants: dict[str, Callable[[], Figures]] = {
        BASE: flat_out(bench.yardstick("per_message"), 1),
        SSE: flat_out(bench.yardstick("sse"), 3),
        WEBSOCKET: flat_out(bench.yardstick("websocket"), 5),
        STEPWIRE: flat_out(lasting, 10),
        MEMORY: flat_out(memory, 10),
        BARE: flat_out(bench.another_client(lasting, reader="bare"), 10),
        BARE_MEMORY: flat_out(bench.another_client(memory, reader="bare"), 10),
        LIVE: flat_out(bench.yardstick("batched", "--live"), 15),
    }
    if not bench.quick:
        variants |= {
            A2A: _in_pieces(bench.yardstick("a2a_grpc"), round(events * 0.4)),
            BATCHED: flat_out(bench.yardstick("batched"), 40),
            SOCKET: flat_out(bench.yardstick("raw_socket"), 100),
        }
    samples = bench.alternate(variants)
    outcome = Outcome()

    def compare(over: str, under: str, at_least: float, quick: float) -> None:
        outcome.findings.append(
            Finding(
                what=f"events/s of {over} / {under}",
                spread=samples.ratio(over, under, per_second),
                at_least=at_least,
                collapse=quick,
            )
        )

    for stepwire, memory_journal in ((STEPWIRE, MEMORY), (BARE, BARE_MEMORY)):
        compare(stepwire, BASE, 12, 2)
        compare(stepwire, WEBSOCKET, 1.6, 0.5)
        compare(stepwire, SSE, 3, 0.8)
        compare(memory_journal, WEBSOCKET, 2.5, 0.6)
        compare(memory_journal, SSE, 4.5, 1)
    times = {name: samples.ratio(name, BASE, per_second) for name in variants}
    outcome.findings += [
        Finding(
            what=f"events/s of {name} / {BASE}",
            spread=times[name],
            slack=f"{BEFORE[name]:g} where the targets were set" if name in BEFORE else "",
        )
        for name in variants
        if name not in (BASE, STEPWIRE, BARE)
    ]
    for name in variants:
        outcome.told.append(Told(name=name, spread=samples.spread(name, per_second), unit="events/s"))
        outcome.told += [
            Told(name=f"{name}: CPU of the {side}", spread=samples.spread(name, cpu_an_event(side)), unit="µs an event")
            for side in ("server", "client")
        ]
    outcome.plot = {"times": times}
    return outcome


def _in_pieces(subject: Subject, events: int) -> Callable[[], Figures]:
    """Asks for no more at once than what a2a-sdk keeps for a reader: one that is further behind loses its stream."""

    def ask() -> Figures:
        found = [subject.ask(events=_PIECE) for _ in range(events // _PIECE)]
        return together(found, "events", "seconds", "server_cpu", "client_cpu")

    return ask


ROW = Row(number="B1", title="Flat out, one watcher", what=WHAT, run=run)
