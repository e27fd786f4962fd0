"""B9: does one step, event, resume or page cost more where there are many?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import journals
from .bench import Bench
from .findings import Finding, Outcome, Told
from .process import Subject
from .rounds import Measure, Samples, together
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

WHAT = """
Plans of 10 to 10,000 steps that do nothing, as a chain and as a fan: own time a step. 1 to 1,000 executions at once,
and 1 to 1,000 watchers of one: processor time of the server for each execution, and for each event that a watcher
gets. Journals of 1,000 to 1,000,000 events, half of them in one execution, half in executions of 100 events each, and
a server on each: what an event costs that is emitted there, what a resume costs at the end of the longest execution,
and a page of the list of executions. Flat means: the largest costs at most 1.3 times what the smallest does.
"""

_FLAT = 1.3


def run(bench: Bench) -> Outcome:
    outcome = Outcome(plot={"growth": {}})
    _grow_plans(bench, outcome, bench.size((10, 100, 1_000, 10_000), (10, 100, 1_000)))
    _grow_crowds(bench, outcome, bench.size((1, 10, 100, 1_000), (1, 10, 100)))
    _grow_journals(bench, outcome, bench.size((1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)))
    return outcome


def _grow_plans(bench: Bench, outcome: Outcome, sizes: Sequence[int]) -> None:
    stepwire = bench.stepwire()
    for shape in ("chain", "fan"):

        def steps(size: int, shape: str = shape) -> Figures:
            # As many steps for each size, so that each is measured for as long.
            found = [stepwire.ask(shape=shape, steps=size) for _ in range(max(1, sizes[-1] // 5 // size))]
            return together(found, "own_seconds", "steps")

        samples = bench.alternate({f"{size}": lambda size=size: steps(size) for size in sizes})
        _judge(outcome, f"a step of a {shape}", "steps", sizes, samples, lambda f: f["own_seconds"] / f["steps"] * 1e6)


def _grow_crowds(bench: Bench, outcome: Outcome, sizes: Sequence[int]) -> None:
    stepwire = bench.stepwire()
    events = 5_000

    def executions(size: int) -> Figures:
        return together([stepwire.ask(calls=size, events=14) for _ in range(sizes[-1] // size)], "server_cpu", "calls")

    def watchers(size: int) -> Figures:
        # The processor's time is told in hundredths of a second: a few watchers have to watch more than once.
        found = [stepwire.ask(watchers=size, events=events) for _ in range(max(1, 10 // size))]
        return together([f | {"delivered": size * events} for f in found], "server_cpu", "delivered")

    samples = bench.alternate({f"{size}": lambda size=size: executions(size) for size in sizes})
    _judge(outcome, "an execution", "at once", sizes, samples, lambda f: f["server_cpu"] / f["calls"] * 1e6)
    samples = bench.alternate({f"{size}": lambda size=size: watchers(size) for size in sizes})
    _judge(outcome, "a delivered event", "watchers", sizes, samples, lambda f: f["server_cpu"] / f["delivered"] * 1e6)


def _grow_journals(bench: Bench, outcome: Outcome, sizes: Sequence[int]) -> None:
    folder = bench.folder()
    subjects = {}
    longest = {}
    for size in sizes:
        path = folder / f"{size}.db"
        bench.say(f"filling a journal with {size:,} events")
        executions = journals.fill(path, events=size)
        longest[size] = size - (executions - 1) * journals.SHORT
        subjects[size] = bench.stepwire("--journal", str(path))
    emitted, times = bench.size(50_000, 5_000), bench.size(50, 10)
    works: Sequence[tuple[str, Callable[[Subject, int], Figures], Measure]] = [
        ("an event that is emitted", lambda subject, _: subject.ask(events=emitted), _each("events")),
        (
            "a resume at the end",
            lambda subject, size: subject.ask(resume=journals.LONGEST, after=longest[size] - 1, times=times),
            _each("times"),
        ),
        (
            "a page of 5 executions",
            lambda subject, _: _repeat(lambda: subject.ask(pages=1, size=5), times),
            _each("pages"),
        ),
    ]
    for said, work, measure in works:
        variants = {f"{size}": lambda size=size, work=work: work(subjects[size], size) for size in sizes}
        _judge(outcome, said, "events in the journal", sizes, bench.alternate(variants), measure)


def _repeat(ask: Callable[[], Figures], times: int) -> Figures:
    return {"seconds": sum(ask()["seconds"] for _ in range(times)), "pages": times}


def _each(key: str) -> Measure:
    return lambda figures: float(figures["seconds"] / figures[key] * 1e6)


def _judge(outcome: Outcome, said: str, unit: str, sizes: Sequence[int], samples: Samples, measure: Measure) -> None:
    smallest, largest = sizes[0], sizes[-1]
    outcome.findings.append(
        Finding(
            what=f"{said}: at {largest:,} {unit} / at {smallest:,}",
            spread=samples.ratio(f"{largest}", f"{smallest}", measure),
            at_most=_FLAT,
            collapse=5,
        )
    )
    for size in sizes:
        told = Told(name=f"{said}, at {size:,} {unit}", spread=samples.spread(f"{size}", measure), unit="µs")
        outcome.told.append(told)
    outcome.plot["growth"][said] = {size: samples.spread(f"{size}", measure).median for size in sizes}


ROW = Row(number="B9", title="Growth", what=WHAT, run=run, quick=False)
