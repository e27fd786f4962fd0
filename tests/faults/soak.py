"""An hour of everything at once against one server: does it hold more at the end than at the beginning?

    python -m tests.faults.soak --seconds 3600 --seed 7

Callers start, watch, cancel, leave, are cut off, come too late, repeat themselves and err, a few at a time, while the
server purges what is old. Before and after, it rests: nobody calls, and everything that was begun has ended. What it
holds then must be the same, but for memory, which must not grow with the number of executions. What callers saw is
judged as it comes, and at the end once more against what the journal still has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.serving import PATIENCE, ServerProcess

import stepwire.aio
from stepwire.errors import StepwireError
from stepwire.v1 import Plan
from stepwire_server import plan_step

from .checkers import CHECKERS, check
from .gauges import Gauge, Held, file_size, markdown, mebibytes, slope
from .history import History, dump, gone
from .kill_loop import APPS
from .soak_callers import Callers

__all__ = ["Outcome", "Sample", "run", "table"]

SLOPE = 64 * 1024
"""Bytes by which memory may grow with a thousand executions, over the second half: as much is noise. A leak of 110
bytes for each stream gives three times that."""

GROWTH = 24 << 20
"""Bytes by which the memory of the server at rest may grow in all."""

TAILS = 64 << 20
"""Bytes that the server may keep for readers who are late."""

ENOUGH = 5_000
"""Executions from which a slope says something."""

DESCRIPTORS = 4
"""Descriptors by which the server at rest may have more at the end: readers open the journal when they are needed."""

_CANCEL_GRACE = 0.3
_CANCEL_MARGIN = 5.0
_FLAGS = ("--cancel-grace", str(_CANCEL_GRACE), "--drain-grace", "0.5")
_SESSIONS = 32
"""Sessions at once, at most."""

_SESSION_LIMIT = 60.0
"""Seconds after which a session hangs."""

_ROLLING = 500
"""Sessions that are judged once more at the end, against the journal."""

_AT_ONCE = ("P3", "P4", "P7", "P14")
"""What a history shows without the journal."""


@dataclass(kw_only=True)
class Sample:
    """What the server held at one moment."""

    at: float
    """Seconds since the beginning."""
    held: Held
    census: dict[str, Any]
    """What it counted itself, the counting execution included."""
    journal: int
    """Bytes of its files."""
    client: int
    """Bytes of memory of the callers' process."""
    took: float = 0.0
    """Seconds that the counting took: how busy the server was, or the machine."""

    @property
    def apart(self) -> int:
        """Bytes of the server's memory apart from what it keeps for readers who are late: that goes up and down by MiBs
        with what the last executions wrote, has a limit of its own, and hid a growth of 150 KiB with a thousand.
        """
        return self.held.resident - int(self.census["tails_bytes"])

    @property
    def accepted(self) -> int:
        """Executions since the server's first start."""
        return int(self.census["accepted"])


