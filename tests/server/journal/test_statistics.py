"""What a journal keeps of executions that have ended, and gives back summed up."""

from __future__ import annotations

import asyncio
import itertools
import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwire.v1 import ExecutionState
from stepwire_server.journal import (
    Conflict,
    MemoryJournal,
    Outcome,
    Retention,
    SqliteJournal,
    StepSummary,
    Summary,
    Tally,
)
from stepwire_server.journal.checking import check
from stepwire_server.journal.histogram import Histogram
from stepwire_server.journal.inspection import opened_to_read
from stepwire_server.journal.statistics import (
    DAY,
    HOUR,
    MONTH,
    MOST_NAMES,
    OTHER,
    TYPICAL_DAYS,
    WIDTHS,
    covering,
    rounded,
)

from .scan import Scan

COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
SECOND = 10**9
NOON = 1_700_049_600 // DAY * DAY + 12 * HOUR
"""Seconds since 1970 at noon of some day."""


def step(operation="work", outcome=Outcome.COMPLETED, seconds=1.0, wait=0.0, retries=0) -> StepSummary:
    return StepSummary(
        operation=operation,
        outcome=outcome,
        duration_ns=round(seconds * SECOND),
        wait_ns=round(wait * SECOND),
        retries=retries,
    )


def summary(*steps, plan="p", at=NOON, outcome=Outcome.COMPLETED, seconds=1.0, wait=0.0) -> Summary:
    return Summary(
        outcome=outcome,
        plan=plan,
        end_time_ns=at * SECOND,
        duration_ns=round(seconds * SECOND),
        wait_ns=None if wait is None else round(wait * SECOND),
        bottleneck=max(steps, key=lambda found: found.duration_ns).operation if steps else "",
        steps=steps,
    )


class Ends:
    """Ends executions in a journal, one after the other."""

    def __init__(self, journal, new_record, new_chunk, *, prefix="e") -> None:
        self._prefix = prefix
        self._journal = journal
        self._record = new_record
        self._chunk = new_chunk
        self._numbers = itertools.count()

    async def __call__(self, told, *, tenant="") -> str:
        name = f"{self._prefix}{next(self._numbers)}"
        await self._journal.create(self._record(name, tenant=tenant))
        chunk = self._chunk(1, kind=26)
        await self._journal.append(name, epoch=1, chunk=chunk, state=COMPLETED, snapshot=b"", summary=told)
        return name


@pytest.fixture
def end(journal, new_record, new_chunk) -> Ends:
    return Ends(journal, new_record, new_chunk)


def scan_of(*told) -> Scan:
    found = Scan()
    for one in told:
        found.add(one)
    return found


async def holds(journal, *told, **span) -> None:
    """Holds a journal to statistics of exactly these executions."""
    found = await journal.statistics(tenant="", **span)
    by_hand = scan_of(*told)
    assert (found.operations, found.plans) == (by_hand.operations, by_hand.plans)
    assert not found.damaged


# -- histograms


@given(st.lists(st.integers(0, 366 * DAY * SECOND), min_size=1, max_size=60), st.sampled_from([0.25, 0.5, 0.95, 0.99]))
def test_a_percentile_is_within_a_hundredth(durations, share):
    """A percentile is that of all durations in order, to within 1 %, and half a nanosecond."""
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = sorted(durations)[math.ceil(share * len(durations) - 1e-9) - 1]
    assert histogram.quantiles(share)[0] * 1e9 == pytest.approx(exact, rel=0.01, abs=0.51)


@given(st.lists(st.lists(st.integers(0, 10**15), max_size=20), max_size=5), st.randoms())
def test_histograms_merge_exactly(parts, chance):
    """Histograms that are merged, in any order and over their stored form, equal the one of all durations."""
    whole, merged = Histogram(), Histogram()
    for duration in itertools.chain.from_iterable(parts):
        whole.add(duration)
    chance.shuffle(parts)
    for part in parts:
        one = Histogram()
        for duration in part:
            one.add(duration)
        merged.merge(Histogram.decode(one.encode()))
    assert merged == whole
    assert merged.total == sum(map(len, parts))


