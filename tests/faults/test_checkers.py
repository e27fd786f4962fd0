"""Checkers that find nothing prove nothing: each is shown what it must find, and a good history, where it must not."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwire.v1 import Execution

from . import evidence, mutations
from .checkers import CHECKERS, check
from .history import History, events_of
from .mutations import MUTATIONS, good_history
from .pauses import lost_pauses


@pytest.fixture(scope="module")
def once() -> History:
    """A good history, made once."""
    return asyncio.run(good_history())


@pytest.fixture
def history(once: History) -> History:
    """A good history, to be spoiled."""
    return copy.deepcopy(once)


def test_a_good_history_is_good(history: History) -> None:
    """No checker finds anything in a good history."""
    assert check(history) == {}


def test_an_outage_does_not_count(history: History) -> None:
    """An execution that ends late after a cancel is in time where the server was dead meanwhile."""
    mutations.end_too_late(history)
    assert list(CHECKERS["P13"](history))
    end = events_of(mutations.kept(history, 2))[-1].event_time.ToNanoseconds() / 1e9 - history.wall
    history.outages.append((end - 58, end))
    assert list(CHECKERS["P13"](history)) == []


def test_a_cancel_takes_back_no_pause(history: History) -> None:
    """Who was told of a pause may be told of a cancel after it in the same snapshot."""
    after = mutations.find(history, "plan_paused", number=4) + 1
    mutations.change(history, after, lambda event: event.plan_cancelling.SetInParent(), 4)
    reply = next(reply for reply in history.replies if reply.method == "PauseExecution")
    snapshot = Execution.FromString(reply.execution)
    snapshot.as_of_sequence = after
    reply.execution = snapshot.SerializeToString()
    assert events_of(mutations.kept(history, 4))[after - 1].HasField("plan_cancelling")
    assert list(lost_pauses(history)) == []


def test_what_is_kept_is_judged_alike(history: History, tmp_path: Path) -> None:
    """A history that was kept as evidence, beside the files of its server, shows the same violations as before."""
    mutations.end_too_late(history)
    found = check(history)
    assert found
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.db").write_bytes(b"the journal")
    kept = tmp_path / "kept"
    for _ in range(2):
        evidence.keep(history, found, of=tmp_path / "run", to=kept)
    assert evidence.judge(kept) == found
    assert (kept / "journal.db").read_bytes() == b"the journal"
    assert (kept / "violations.txt").read_text("utf-8").startswith("P13: ")


def test_every_checker_is_proven() -> None:
    """Every checker has mutations that it must catch."""
    assert MUTATIONS.keys() == CHECKERS.keys()


@pytest.mark.parametrize(
    ("promise", "mutate"),
    [
        pytest.param(promise, mutate, id=f"{promise}-{mutate.__name__}")
        for promise, mutations in MUTATIONS.items()
        for mutate in mutations
    ],
)
def test_a_checker_catches(history: History, promise: str, mutate: Callable[[History], None]) -> None:
    """A checker names what was spoiled, in words."""
    mutate(history)
    violations = list(CHECKERS[promise](history))
    assert violations
    assert all(len(violation) > 20 for violation in violations)
