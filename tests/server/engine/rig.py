"""What the engine's tests share: a clock that moves when it is told to, a journal that can be held, an engine around
one app.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import selectors
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from types import TracebackType
from typing import Any

from google.protobuf import struct_pb2

from stepwire.errors import StorageFull, reason_of
from stepwire.v1 import Event, EventBatch, ExecuteRequest, ExecutionState, Plan, Step
from stepwire.values import to_python
from stepwire_server import App, plan_step
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.executor import Settings
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.rerun import is_planned
from stepwire_server.journal import Chunk, ExecutionRecord, Journal, MemoryJournal

HANGS = 20
"""Seconds after which a test says that something never came."""

START_NS = 1_700_000_000_000_000_000


class _Timer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualClock:
    """A Clock whose time passes in `advance` only; with `skip`, a sleep takes its time at once."""

    def __init__(self, *, seed: int = 0, skip: bool = False) -> None:
        self.random = Random(seed)
        self.slept: list[float] = []
        """Every sleep that was asked for."""
        self.wall_offset_ns = 0
        """What the wall clock is off by: tests set it back."""
        self._now = 0.0
        self._skip = skip
        self._count = itertools.count()
        self._timers: list[tuple[float, int, _Timer]] = []

    def now_ns(self) -> int:
        return START_NS + int(self._now * 1e9) + self.wall_offset_ns

    def monotonic(self) -> float:
        return self._now

    def call_later(self, delay: float, call: Callable[[], None]) -> _Timer:
        timer = _Timer(self._now + delay, call)
        heapq.heappush(self._timers, (timer.due, next(self._count), timer))
        return timer

    async def sleep(self, delay: float) -> None:
        self.slept.append(delay)
        if self._skip:
            self.advance(delay)
            await asyncio.sleep(0)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay, lambda: done.done() or done.set_result(None))
        try:
            await done
        finally:
            timer.cancel()

    @property
    def pending(self) -> list[float]:
        """In how many seconds each timer is due, soonest first."""
        return sorted(timer.due - self._now for _, _, timer in self._timers if not timer.cancelled)

    def advance(self, seconds: float) -> None:
        """Lets time pass, and makes each call that is due at its time."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self._now = max(self._now, due)
                timer.call()
        self._now = end


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when nothing else can happen, and then at once. Where nothing ever would, it
    says so. With no thread at work, the same calls give the same run.
    """

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Leap(self))

    def time(self) -> float:
        return self.now


class _Leap(selectors.DefaultSelector):  # type: ignore[misc, valid-type]  # It is a variable, by the platform.
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing is left that could happen"
            self._loop.now += max(0.0, timeout)
        return ready


class LoopClock:
    """A Clock by the time of a virtual loop, with a wall that can be moved."""

    def __init__(self, loop: VirtualLoop, *, seed: int = 0) -> None:
        self.random = Random(seed)
        self.wall_offset_ns = 0
        self._loop = loop

    def now_ns(self) -> int:
        return START_NS + int(self._loop.time() * 1e9) + self.wall_offset_ns

    def monotonic(self) -> float:
        return self._loop.time()

    def call_later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, call)

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(delay)


class HeldJournal(MemoryJournal):
    """Appends wait while it is held, fail where `fails` says so, and are counted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.turns: Callable[[], int] = lambda: 0
        """How often the event loop goes round between an append's effect and its answer."""
        self.taken: list[tuple[str, int, Chunk]] = []
        """Every append that took effect: execution, epoch, chunk."""
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.fails: list[BaseException | None] = []
        """Raised by the next appends, one each; None lets one through."""
        self.full = False
        """Whether every append raises StorageFull."""
        self.appends: list[Chunk] = []
        """Every chunk that an append was tried with."""
        self.together = 0
        self.most_together: dict[str, int] = {}
        """The most appends of one execution that were under way at once."""
        self.create_gate = asyncio.Event()
        self.create_gate.set()

    def hold(self) -> None:
        self.open_gate.clear()

    def release(self) -> None:
        self.open_gate.set()

    async def create(self, record: ExecutionRecord) -> tuple[ExecutionRecord, bool]:
        await self.create_gate.wait()
        return await super().create(record)

    async def append(
        self, execution_id: str, *, epoch: int, chunk: Chunk, state: Any, snapshot: bytes, summary: Any = None
    ) -> int:
        self.appends.append(chunk)
        self.together += 1
        self.most_together[execution_id] = max(self.most_together.get(execution_id, 0), self.together)
        try:
            await self.open_gate.wait()
            error = self.fails.pop(0) if self.fails else None
            if error is not None:
                raise error
            if self.full:
                raise StorageFull("the disk is full")
            position = await super().append(
                execution_id, epoch=epoch, chunk=chunk, state=state, snapshot=snapshot, summary=summary
            )
            self.taken.append((execution_id, epoch, chunk))
            await turns(self.turns())
            return position
        finally:
            self.together -= 1