def test_nothing_has_no_percentile():
    """Where nothing was seen every percentile is 0."""
    assert Histogram().quantiles(0.5, 0.95) == [0.0, 0.0]


def test_a_tally_is_kept():
    """A tally comes back from its stored form as it was."""
    (tally,) = scan_of(summary(step(retries=2, wait=0.5), step(outcome=Outcome.FAILED))).operations.values()
    assert Tally.decode(tally.encode()) == tally
    assert Tally.decode(Tally().encode()) == Tally()


# -- spans


@given(st.integers(-2 * MONTH, 2 * MONTH), st.integers(0, 3 * DAY) | st.integers(0, 3 * MONTH))
def test_a_span_is_covered_once(start, length):
    """Each hour that a span touches is in exactly one of the periods that stand for it, and no other is."""
    begin, stop = rounded(start * SECOND + 1, (start + length) * SECOND + 2)
    assert begin <= start < begin + HOUR
    assert stop - HOUR <= start + length < stop
    hours = [
        hour
        for width, first, last in covering(begin, stop)
        for at in range(first, last, width)
        for hour in range(at, at + width, HOUR)
    ]
    assert hours == list(range(begin, stop, HOUR))


def test_a_long_span_takes_few_tallies():
    """Ten years are covered by their months, and few days and hours at each edge; all time by months alone."""
    spans = list(covering(NOON + HOUR, NOON + HOUR + 3650 * DAY))
    assert sum((last - first) // width for width, first, last in spans) < 3650 // 32 + 2 * (31 + 23)
    assert [width for width, _, _ in covering(None, None)] == [MONTH]
    assert {width for width, _, _ in covering(None, NOON + HOUR)} == set(WIDTHS)


# -- what every journal does


async def test_nothing_has_ended(journal):
    """Of a journal in which nothing has ended there is nothing to tell, and no span."""
    found = await journal.statistics(tenant="")
    assert (found.from_time, found.before_time, found.operations, found.plans) == (None, None, {}, {})
    assert await journal.typical(tenant="") == {}


async def test_what_ends_is_counted(journal, end):
    """Steps are counted by operation and executions by plan: outcomes, retries, waits, durations, bottlenecks."""
    told = [
        summary(step("a", seconds=3, wait=0.5), step("b", retries=2), seconds=5, wait=0.25),
        summary(step("a", Outcome.FAILED, seconds=7, retries=1), outcome=Outcome.FAILED, plan=""),
        summary(step("b", Outcome.CANCELLED, seconds=100, wait=3), outcome=Outcome.CANCELLED),
        summary(outcome=Outcome.FAILED, plan="never ran", wait=None),
    ]
    for one in told:
        await end(one)
    found = await journal.statistics(tenant="")
    a, b, p = found.operations["a"], found.operations["b"], found.plans["p"]
    assert (a.completed, a.failed, a.cancelled, a.retries, a.bottlenecks) == (1, 1, 0, 1, {"a": 2})
    assert (b.completed, b.failed, b.cancelled, b.retries, b.bottlenecks) == (1, 0, 1, 2, {"b": 1})
    assert (a.waited, a.wait_ns, b.waited, b.wait_ns) == (2, SECOND // 2, 1, 0)
    assert (p.completed, p.failed, p.cancelled, p.retries, p.bottlenecks) == (1, 0, 1, 2, {"a": 1, "b": 1})
    assert (p.waited, p.wait_ns) == (1, SECOND // 4)
    assert a.durations.quantiles(0.5)[0] == pytest.approx(3, rel=0.01)
    assert a.failures.quantiles(0.5)[0] == pytest.approx(7, rel=0.01)
    assert (b.durations.total, b.failures.total) == (1, 0)
    assert found.plans["never ran"] == Tally(failed=1, failures=Histogram(found.plans["never ran"].failures._counts))
    assert found.plans[""].failed == 1
    await holds(journal, *told)


async def test_an_execution_that_is_not_to_be_counted(journal, end):
    """What ends without a summary is not in the statistics."""
    await end(None)
    assert (await journal.statistics(tenant="")).plans == {}


async def test_an_append_that_is_refused_counts_nothing(journal, new_record, new_chunk):
    """A terminal chunk of an owner that was replaced leaves no trace in the statistics; that of the new owner does."""
    await journal.create(new_record("e1"))
    await journal.claim("e1", epoch=2)
    told = summary(step())
    for epoch in (1, 2):
        append = journal.append(
            "e1", epoch=epoch, chunk=new_chunk(1, kind=26), state=COMPLETED, snapshot=b"", summary=told
        )
        if epoch == 1:
            with pytest.raises(Conflict):
                await append
            await holds(journal)
        else:
            await append
    await holds(journal, told)


async def test_tenants_are_counted_apart(journal, end):
    """A tenant's statistics have no other's executions."""
    await end(summary(step("a")), tenant="x")
    await end(summary(step("b")))
    assert set((await journal.statistics(tenant="")).operations) == {"b"}
    assert set((await journal.statistics(tenant="x")).operations) == set(await journal.typical(tenant="x")) == {"a"}
    assert (await journal.statistics(tenant="y")).plans == {}


async def test_statistics_outlive_the_executions(journal, end):
    """What was purged is still counted."""
    told = [summary(step(seconds=n)) for n in range(1, 4)]
    for one in told:
        await end(one)
    assert (await journal.purge(Retention(keep_executions=1))).executions == 2
    await holds(journal, *told)


@pytest.mark.parametrize("seed", range(3))
async def test_any_span_equals_a_count_by_hand(journal, end, seed):
    """Statistics of any span equal those of the executions that ended in the hours that it touches."""
    chance = Random(seed)
    told = [
        summary(
            *(step(chance.choice("abc"), seconds=chance.lognormvariate(0, 2)) for _ in range(chance.randint(0, 3))),
            plan=chance.choice(["", "p", "q"]),
            at=NOON + chance.randint(-50 * DAY, 50 * DAY),
            outcome=chance.choice(list(Outcome)),
        )
        for _ in range(60)
    ]
    await asyncio.gather(*map(end, told))
    for _ in range(15):
        edges = sorted(NOON + chance.randint(-60 * DAY, 60 * DAY) for _ in range(2))
        start, stop = (chance.choice([None, edge]) for edge in edges)
        first, last = rounded(None if start is None else start * SECOND, None if stop is None else stop * SECOND)
        inside = [
            one
            for one in told
            if (first is None or one.end_time_ns // SECOND >= first)
            and (last is None or one.end_time_ns // SECOND < last)
        ]
        span = {
            "from_ns": None if start is None else start * SECOND,
            "before_ns": None if stop is None else stop * SECOND,
        }
        await holds(journal, *inside, **span)
        found = await journal.statistics(tenant="", **span)
        hours = [one.end_time_ns // SECOND // HOUR * HOUR for one in inside]
        if inside:
            assert found.from_time == (min(hours) if first is None else first)
            assert found.before_time == (max(hours) + HOUR if last is None else last)


async def test_what_is_typical(journal, end):
    """Typical is what steps took that completed: a quarter, half and three quarters of them, by operation."""
    await asyncio.gather(
        *(end(summary(step("a", seconds=n), step("b", Outcome.FAILED, seconds=n))) for n in range(1, 101))
    )
    (name, found) = next(iter((await journal.typical(tenant="")).items()))
    assert (name, found.count) == ("a", 100)
    assert [found.p25, found.p50, found.p75] == pytest.approx([25, 50, 75], rel=0.01)
    assert list(await journal.typical(tenant="")) == ["a"]


async def test_typical_forgets(journal, end):
    """Typical are the last 30 days on which something ended: what is older does not count, however long ago it was."""
    await end(summary(step("old", seconds=9), step("a", seconds=9), at=NOON - TYPICAL_DAYS * DAY))
    await end(summary(step("a", seconds=2), at=NOON - (TYPICAL_DAYS - 1) * DAY))
    await end(summary(step("a", seconds=2), at=NOON))
    found = await journal.typical(tenant="")
    assert (list(found), found["a"].count) == (["a"], 2)


async def test_names_are_bounded(journal, end):
    """After so many names in an hour others are counted together; those that are known go on being counted apart."""
    await end(summary(plan="p0"))
    await asyncio.gather(*(end(summary(plan=f"p{n}")) for n in range(1, MOST_NAMES + 20)))
    await end(summary(plan="p0"))
    found = (await journal.statistics(tenant="")).plans
    assert len(found) == MOST_NAMES + 1
    assert (found["p0"].completed, found[OTHER].completed) == (2, 20)
    await end(summary(plan="late", at=NOON + MONTH))
    assert (await journal.statistics(tenant="")).plans["late"].completed == 1


# -- in the file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
async def made(path, new_record, new_chunk):
    """A journal with two operations and a plan, in two hours of one day. Nobody has it open."""
    journal = SqliteJournal(path)
    await journal.open()
    end = Ends(journal, new_record, new_chunk)
    await end(summary(step("a", seconds=1), step("b", seconds=2)))
    await end(summary(step("a", seconds=3), at=NOON + HOUR))
    await journal.close()
    return path


def change(path, sql) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql).rowcount


def problems(path) -> list[str]:
    with opened_to_read(path) as connection:
        return [found.problem for found in check(connection).findings if not found.execution_id]


async def test_statistics_stay(made):
    """Statistics are the same after the journal was opened again, and a check finds nothing wrong with them."""
    assert problems(made) == []
    journal = SqliteJournal(made)
    await journal.open()
    await holds(
        journal,
        summary(step("a", seconds=1), step("b", seconds=2)),
        summary(step("a", seconds=3), at=NOON + HOUR),
    )
    await journal.close()


_DAMAGE = [
    "tally = x'7b7d'",
    "tally = CAST(replace(tally, '1', '2') AS BLOB)",
    "tally = 'text'",
    "tally = 7",
    "checksum = checksum + 1",
    "name = 'c'",
    "tenant = 'x'",
    f"start = start + {10 * DAY}",
]


@pytest.mark.parametrize("sql", _DAMAGE)
async def test_a_changed_tally(made, sql, new_record, new_chunk, caplog):
    """A tally that is not what was written is found, left out, said to be left out, and stays as it is; executions end
    beside it as ever.
    """
    change(made, f"UPDATE statistics SET {sql} WHERE kind = 1 AND name = 'a' AND width = {HOUR} AND start = {NOON}")
    assert any("is not what was written" in text or "are not what was written" in text for text in problems(made))
    journal = SqliteJournal(made)
    await journal.open()
    span = {"from_ns": NOON * SECOND, "before_ns": (NOON + 20 * DAY) * SECOND + 1}
    found = await journal.statistics(tenant="x" if "tenant" in sql else "", **span)
    assert found.damaged == (0 if "start" in sql else 1)
    assert "c" not in found.operations
    assert (await journal.typical(tenant=""))["a"].count == 2
    await Ends(journal, new_record, new_chunk, prefix="new")(summary(step("a")))
    record = await journal.get("new0")
    assert record is not None
    assert record.state == COMPLETED
    await journal.close()
    assert any("are not what was written" in text for text in problems(made))


async def test_typical_goes_on_without_what_is_damaged(made):
    """A damaged tally is left out of what is typical, and the others are not."""
    change(made, f"UPDATE statistics SET checksum = 0 WHERE kind = 1 AND name = 'a' AND width = {DAY}")
    journal = SqliteJournal(made)
    await journal.open()
    assert list(await journal.typical(tenant="")) == ["b"]
    await journal.close()


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_missing_tally(made, width):
    """A tally that is gone is found: hours, days and months do not tell the same."""
    change(made, f"DELETE FROM statistics WHERE kind = 2 AND width = {width} AND name = 'p'")
    (problem,) = problems(made)
    assert "statistics of plans" in problem
    assert "some are missing" in problem


async def test_damaged_pages_keep_nothing_from_ending(made, new_record, new_chunk, caplog):
    """Where the pages of the statistics can't be read, executions still end, and the log says what is lacking."""
    with closing(sqlite3.connect(made)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE tbl_name = 'statistics' ORDER BY rootpage LIMIT 1"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with made.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)
    journal = SqliteJournal(made)
    await journal.open()
    await Ends(journal, new_record, new_chunk, prefix="new")(summary(step("a")))
    record = await journal.get("new0")
    assert record is not None
    assert record.state == COMPLETED
    assert "statistics are damaged" in caplog.text
    await journal.close()


async def test_a_bug_in_the_statistics_keeps_nothing_from_ending(path, new_record, new_chunk, monkeypatch, caplog):
    """Where a summary or a tally can't be counted, the execution ends without it, and the log says so."""
    journal = SqliteJournal(path)
    await journal.open()
    end = Ends(journal, new_record, new_chunk)
    await end(replace(summary(step("a")), bottleneck="nobody"))
    await end(summary(step("a")))
    with monkeypatch.context() as patched:
        patched.setattr("stepwire_server.journal.statistics.Tally.encode", lambda _: 1 / 0)
        await end(summary(step("a")))
    await holds(journal, summary(step("a")))
    for name in ("e0", "e1", "e2"):
        record = await journal.get(name)
        assert record is not None
        assert record.state == COMPLETED
    assert caplog.text.count("a bug in the statistics") == 2
    await journal.close()


async def test_what_is_rolled_back_is_counted_once(path, new_record, new_chunk, monkeypatch):
    """Where a transaction fails and its entries are tried one by one, each end is counted once."""
    journal = SqliteJournal(path)
    await journal.open()
    end = Ends(journal, new_record, new_chunk)
    told = [summary(step(seconds=n)) for n in range(1, 6)]
    fails = iter([True])

    def reach(name: str) -> None:
        if name == "before-commit" and next(fails, False):
            raise ValueError("a bug of one entry")

    names = []
    for number in range(len(told)):
        names.append(f"x{number}")
        await journal.create(new_record(names[-1]))
    monkeypatch.setattr("stepwire_server.failpoints.reach", reach)
    await asyncio.gather(
        *(
            journal.append(name, epoch=1, chunk=new_chunk(1, kind=26), state=COMPLETED, snapshot=b"", summary=one)
            for name, one in zip(names, told, strict=True)
        )
    )
    await holds(journal, *told)
    await end(told[0])
    await holds(journal, *told, told[0])
    await journal.close()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 10**12), st.sampled_from(list(Outcome))), max_size=8))
async def test_both_journals_agree(tmp_path_factory, new_record, new_chunk, ends):
    """The journal in memory and the one in a file give the same statistics, whatever ends."""
    found = []
    for journal in (MemoryJournal(), SqliteJournal(tmp_path_factory.mktemp("both") / "journal.db")):
        await journal.open()
        end = Ends(journal, new_record, new_chunk)
        for operation, nanoseconds, outcome in ends:
            one = step(operation, outcome, seconds=nanoseconds / SECOND)
            await end(summary(one, outcome=outcome, at=NOON + nanoseconds // SECOND))
        found.append((await journal.statistics(tenant=""), await journal.typical(tenant="")))
        await journal.close()
    assert found[0] == found[1]
