"""The watch over the event loop: what it finds, whom it names, and what it is not fooled by."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.e2e.serving import until
from tests.server.engine.rig import Rig

from stepwire.v1 import Plan
from stepwire_server import App, plan_step
from stepwire_server.api.server import ListenError, Options, Server
from stepwire_server.journal import MemoryJournal
from stepwire_server.loop_watch import LoopWatch

STEP = "step e/a (operation charge)"
HERE = re.escape(str(Path(__file__)))
JOIN = r"\S*/threading\.py:\d+, \S+"

INSTALLED = """
async def charge():
    outer()


def outer():
    for thread in looking():
        thread.start()
        thread.join()
"""
"""An operation of an app that is an installed package, and blocks in a function of its own."""


class Watched(LoopWatch):
    """A watch with a bound of 1 s, whose time passes in `passes` only."""

    def __init__(self) -> None:
        self.time = SimpleNamespace(now=0.0, worked=0.0)
        super().__init__(after=1.0, now=lambda: self.time.now, worked=lambda: self.time.worked)
        self.attach()

    def passes(self, seconds: float = 0.25, *, worked: float = 0.0) -> None:
        """Looks, in a thread of its own, after a time in which the process had so many seconds of the processor."""
        self.time.now += seconds
        self.time.worked += worked
        thread = threading.Thread(target=self.look)
        thread.start()
        thread.join()

    def asks(self) -> None:
        """Asks for a sign of life, which the loop gives when it comes to it."""
        self.passes(0.0)

    async def answered(self) -> None:
        """Lets the loop give its sign, and takes it."""
        await asyncio.sleep(0)
        self.passes(0.0)


@pytest.fixture
async def watch() -> Watched:
    """A watch over the test's loop."""
    return Watched()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the watch has said, as it grows."""
    lines: list[str] = []
    caplog.set_level(logging.INFO, "stepwire_server.loop_watch")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("stepwire_server.loop_watch")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


async def test_a_blocked_loop_is_told_of(watch: Watched, told: list[str]) -> None:
    """When a task has blocked the loop for the bound, one line names it, the innermost line of its own code and where
    that stands, and one says at the end how long it took.
    """

    async def block() -> None:
        watch.asks()
        for _ in range(3):
            watch.passes()
        assert told == []
        watch.passes()
        assert watch.blocked.count == 1
        for _ in range(4):
            watch.passes()
        assert watch.blocked.longest == 2.0
        watch.time.now += 0.125

    await asyncio.create_task(block(), name=STEP)
    await watch.answered()
    by = rf"by {re.escape(STEP)}, at {HERE}:\d+, Watched\.passes, in {JOIN}"
    assert len(told) == 2
    assert re.fullmatch(rf"the event loop has been blocked for 1\.0 s {by}; what blocks belongs in .*", told[0]), told[
        0
    ]
    assert re.fullmatch(rf"the event loop goes on; it was blocked for 2\.1 s {by}", told[1]), told
    assert (watch.blocked.count, watch.blocked.longest) == (1, 2.125)


async def test_a_loop_that_answers_is_not_told_of(watch: Watched, told: list[str]) -> None:
    """However often the loop answers late, that is not added up, nor is the time from its answer to the look."""
    for _ in range(5):
        watch.asks()
        for _ in range(3):
            watch.passes()
        await asyncio.sleep(0)
        watch.passes()
    assert told == []
    assert watch.blocked.count == 0


async def test_each_time_counts(watch: Watched, told: list[str]) -> None:
    """Of several times that the loop is blocked, each is told and counted, and the longest stays."""
    for seconds in (1.25, 2.5, 1.0):
        watch.asks()
        for _ in range(int(seconds * 4)):
            watch.passes()
        await watch.answered()
    assert len(told) == 6
    assert (watch.blocked.count, watch.blocked.longest) == (3, 2.5)


async def test_a_frozen_process_is_nobodys_fault(watch: Watched, told: list[str]) -> None:
    """Time that passes while the process is frozen or gets no processor does not count, although the loop is silent."""
    watch.asks()
    watch.passes(0.25)
    watch.passes(30.0, worked=0.01)
    await watch.answered()
    assert told == []
    assert watch.blocked.count == 0


async def test_a_block_that_is_frozen_too(watch: Watched, told: list[str]) -> None:
    """Where the process is frozen while an operation blocks, the operation's own time counts."""
    watch.asks()
    watch.passes(60.0)
    for _ in range(4):
        watch.passes()
    await watch.answered()
    assert len(told) == 2
    assert (watch.blocked.count, watch.blocked.longest) == (1, 1.5)