class Rig:
    """An engine for one app over one journal, with a virtual clock.

    async with Rig(app) as rig:
        execution_id = await rig.start(plan(step("a", "noop")))
        events = await rig.ended(execution_id)
    """

    def __init__(
        self,
        app: App,
        *,
        journal: Journal | None = None,
        clock: VirtualClock | None = None,
        leaves_tasks: bool = False,
        recover: bool = False,
        **options: Any,
    ) -> None:
        self.journal = journal or MemoryJournal()
        self.clock = clock or VirtualClock()
        self._app = app
        self._opens = journal is None or not getattr(journal, "_open", False)
        self._leaves_tasks = leaves_tasks
        self._recover = recover
        settings = {key: options.pop(key) for key in Settings.__slots__ if key in options}
        options.setdefault("threads", 8)
        self.engine = Engine(app.catalog(), self.journal, settings=Settings(**settings), clock=self.clock, **options)

    async def __aenter__(self) -> Rig:
        self._before = asyncio.all_tasks()
        if self._opens:
            await self.journal.open()
        if self._recover:
            await self.engine.recover()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with asyncio.timeout(HANGS):
            await self.engine.drain(0)
            if kind is None and not self._leaves_tasks:
                self.nothing_is_left()
                await until(lambda: not (asyncio.all_tasks() - self._before), "no task is left")
            else:
                for task in asyncio.all_tasks() - self._before:
                    task.cancel()
        if self._opens:
            await self.journal.close()

    def nothing_is_left(self) -> None:
        """Holds the engine to what it promises of ended executions: no entry, no timer."""
        assert self.engine.running == 0
        assert not self.engine._watchers
        assert not self.engine._unwatched
        assert self.clock.pending == []

    async def start(self, work: Plan | ExecuteRequest) -> str:
        """Accepts a plan or a request, and returns the execution's id."""
        request = ExecuteRequest(plan=work) if isinstance(work, Plan) else work
        return (await self.engine.accept(request)).execution_id

    async def run(self, work: Plan | ExecuteRequest) -> list[Event]:
        """Returns all events of an execution, once it has ended."""
        return await self.ended(await self.start(work))

    async def ended(self, execution_id: str) -> list[Event]:
        """Returns all events of an execution, once it has ended and the engine has let go of it."""
        async with asyncio.timeout(HANGS):
            with self.journal.follow(execution_id, after=0) as follower:
                while not follower.ended:
                    await follower.read(max_events=10_000, max_bytes=1 << 30)
                    if not follower.ended:
                        await follower.wait()
        await until(lambda: execution_id not in self.engine._live, "the engine lets go of it")
        return await self.events(execution_id)

    async def events(self, execution_id: str) -> list[Event]:
        """Returns the events of an execution that are durable."""
        found: list[Event] = []
        while chunks := await self.journal.read(execution_id, after=len(found), max_events=10_000, max_bytes=1 << 30):
            for chunk in chunks:
                found += EventBatch.FromString(chunk.data).events
        return found

    async def durable(self, execution_id: str, kind: str, *, count: int = 1) -> Event:
        """Returns the event of this kind, the `count`th, once it is durable."""
        async with asyncio.timeout(HANGS):
            with self.journal.follow(execution_id, after=0) as follower:
                while True:
                    chosen = of_kind(await self.events(execution_id), kind)
                    if len(chosen) >= count:
                        return chosen[count - 1]
                    await follower.read(max_events=10_000, max_bytes=1 << 30)
                    await follower.wait()

    async def quiet(self) -> None:
        """Lets the event loop do all that it can do now."""
        await turns()

    async def fold(self, execution_id: str) -> Fold:
        """Returns the fold of what the journal has."""
        record = await self.engine.get(execution_id)
        return folded(record, await self.events(execution_id))


