"""Stepwire's side of the benchmark: a real server and a real client do a little of each kind of work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .process import Failed, Program

SUBJECT = "tests.bench.stepwire_subject"
SECONDS = 30.0


class Driver:
    """A client of the server that the tests share."""

    def __init__(self, target: str, reader: str) -> None:
        self.program = Program(SUBJECT, "drive", "--target", target, "--reader", reader)
        assert self.program.hear(seconds=SECONDS) == {"ready": True}

    def ask(self, **command: Any) -> dict[str, Any]:
        self.program.tell(**command)
        return self.program.hear(seconds=SECONDS)


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    server = Program(SUBJECT, "serve", "--journal", "memory")
    yield server.hear(seconds=SECONDS)["target"]
    server.close()


@pytest.fixture
def driver(target: str) -> Iterator[Driver]:
    driver = Driver(target, "aio")
    yield driver
    driver.program.close()


@pytest.mark.parametrize("reader", ["aio", "sync", "bare"])
def test_each_reader_reads_a_stream(target: str, reader: str) -> None:
    """Each way of reading gets an execution flat out, one at a pace with latencies, and a replay."""
    driver = Driver(target, reader)
    try:
        flat = driver.ask(events=300)
        assert flat["events"] == 300
        assert 0 < flat["first_ms"] < flat["seconds"] * 1e3
        paced = driver.ask(events=100, rate=1000)
        assert 0 < paced["p50_ms"] <= paced["p99_ms"] <= paced["max_ms"]
        assert driver.ask(replay=flat["execution_id"], after=100, events=200)["events"] == 200
    finally:
        driver.program.close()


def test_what_does_not_come_is_an_error(driver: Driver) -> None:
    """A stream that ends before the events that were asked for fails the run."""
    execution_id = driver.ask(events=50)["execution_id"]
    with pytest.raises(Failed, match="the stream ended with event 50 of 51"):
        driver.ask(replay=execution_id, events=51)


def test_many_calls_and_many_steps(driver: Driver) -> None:
    """Calls of 14 events, a chain and a fan are checked to their end."""
    assert driver.ask(calls=5, events=14)["events"] == 70
    for shape in ("chain", "fan"):
        figures = driver.ask(shape=shape, steps=20)
        assert figures["events"] == 42
        assert 0 < figures["own_seconds"] < figures["seconds"]


def test_a_crowd_begins_together(driver: Driver) -> None:
    """All watchers of a crowd see all events of an execution that begins when they are there."""
    figures = driver.ask(watchers=5, events=200)
    assert (figures["watchers"], figures["events"]) == (5, 200)
    assert figures["own_seconds"] > 0


def test_idle_watchers_are_let_go(driver: Driver) -> None:
    """Idle watchers stay until they are released, and can come again."""
    for _ in range(2):
        assert driver.ask(idle=5)["watchers"] == 5
        assert driver.ask(release=True)["released"] == 5


def test_a_slow_reader_is_behind(target: str, driver: Driver) -> None:
    """A reader that takes its time is behind when the fast one has all."""
    slow = Driver(target, "aio")
    try:
        question = driver.ask(hold=5_000)
        slow.ask(crawl=question["execution_id"], pause=5)
        assert driver.ask(follow=question["execution_id"], input_id=question["input_id"], events=5_000)["seconds"] > 0
        assert slow.ask(release=True)["reached"] < 5_000
    finally:
        slow.program.close()


def test_resumes_and_pages_are_timed(driver: Driver) -> None:
    """A resume at the end and a page of the list say how long they took."""
    ended = [driver.ask(events=20)["execution_id"] for _ in range(2)]
    assert driver.ask(resume=ended[0], after=19, times=3)["seconds"] > 0
    assert driver.ask(pages=1, size=2)["pages"] == 1