async def test_code_that_holds_up_all_threads(watch: Watched, told: list[str]) -> None:
    """A look that comes late because the process itself was at work counts in full, and names who is there still."""
    asyncio.current_task().set_name(STEP)  # type: ignore[union-attr]
    watch.asks()
    watch.passes(5.0, worked=4.9)
    assert "blocked for 4.9 s by " + STEP in told[0]
    assert watch.blocked.count == 1


async def test_code_that_holds_up_the_watch(watch: Watched, told: list[str]) -> None:
    """Code that lets no thread run is found also where the loop had given its last sign before it began."""
    asyncio.current_task().set_name(STEP)  # type: ignore[union-attr]
    watch.asks()
    await asyncio.sleep(0)
    watch.passes(5.0, worked=4.75)
    assert "blocked for 4.5 s by " + STEP in told[0]
    await watch.answered()
    assert "goes on; it was blocked for 4.5 s by " + STEP in told[1]
    await asyncio.sleep(0)
    watch.passes(30.0, worked=0.5)
    await watch.answered()
    assert (len(told), watch.blocked.count) == (2, 1)


async def test_the_first_moment(watch: Watched, told: list[str]) -> None:
    """What blocks the loop right after the watch has begun, for all threads, is found too."""
    watch.passes(5.0, worked=5.0)
    await watch.answered()
    assert (len(told), watch.blocked.count) == (2, 1)


async def test_what_was_over_before_it_was_seen(watch: Watched, told: list[str]) -> None:
    """A block that ended before anyone could look is counted, and told of without a culprit."""
    watch.asks()
    watch.time.now += 4.0
    watch.time.worked += 4.0
    await watch.answered()
    assert told == ["the event loop goes on; it was blocked for 4.0 s by something that was over before it was seen"]
    assert (watch.blocked.count, watch.blocked.longest) == (1, 4.0)


async def test_a_loop_that_goes_on_meanwhile(watch: Watched, told: list[str]) -> None:
    """Where the loop goes on while it is looked at, nobody is named who only came after."""
    entered, gate, loop_thread = threading.Event(), threading.Event(), threading.get_ident()

    class Slow:
        worked = 5.0

        @property
        def now(self) -> float:
            if threading.get_ident() != loop_thread:
                entered.set()
                assert gate.wait(10)
            return 5.0

    watch.asks()
    watch.time = Slow()  # type: ignore[assignment]
    thread = threading.Thread(target=watch.look)
    thread.start()
    assert entered.wait(10)
    await asyncio.sleep(0)
    gate.set()
    thread.join()
    assert told == []
    watch.look()
    assert told == ["the event loop goes on; it was blocked for 5.0 s by something that was over before it was seen"]


@pytest.mark.parametrize(
    ("looks", "culprit"),
    [((1, 1, 1, 1), "many tasks, one after another; one is step "), ((1, 4), "step 2, at "), ((3, 1), "step 1, at ")],
)
async def test_who_is_to_blame(watch: Watched, told: list[str], looks: tuple[int, ...], culprit: str) -> None:
    """The task that was seen for most of the time is named; where there is none, that they are many."""

    async def block(times: int) -> None:
        if times == 0:
            watch.asks()
        for _ in range(times):
            watch.passes()

    async with asyncio.TaskGroup() as group:
        # The first asks for a sign, which comes after the turn of all the others.
        for number, times in enumerate((0, *looks)):
            group.create_task(block(times), name=f"step {number}")
    await watch.answered()
    assert len(told) == 2
    assert f"1.0 s by {culprit}" in told[0]
    assert f" s by {culprit}" in told[1]


