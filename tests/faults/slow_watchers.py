"""Slow, stalled and vanishing watchers beside a fast one: what do they cost the execution, the fast one, the server?

    python -m tests.faults.slow_watchers --seconds 60 --rate 10000
    python -m tests.faults.slow_watchers --crowd 500 --events 20000

The first runs an execution that emits so many events a second, A with a fast watcher alone and B with the others beside
it, in turn, each on a server of its own. The second has a crowd of watchers of mixed speed, and compares what each got
with the execution's bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import hashlib
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from tests.e2e.serving import PATIENCE, Gate, ServerProcess
from tests.e2e.watchers import frames

import stepwire.aio
from stepwire.requests import METHODS
from stepwire.transport import channel_options
from stepwire.v1 import Event, Plan, WatchExecutionRequest
from stepwire_server import plan_step

from .gauges import Gauge, Held, markdown, mebibytes
from .kill_loop import APPS
from .slow_readers import KINDS, Kind, ReadersProcess, Report

__all__ = [
    "PER_WATCHER",
    "ROOM",
    "Crowd",
    "Run",
    "crowd",
    "crowd_table",
    "example",
    "judge",
    "report_of",
    "run",
    "table",
]

PER_WATCHER = 1 << 20
"""Bytes of the server's memory that a watcher may cost, however slowly it reads: a message of up to 256 KiB as it was
made, once more as gRPC holds it, and what its stream needs besides."""

ROOM = 24 << 20
"""Bytes of the server's memory that an execution may take besides, of 10,000 events a second: what is not durable yet,
what followers may still want, what the journal's writer holds."""

_TEXT = "m" * 90  # Makes an event of about 208 bytes.
_COMPANY: tuple[Kind, ...] = ("slow", "sluggish", "stalled")
_CROWD: dict[Kind, float] = {"fast": 0.5, "brisk": 0.25, "sluggish": 0.1, "stalled": 0.1, "leaving": 0.05}


@dataclass(kw_only=True)
class Run:
    """One execution, and who watched it."""

    company: bool
    """Whether there were others beside the fast watcher."""
    fast: Report
    seconds: float
    """What the execution took, by its events' times, from the first report to the end."""
    others: list[Report] = field(default_factory=list)
    before: Held
    """The server with all watchers there, before the first report."""
    most: Held
    """The most while the execution ran."""
    after: Held
    """After its end, with slow ones still there."""
    closed: Held
    """After they had gone."""
    tasks: tuple[int, int, int]
    """Tasks in the server before, after the end, and after the slow ones had gone."""
    lags: list[int]
    """By how many events the streams that were open at the end were behind."""


@dataclass(kw_only=True)
class Crowd:
    """A crowd of watchers of one execution."""

    reports: list[Report]
    events: int
    seconds: float
    """From the first report until all who read to the end had."""
    before: Held
    most: Held
    closed: Held
    seed: int
    violations: list[str] = field(default_factory=list)

    @property
    def per_watcher(self) -> float:
        """Bytes of memory that each watcher cost the server."""
        return (self.most.resident - self.before.resident) / len(self.reports)


async def run(folder: Path, *, seconds: float, rate: float, company: bool) -> Run:
    """Runs one execution of so many seconds and events a second on a server of its own."""
    events = round(seconds * rate)
    with ServerProcess(folder, app="soaked:app", cwd=APPS) as server, Gate() as gate:
        gauge = Gauge(server.process.pid)
        async with stepwire.aio.Client(server.address) as client:
            execution_id = await _begin(client, gate, events=events, rate=rate)
            processes = functools.partial(ReadersProcess, address=server.address, execution_id=execution_id)
            with contextlib.ExitStack() as stack:
                fast = stack.enter_context(processes("fast", timed=True))
                others = [
                    stack.enter_context(processes(kinds, apart=True))
                    for kinds in ([",".join(_COMPANY), "fast"] if company else [])
                ]
                for process in (fast, *others):
                    await asyncio.to_thread(process.begun)
                census, before = await _census(client), gauge.sample()
                with gauge.peak(every=0.1) as most:
                    gate.release("a")
                    waiting = asyncio.create_task(client.wait(execution_id))
                    await asyncio.wait({waiting}, timeout=seconds / 3)
                    for process in others[1:]:
                        process.process.kill()
                    ended = await waiting
                    [report] = await asyncio.to_thread(fast.reports)
                assert ended.as_of_sequence == events + 4, ended
                after, census_after = gauge.sample(), await _census(client)
                left = [report for process in others[:1] for report in await asyncio.to_thread(process.stop)]
                closed = await _quiet(client)
                return Run(
                    company=company,
                    fast=report,
                    seconds=(ended.end_time.ToNanoseconds() - await _first_report(client, execution_id)) / 1e9,
                    others=left,
                    before=before,
                    most=most,
                    after=after,
                    closed=gauge.sample(),
                    tasks=(census["tasks"], census_after["tasks"], closed["tasks"]),
                    lags=census_after["lags"][1:],  # The first is the counting's own.
                )