@dataclass(kw_only=True)
class Outcome:
    """What a run gave."""

    seed: int
    first: Sample
    """At rest, after the warm-up."""
    samples: list[Sample] = field(default_factory=list)
    """While callers were there."""
    last: Sample | None = None
    """At rest again."""
    sessions: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    purged: int = 0
    judged: int = 0
    """Sessions that were judged against the journal."""
    seconds: float = 0.0
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def slope(self) -> tuple[float, float]:
        """Bytes of memory, apart from what is kept for late readers, that came with a thousand executions, over the
        second half, and the standard error.
        """
        half = self.samples[len(self.samples) // 2 :]
        found, error = slope([(sample.accepted, sample.apart) for sample in half])
        return 1000 * found, 1000 * error

    def judge(self) -> None:
        """Compares the two rests, and looks at the slope."""
        assert self.last is not None
        first, last = self.first, self.last
        found = []
        for name in ("tasks", "streams", "followers", "running", "abandoned"):
            if last.census[name] > first.census[name]:
                found.append(f"{name} at rest: {first.census[name]} became {last.census[name]}")
        if last.held.descriptors > first.held.descriptors + DESCRIPTORS:
            found.append(f"descriptors at rest: {first.held.descriptors} became {last.held.descriptors}")
        if last.held.resident > first.held.resident + GROWTH:
            found.append(f"memory at rest: {first.held.resident:,} became {last.held.resident:,}")
        most = max((sample.census["tails_bytes"] for sample in self.samples), default=0)
        if most > TAILS:
            found.append(f"kept for late readers: {most:,} bytes; {TAILS:,} are allowed")
        executions = last.accepted - first.accepted
        grows, error = self.slope
        # What chance alone may do is no leak.
        if executions >= ENOUGH and grows - 2 * error > SLOPE:
            found.append(
                f"memory grows by {grows:,.0f} bytes (± {error:,.0f}) with a thousand executions; {SLOPE:,} are allowed"
            )
        if found:
            self.violations["P15"] = found


class _Soak:
    """One run."""

    def __init__(self, server: ServerProcess, *, seed: int, rate: float, keep: int) -> None:
        self.server = server
        self.gauge = Gauge(server.process.pid)
        self.began = time.monotonic()
        self.rolling: deque[History] = deque(maxlen=_ROLLING)
        self.sessions: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.wrong: dict[str, list[str]] = {}
        self._own = Gauge(os.getpid())
        self._seed = seed
        self._rate = rate
        self._keep = keep
        self._numbers = iter(range(1 << 62))

    async def sample(self, *, rest: bool = False) -> Sample:
        """Looks from outside and from inside. At rest garbage is collected before."""
        plan = Plan(steps=[plan_step("a", "census", input={"collect": rest})])
        asked = time.monotonic()
        async with stepwire.aio.Client(self.server.address) as client:
            while True:
                try:
                    census = await (await client.execute(plan=plan)).result()
                    break
                except StepwireError as error:
                    # What each thread of the server does stands in its log then.
                    self.server.process.send_signal(signal.SIGUSR1)
                    self._note("P14 and statuses", [f"after {asked - self.began:.0f} s, counting failed: {error!r}"])
        return Sample(
            at=time.monotonic() - self.began,
            held=self.gauge.sample(),
            census={key: value for key, value in census.items() if key != "lags"},
            journal=file_size(self.server.journal),
            client=self._own.sample().resident,
            took=time.monotonic() - asked,
        )

    async def rest(self) -> Sample:
        """Returns what the server holds once it has nothing to do."""
        deadline = time.monotonic() + 3 * PATIENCE
        pause = asyncio.Event()
        while True:
            sample = await self.sample(rest=True)
            census = sample.census
            # One stream and one execution are those of the counting.
            idle = census["running"] == census["streams"] == 1 and not census["abandoned"]
            if (idle and census["kept"] <= self._keep + 20) or time.monotonic() > deadline:
                return sample
            try:
                await asyncio.wait_for(pause.wait(), 0.2)
            except TimeoutError:
                continue

    async def call(self, seconds: float) -> None:
        """Lets callers come, at random moments, for so many seconds; returns when the last has gone."""
        chance = random.Random(f"{self._seed}/{next(self._numbers)}")
        callers = Callers(self.server.address)
        kinds = list(callers.mix)
        weights = [callers.mix[kind][0] for kind in kinds]
        room = asyncio.Semaphore(_SESSIONS)
        deadline = time.monotonic() + seconds
        try:
            async with asyncio.TaskGroup() as group:
                while time.monotonic() < deadline:
                    await asyncio.sleep(chance.expovariate(self._rate))
                    await room.acquire()
                    [kind] = chance.choices(kinds, weights)
                    session = group.create_task(self._session(callers, kind, next(self._numbers)))
                    session.add_done_callback(lambda _: room.release())
        finally:
            await callers.close()
        self.statuses += callers.statuses
        if callers.odd:
            self._note("P14 and statuses", [f"{text} ({count} times)" for text, count in callers.odd.items()])

    async def _session(self, callers: Callers, kind: str, number: int) -> None:
        history = History()
        chance = random.Random(f"{self._seed}/{number}")
        try:
            async with asyncio.timeout(_SESSION_LIMIT):
                await callers.mix[kind][1](chance, history)
        except TimeoutError:
            self._note("P14 and statuses", [f"session {number} ({kind}) hangs"])
        except Exception:
            self._note("P14 and statuses", [f"session {number} ({kind}): {traceback.format_exc()[-1500:]}"])
        self.sessions[kind] += 1
        for name in _AT_ONCE:
            self._note(name, [f"session {number} ({kind}): {text}" for text in CHECKERS[name](history)])
        self.rolling.append(history)

    async def judge_again(self) -> int:
        """Judges the newest sessions against the journal, which no server may have open. Returns how many those are."""
        whole = History(cancel_grace=_CANCEL_GRACE, cancel_margin=_CANCEL_MARGIN)
        for number, history in enumerate(self.rolling):
            whole.streams += history.streams
            whole.readings += history.readings
            whole.replies += history.replies
            for stream in history.streams:
                stream.watcher += f" of the newest {number}"
        known = whole.ids() | {reading.execution_id for reading in whole.readings}
        journal = await dump(self.server.journal)
        # Of the others nobody remembers what was asked of them.
        whole.journal = {execution_id: kept for execution_id, kept in journal.items() if execution_id in known}
        whole.purged = await gone(self.server.journal, known - journal.keys())
        for name, texts in check(whole).items():
            self._note(name, texts)
        return len(self.rolling)

    def _note(self, name: str, texts: Sequence[str]) -> None:
        if texts:
            self.wrong.setdefault(name, []).extend(texts[:20])


async def run(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    rate: float = 10.0,
    keep: int = 300,
    every: float = 10.0,
    log: Path | None = None,
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Goes on for so many seconds, with so many sessions a second, against a server that keeps so many executions;
    samples so often, into `log` too.
    """
    flags = [*_FLAGS, "--keep-executions", str(keep)]
    given = {"FAULTS_EFFECTS": "/dev/null", "SOAK_UPKEEP": "2"} | (environment or {})
    with ServerProcess(folder, app="soaked:app", cwd=APPS, flags=flags, environment=given) as server:
        soak = _Soak(server, seed=seed, rate=rate, keep=keep)
        # Until the server keeps as many as it may: what it remembers of them grows until then.
        await soak.call(max(min(120.0, seconds / 4), 1.5 * keep / rate))
        outcome = Outcome(seed=seed, first=await soak.rest())
        _write(log, "at rest", outcome.first)
        calling = asyncio.create_task(soak.call(seconds))
        while not calling.done():
            await asyncio.wait({calling}, timeout=every)
            if not calling.done():
                outcome.samples.append(await soak.sample())
                _write(log, "under way", outcome.samples[-1])
        await calling
        outcome.last = await soak.rest()
        _write(log, "at rest", outcome.last)
        server.terminate()
        if log is not None:
            shutil.copy(server.log, log.with_suffix(".server.log"))
        outcome.judged = await soak.judge_again()
        outcome.purged = sum(map(int, re.findall(r"purged (\d+) executions", server.log.read_text("utf-8"))))
    outcome.sessions, outcome.statuses, outcome.violations = soak.sessions, soak.statuses, soak.wrong
    outcome.seconds = time.monotonic() - soak.began
    outcome.judge()
    return outcome


def _write(log: Path | None, moment: str, sample: Sample) -> None:
    if log is not None:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"moment": moment, **asdict(sample)}) + "\n")


def table(outcome: Outcome) -> str:
    """Returns what happened as Markdown."""
    assert outcome.last is not None
    count = len(outcome.samples)
    rows = [("at rest, after the warm-up", outcome.first)]
    for quarter in range(5):
        rows.append((f"{quarter}/4", outcome.samples[min(count - 1, quarter * count // 4)]))
    rows.append(("at rest, at the end", outcome.last))
    head = (
        "moment|s|executions|memory, MiB|objects|descriptors|threads|tasks|streams|running|tails, MiB|kept|journal, MiB"
    )
    lines = [
        [
            moment,
            f"{sample.at:.0f}",
            f"{sample.accepted:,}",
            mebibytes(sample.held.resident),
            f"{sample.census['objects']:,}",
            sample.held.descriptors,
            sample.held.threads,
            sample.census["tasks"],
            sample.census["streams"],
            sample.census["running"],
            mebibytes(sample.census["tails_bytes"]),
            sample.census["kept"],
            mebibytes(sample.journal),
        ]
        for moment, sample in rows
    ]
    said = [
        markdown(
            [*head.split("|"), "callers, MiB"],
            [[*line, mebibytes(row[1].client)] for line, row in zip(lines, rows, strict=True)],
        ),
        f"seed {outcome.seed}, {outcome.seconds:.0f} s, {outcome.last.accepted:,} executions, "
        f"{outcome.purged:,} purged; {sum(outcome.sessions.values()):,} sessions, of which {outcome.judged:,} were "
        f"judged against the journal as well",
        f"memory: {outcome.slope[0] / 1024:.1f} ± {outcome.slope[1] / 1024:.1f} KiB with a thousand executions "
        f"over the second half, apart from what is kept for late readers (allowed: {SLOPE / 1024:.0f}); "
        f"at rest {mebibytes(outcome.last.held.resident - outcome.first.held.resident)} "
        f"MiB more at the end (allowed: {GROWTH >> 20})",
        f"slowest counting: {max(sample.took for sample in outcome.samples):.2f} s",
        "sessions: " + ", ".join(f"{name} {number:,}" for name, number in outcome.sessions.most_common()),
        "statuses: " + ", ".join(f"{name} {number:,}" for name, number in sorted(outcome.statuses.items())),
        "\n".join(f"{name} BROKEN: {text}" for name, texts in outcome.violations.items() for text in texts)
        or "every promise holds",
    ]
    return "\n\n".join(said)


def main() -> None:
    """Runs it and prints the table. Exits 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--rate", type=float, default=10.0, help="sessions a second")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    parser.add_argument("--log", type=Path, help="a file for each sample, as JSON lines")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(
            run(
                Path(folder),
                seconds=options.seconds,
                seed=options.seed,
                rate=options.rate,
                every=options.every,
                log=options.log,
            )
        )
    print(table(outcome))
    sys.exit(1 if outcome.violations else 0)


if __name__ == "__main__":
    main()