async def turns(count: int = 50) -> None:
    """Lets the event loop go round some times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], what: str = "it") -> None:
    """Returns when the condition holds. Serves where threads are at work, too."""
    try:
        async with asyncio.timeout(HANGS):
            while not condition():  # noqa: ASYNC110 - threads are waited for as well, and they set no Event
                await asyncio.sleep(0)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None


def folded(record: ExecutionRecord, events: Iterable[Event]) -> Fold:
    """Returns what folding the events gives."""
    fold = Fold(create_ns=record.create_time_ns, planning=is_planned(ExecuteRequest.FromString(record.request)))
    for event in events:
        fold.apply(event, kind_of(event), event.event_time.ToNanoseconds())
    return fold


def view(fold: Fold) -> dict[str, Any]:
    """Returns everything that two equal folds agree in."""
    return {
        "state": fold.state,
        "sequence": fold.sequence,
        "time": fold.time_ns,
        "start": fold.start_ns,
        "end": fold.end_ns,
        "counts": (fold.completed, fold.failed, fold.skipped),
        "percentage": fold.percentage,
        "attempt_count": fold.attempt_count,
        "steps": [
            (
                step.state,
                step.attempt,
                (step.recoveries, step.lost, step.epoch),
                step.fraction,
                None if step.output is None else str(step.output),
                None if step.saved is None else str(step.saved),
            )
            for step in fold.steps
        ],
        "times": {
            index: (times.started, times.ended, times.duration if times.started and times.ended else None)
            for index, times in fold.times.steps.items()
        },
        "open": {name: (at, str(asked)) for name, (at, asked) in fold.questions.open.items()},
        "answers": {name: str(answer) for name, answer in fold.questions.answers.items()},
        "snapshot": fold.snapshot().SerializeToString(deterministic=True),
    }


def kind_of(event: Event) -> str:
    kind = event.WhichOneof("kind")
    assert kind is not None
    return kind


def kinds(events: Iterable[Event]) -> list[str]:
    return [kind_of(event) for event in events]


def of_kind(events: Iterable[Event], kind: str) -> list[Event]:
    return [event for event in events if kind_of(event) == kind]


def about(events: Iterable[Event], step_id: str) -> list[str]:
    """Returns the kinds of the events about one step."""
    return [kind_of(event) for event in events if event.step_id == step_id]


def failure_of(events: Iterable[Event], step_id: str = "") -> tuple[str, str]:
    """Returns reason and text of the failure of a step, or of the execution."""
    if step_id:
        (event,) = [event for event in of_kind(events, "step_failed") if event.step_id == step_id]
        return reason_of(event.step_failed.error), event.step_failed.error.message
    (event,) = of_kind(events, "plan_failed")
    return reason_of(event.plan_failed.error), event.plan_failed.error.message


def output(events: Iterable[Event], step_id: str = "") -> Any:
    """Returns the output of a step, or of the execution."""
    if step_id:
        (event,) = [event for event in of_kind(events, "step_completed") if event.step_id == step_id]
        return to_python(event.step_completed.output)
    (event,) = of_kind(events, "plan_completed")
    return to_python(event.plan_completed.output)


def state_of(events: list[Event]) -> str:
    return ExecutionState.Name(events[-1].execution_state).removeprefix("EXECUTION_STATE_")


def step(id: str, operation: str = "", **more: Any) -> Step:  # noqa: A002 - the step's own word for it
    """Returns a step that calls the operation of its own name, unless another is given."""
    return plan_step(id, operation or id, **more)


def plan(*steps: Step) -> Plan:
    return Plan(steps=steps)


def request(*steps: Step, **more: Any) -> ExecuteRequest:
    return ExecuteRequest(plan=plan(*steps), **more)


def well_formed(events: list[Event]) -> None:
    """Holds recorded events to what is true of every execution that has ended."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    terminal = {"plan_completed", "plan_failed", "plan_cancelled"}
    assert [kind in terminal for kind in kinds(events)] == [False] * (len(events) - 1) + [True]
    times = [event.event_time.ToNanoseconds() for event in events]
    assert times == sorted(times)
    percentages = [event.progress.percentage for event in events]
    assert percentages == sorted(percentages)
    last = events[-1]
    all_done = last.progress.completed_steps == last.progress.total_steps > 0
    assert (percentages[-1] == 100) == all_done
    assert all(percentage < 100 for percentage in percentages[:-1] if not all_done)


def null() -> struct_pb2.Value:
    return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)


def collect() -> None:
    """Lets go of what nothing refers to, so that what would be said then is said in this test."""
    gc.collect()


Doing = Callable[[], Awaitable[None]]