async def crowd(
    folder: Path, *, watchers: int, events: int, seed: int, rate: float = 5_000, processes: int = 5
) -> Crowd:
    """Runs one execution with so many watchers of mixed speed, each with a connection of its own or one of few."""
    chance = random.Random(seed)
    kinds = chance.choices(list(_CROWD), list(_CROWD.values()), k=watchers)
    readers: list[ReadersProcess] = []
    with ServerProcess(folder, app="soaked:app", cwd=APPS) as server, Gate() as gate:
        gauge = Gauge(server.process.pid)
        async with stepwire.aio.Client(server.address) as client:
            execution_id = await _begin(client, gate, events=events, rate=rate)
            before = gauge.sample()
            try:
                for number in range(processes):
                    mine = kinds[number::processes]
                    # Who reads on must not share flow control with who does not: HTTP/2 has a window a connection too.
                    readers.append(
                        ReadersProcess(",".join(mine), server.address, execution_id, seed=seed + number, apart=True)
                    )
                for process in readers:
                    await asyncio.to_thread(process.begun)
                began = time.monotonic()
                with gauge.peak(every=0.1) as most:
                    gate.release("a")
                    await client.wait(execution_id)
                    await _quiet(client, streams=sum(kind in ("sluggish", "stalled") for kind in kinds))
                    seconds = time.monotonic() - began
                    found = [report for process in readers for report in await asyncio.to_thread(process.stop)]
            finally:
                for process in readers:
                    process.kill()
            await _quiet(client)
            closed = gauge.sample()
            outcome = Crowd(
                reports=found, events=events + 4, seconds=seconds, before=before, most=most, closed=closed, seed=seed
            )
            outcome.violations = judge(found, await _bytes_of(server.address, execution_id), events=events + 4)
    if outcome.per_watcher > PER_WATCHER:
        outcome.violations.append(f"a watcher costs {outcome.per_watcher:,.0f} bytes; {PER_WATCHER:,} are allowed")
    return outcome


def judge(reports: list[Report], whole: list[bytes], *, events: int) -> list[str]:
    """Says who has other bytes than the execution, or not all."""
    wrong = []
    sequences = [Event.FromString(frame).sequence for frame in whole]
    if sequences != list(range(1, events + 1)):
        wrong.append(f"the execution has {len(sequences)} events, not dense to {events}")
    prefixes = _digests(whole)
    for number, report in enumerate(reports):
        name = f"watcher {number} ({report.kind})"
        wrong += [f"{name}: {text}" for text in report.wrong]
        if report.digest != prefixes[min(report.last, len(whole))]:
            wrong.append(f"{name}: other bytes for events 1 to {report.last}")
        if report.kind in ("fast", "brisk") and (not report.ended or report.last != events):
            wrong.append(f"{name}: ended after {report.last} of {events} events")
    return wrong


def _digests(whole: list[bytes]) -> list[str]:
    """Returns the digest of none of the events, of the first, of the first two, and so on."""
    digest = hashlib.sha256()
    found = [digest.hexdigest()]
    for frame in whole:
        digest.update(_head(frame) + frame)
        found.append(digest.hexdigest())
    return found


def example(events: int) -> list[bytes]:
    """Returns the bytes of some events, to try the judge."""
    return [
        Event(sequence=sequence, message=f"event {sequence}").SerializeToString() for sequence in range(1, events + 1)
    ]


def report_of(whole: list[bytes]) -> Report:
    """Returns what a watcher reports that was given these events."""
    return Report(kind="fast", last=len(whole), ended=True, digest=_digests(whole)[-1])


def _head(frame: bytes) -> bytes:
    """Returns what stands before an event in a message."""
    size, head = len(frame), b"\x12"
    while size > 0x7F:
        head += bytes([size & 0x7F | 0x80])
        size >>= 7
    return head + bytes([size])


async def _begin(client: stepwire.aio.Client, gate: Gate, *, events: int, rate: float) -> str:
    given = {"events": events, "rate": rate, "text": _TEXT, "gate": gate.port}
    execution = await client.start(plan=Plan(steps=[plan_step("a", "emit", input=given)]))
    await asyncio.to_thread(gate.arrived, "a")
    return execution.execution_id


async def _first_report(client: stepwire.aio.Client, execution_id: str) -> int:
    """Returns the time of the first report, in nanoseconds."""
    async for event in client.events(execution_id, 2):
        return event.event_time.ToNanoseconds()
    raise AssertionError("there is no report")


async def _census(client: stepwire.aio.Client) -> dict[str, Any]:
    plan = Plan(steps=[plan_step("a", "census", input={"collect": True})])
    counted: dict[str, Any] = await (await client.execute(plan=plan)).result()
    return counted