async def test_no_task(watch: Watched, told: list[str]) -> None:
    """Where a callback blocks the loop, no task is named, but where the loop stands."""

    def block() -> None:
        watch.asks()
        for _ in range(4):
            watch.passes()

    asyncio.get_running_loop().call_soon(block)
    await asyncio.sleep(0)
    assert re.search(rf" s by no task but a callback, or a thread that lets no other one run, at {JOIN};", told[0]), (
        told
    )


async def test_the_line_of_an_operation(watch: Watched, told: list[str]) -> None:
    """In an app that is an installed package the operation itself is named, not the engine that called it."""

    def blocked() -> None:
        watch.time.now += 2.0
        watch.time.worked += 2.0
        watch.look()

    names: dict[str, Any] = {"looking": lambda: (threading.Thread(target=each) for each in (watch.look, blocked))}
    exec(compile(INSTALLED, "/venv/site-packages/shop.py", "exec"), names)
    app = App("shop")
    app.operation("charge")(names["charge"])
    async with Rig(app) as rig:
        execution_id = await rig.start(Plan(steps=[plan_step("a", "charge")]))
        await rig.ended(execution_id)
    step = re.escape(f"step {execution_id}/a (operation charge)")
    assert re.search(rf"by {step}, at /venv/site-packages/shop\.py:3, charge, in {JOIN};", told[0]), told


async def test_it_watches_in_a_thread(told: list[str]) -> None:
    """A loop that was started with a watch is found blocked while it is, and its thread is gone when it is stopped."""
    watch = LoopWatch(after=0.05)
    watch.start()
    name = asyncio.current_task().get_name()  # type: ignore[union-attr]
    until(lambda: any(f"s by {name}, at " in line for line in told), "the first line")
    assert watch.blocked.count >= 1
    while not any("goes on" in line and name in line for line in told):  # noqa: ASYNC110 - a thread is waited for
        await asyncio.sleep(0)
    watch.stop()
    assert watching() == []
    assert watch.blocked.longest >= 0.05


def test_it_ends_with_the_loop(told: list[str]) -> None:
    """Where the loop is closed and nobody has stopped the watch, it ends without a word, and it keeps no process."""

    async def leave() -> None:
        LoopWatch(after=0.3).start()

    asyncio.run(leave())
    for thread in watching():
        assert thread.daemon
        thread.join(10)
    assert watching() == []
    assert told == []


async def test_a_bug_in_it_ends_it_alone(told: list[str]) -> None:
    """What goes wrong in the watch is logged once, and harms nothing."""
    times = iter([0.0, 0.0])
    watch = LoopWatch(after=0.02, now=lambda: next(times))
    watch.start()
    while watching():  # noqa: ASYNC110 - a thread is waited for
        await asyncio.sleep(0)
    watch.stop()
    assert told == ["a bug in the watch over the event loop; it is not watched any more"]


async def test_a_server_has_one() -> None:
    """A server watches its loop from start to stop, and where its start fails nothing of the watch is left."""
    async with Server(App("empty").catalog(), MemoryJournal()) as server:
        assert len(watching()) == 1
        with pytest.raises(ListenError):
            await Server(App("empty").catalog(), MemoryJournal(), Options(listen=server.address)).start()
        assert len(watching()) == 1
    assert watching() == []


def watching() -> list[threading.Thread]:
    """Returns the threads of watches."""
    return [thread for thread in threading.enumerate() if thread.name == "stepwire-loop-watch"]
