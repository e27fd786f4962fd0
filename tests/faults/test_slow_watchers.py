"""Watchers that read slowly, or not at all, cost an execution and its other watchers nothing, and a server little."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from . import slow_watchers
from .gauges import mebibytes
from .noted import Noted
from .slow_readers import Report


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.fault("slow, stalled and vanishing watchers beside a fast one", how="readers that wait, SIGKILL")
async def test_slow_watchers_beside_a_fast_one(tmp_path: Path, long: bool, noted: Noted) -> None:
    """An execution with slow, stalled and vanishing watchers ends in its time, its fast watcher gets every event, and
    what they cost the server is bounded and goes with them.
    """
    seconds, rate = (60.0, 10_000.0) if long else (1.0, 4_000.0)
    run = await slow_watchers.run(tmp_path, seconds=seconds, rate=rate, company=True)
    print(slow_watchers.table([run], rate=rate))
    noted.figures["execution"] = f"{run.seconds:.2f} s of {seconds:g} s"
    noted.figures["fast watcher p99"] = f"{1000 * run.fast.latencies['p99']:.1f} ms"
    noted.figures["memory before, most, after"] = ", ".join(
        f"{mebibytes(held.resident)} MiB" for held in (run.before, run.most, run.closed)
    )
    assert run.fast.ended
    assert run.fast.wrong == []
    by_kind = {report.kind: report for report in run.others}
    # They were behind by nearly all of it, and had been all the while.
    assert by_kind["stalled"].messages == 1
    assert by_kind["slow"].last < run.fast.last / 10
    assert min(run.lags) > run.fast.last / 2
    assert [report.wrong for report in run.others] == [[]] * len(run.others)
    # It would wait for them for ever, or until they vanish.
    assert run.seconds < 2 * seconds + 3
    watchers = 1 + len(run.others) + 1
    assert run.most.resident - run.before.resident < slow_watchers.ROOM + watchers * slow_watchers.PER_WATCHER
    before, _, after = run.tasks
    assert after < before
    assert run.closed.descriptors <= run.before.descriptors


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.fault("watchers of mixed speed", how="readers that wait or leave")
async def test_a_crowd_of_mixed_speed(tmp_path: Path, long: bool, noted: Noted, random_seed: int) -> None:
    """In a crowd of mixed speed, whoever reads to the end gets all events with the same bytes, the others the
    beginning, and each costs the server no more than it may.
    """
    watchers, events, processes = (500, 20_000, 5) if long else (60, 3_000, 2)
    outcome = await slow_watchers.crowd(
        tmp_path, watchers=watchers, events=events, seed=random_seed, processes=processes
    )
    print(slow_watchers.crowd_table(outcome))
    noted.times = watchers
    noted.figures["memory a watcher"] = f"{outcome.per_watcher / 1024:.0f} KiB"
    assert not outcome.violations, slow_watchers.crowd_table(outcome)
    assert {report.kind for report in outcome.reports if report.ended} >= {"fast", "brisk"}
    assert any(0 < report.last < events for report in outcome.reports)


@pytest.mark.parametrize("harm", ["other bytes", "an event less", "not to the end", "what it saw itself"])
def test_the_check_finds(harm: str) -> None:
    """The judge of a crowd finds a watcher with other bytes, with fewer events, one that did not come to the end, and
    repeats what a watcher found itself.
    """
    whole = slow_watchers.example(10)
    good = slow_watchers.report_of(whole)
    bad: dict[str, Report] = {
        "other bytes": slow_watchers.report_of([*whole[:4], whole[3], *whole[5:]]),
        "an event less": dataclasses.replace(good, last=9),
        "not to the end": dataclasses.replace(slow_watchers.report_of(whole[:7]), ended=False),
        "what it saw itself": dataclasses.replace(good, wrong=["a message covers from 3, and 2 was the last"]),
    }
    assert slow_watchers.judge([good, good], whole, events=10) == []
    assert slow_watchers.judge([good, bad[harm]], whole, events=10)