async def _quiet(client: stepwire.aio.Client, *, streams: int = 0) -> dict[str, Any]:
    """Returns the census once no more streams are open than so many, and the counting's own."""
    pause = asyncio.Event()
    async with asyncio.timeout(6 * PATIENCE):
        while (census := await _census(client))["streams"] > streams + 1:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pause.wait(), 0.1)
    return census


async def _bytes_of(address: str, execution_id: str) -> list[bytes]:
    asked = WatchExecutionRequest(execution_id=execution_id).SerializeToString()
    async with grpc.aio.insecure_channel(address, options=channel_options(())) as channel:
        call = channel.unary_stream(METHODS["WatchExecution"].path)(asked)
        return [frame async for message in call for frame in frames(message)]


def table(runs: list[Run], *, rate: float) -> str:
    """Returns what the runs gave, as Markdown."""
    head = (
        "run|watchers|execution, s|events/s|event, bytes|fast p50, ms|p99, ms|max, ms|"
        "memory, MiB: before|most|after the end|slow ones gone|descriptors|tasks"
    )
    rows = []
    for run_ in runs:
        count = run_.fast.last - 4
        rows.append(
            [
                "B" if run_.company else "A",
                f"fast, {', '.join(_COMPANY)}, vanishing" if run_.company else "fast",
                f"{run_.seconds:.2f}",
                f"{count / run_.seconds:,.0f}",
                f"{run_.fast.count_bytes / run_.fast.last:.0f}",
                *(f"{1000 * run_.fast.latencies[name]:.1f}" for name in ("p50", "p99", "max")),
                *(mebibytes(held.resident) for held in (run_.before, run_.most, run_.after, run_.closed)),
                " / ".join(str(held.descriptors) for held in (run_.before, run_.most, run_.after, run_.closed)),
                " / ".join(map(str, run_.tasks)),
            ]
        )
    said = [markdown(head.split("|"), rows)]
    alone = [run_.seconds for run_ in runs if not run_.company]
    beside = [run_.seconds for run_ in runs if run_.company]
    if alone and beside:
        ratio = (sum(beside) / len(beside)) / (sum(alone) / len(alone))
        said.append(
            f"asked for {rate:,.0f} events a second; the execution with them takes {ratio:.3f} of its time without"
        )
    for run_ in runs:
        if run_.company:
            got = ", ".join(f"{report.kind} {report.last:,} in {report.messages:,} messages" for report in run_.others)
            said.append(f"B: of {run_.fast.last:,} events had at the end: {got}; streams behind by {run_.lags}")
    return "\n\n".join(said)


def crowd_table(outcome: Crowd) -> str:
    """Returns what the crowd got, as Markdown."""
    rows = []
    for kind, number in sorted(Counter(report.kind for report in outcome.reports).items()):
        mine = [report for report in outcome.reports if report.kind == kind]
        rows.append(
            [
                f"{kind}: {KINDS[kind]}",
                number,
                sum(report.ended for report in mine),
                f"{min(report.last for report in mine):,} to {max(report.last for report in mine):,}",
                f"{sum(report.messages for report in mine):,}",
            ]
        )
    return "\n\n".join(
        [
            markdown(["watchers", "number", "to the end", "events", "messages"], rows),
            f"seed {outcome.seed}, {outcome.events:,} events, {outcome.seconds:.1f} s until all who read on were done; "
            f"server: {mebibytes(outcome.before.resident)} MiB before, {mebibytes(outcome.most.resident)} at most "
            f"({outcome.per_watcher / 1024:.0f} KiB a watcher, allowed {PER_WATCHER >> 10}), "
            f"{mebibytes(outcome.closed.resident)} after; descriptors {outcome.before.descriptors}, "
            f"{outcome.most.descriptors}, {outcome.closed.descriptors}",
            "\n".join(outcome.violations) or "all dense from 1, and the same bytes for each sequence",
        ]
    )


async def _alternate(*, seconds: float, rate: float, rounds: int) -> list[Run]:
    runs = []
    for number in range(2 * rounds):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(await run(Path(folder), seconds=seconds, rate=rate, company=bool(number % 2)))
    return runs


def main() -> None:
    """Runs it and prints the table. Exits 1 where a rule is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10_000.0, help="events a second")
    parser.add_argument("--rounds", type=int, default=2, help="of A and B")
    parser.add_argument("--crowd", type=int, help="so many watchers of mixed speed, instead")
    parser.add_argument("--events", type=int, default=20_000, help="with --crowd")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    options = parser.parse_args()
    if options.crowd:
        with tempfile.TemporaryDirectory() as folder:
            outcome = asyncio.run(crowd(Path(folder), watchers=options.crowd, events=options.events, seed=options.seed))
        print(crowd_table(outcome))
        sys.exit(1 if outcome.violations else 0)
    runs = asyncio.run(_alternate(seconds=options.seconds, rate=options.rate, rounds=options.rounds))
    print(table(runs, rate=options.rate))
    sys.exit(1 if any(run_.fast.wrong for run_ in runs) else 0)


if __name__ == "__main__":
    main()
