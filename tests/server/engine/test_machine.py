"""A state machine over the engine: callers, operations, time, the journal and the process do what they like, in any
order, and the promises hold after each move.

Real: the engine, the fold, the checkers of the fault suite. Not real: the time (a virtual loop), the journal (memory
that can be slow, full, or refuse), the operations (puppets that do what they are told).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.e2e.watchers import frames
from tests.faults.checkers import CHECKERS
from tests.faults.history import Append, Effect, History, Kept, Reply, events_of

from stepwire.errors import JournalUnavailable, StepwireError
from stepwire.v1 import Event, ExecuteRequest, ExecutionOptions, ExecutionState, Plan, Retry
from stepwire_server import App, StepContext, plan_step
from stepwire_server.engine.context import StepEnded
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.executor import Settings
from stepwire_server.engine.operation import Catalog
from stepwire_server.engine.step_runner import StepRunner
from stepwire_server.journal import ENDED, Conflict, ExecutionRecord

from .rig import START_NS, HeldJournal, LoopClock, VirtualLoop, folded, turns, view

GRACE = 5.0
"""Seconds that cancelled operations have."""

PENDING = 2_000
"""Bytes of events that may wait for the journal before operations have to."""

LONG = 100.0
"""Seconds in which everything that waits for a time has had it."""

STEPS = 25
"""Moves in one example, at most."""

JUDGED = ("P2", "P8", "P10", "P11", "P12", "P13", "P16", "P17")

WORDS = ["progress", "content", "save", "finish", "raise", "swallow", "cancelled", "exit", "unfit", "much"]
LAST_WORDS = {"finish", "raise", "cancelled", "exit", "unfit"}

counts = {"examples": 0, "moves": 0, "executions": 0, "events": 0, "crashes": 0, "drains": 0}


@dataclass(kw_only=True)
class Puppet:
    """One attempt of a step, which does what it is told."""

    step: StepContext
    began: float
    inbox: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    over: bool = False
    said: int = 0

    async def act(self) -> Any:
        swallows = False
        try:
            while True:
                try:
                    word = await self.inbox.get()
                    if word in LAST_WORDS:
                        break
                    swallows = swallows or word == "swallow"
                    await self._say(word)
                except asyncio.CancelledError:
                    if not swallows:
                        raise
            return _last(word)
        finally:
            self.over = True

    async def _say(self, word: str) -> None:
        self.said += 1
        match word:
            case "progress":
                await self.step.progress(min(100, 10 * self.said), "on")
            case "much":
                for _ in range(30):
                    await self.step.content("piece " * 20)
            case "content":
                await self.step.content("piece")
            case "save":
                await self.step.save((self.step.saved or 0) + 1)


def _last(word: str) -> Any:
    match word:
        case "finish":
            return {"done": True}
        case "raise":
            raise RuntimeError("the operation fails")
        case "cancelled":
            raise asyncio.CancelledError
        case "exit":
            raise SystemExit(3)
        case _:
            return object()


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A graph of one to four steps."""
    steps = []
    for number in range(draw(st.integers(1, 4))):
        earlier = [step.id for step in steps]
        retry = None
        if draw(st.booleans()):
            retry = Retry(attempts=3, jitter=0.5)
            retry.initial_delay.FromSeconds(2)
        operation = draw(st.sampled_from(["act", "act", "once"]))
        needs = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=2)) if earlier else []
        timeout = draw(st.sampled_from([None, None, 4.0]))
        steps.append(
            plan_step(
                f"s{number}",
                operation,
                depends_on=needs,
                retry=retry if operation == "act" else None,
                timeout=timeout,
                weight=draw(st.sampled_from([None, 0.5, 3.0])),
            )
        )
    return Plan(steps=steps)


@st.composite
def options_(draw: st.DrawFn) -> ExecutionOptions:
    made = ExecutionOptions(max_parallel_steps=draw(st.sampled_from([0, 1, 2])))
    if draw(st.booleans()):
        made.failure_policy = ExecutionOptions.FAILURE_POLICY_FAIL_FAST
    limit = draw(st.sampled_from([0, 0, 30]))
    if limit:
        made.time_limit.FromSeconds(limit)
    unwatched = draw(st.sampled_from([0, 0, 3]))
    if unwatched:
        made.cancel_if_unwatched_for.FromSeconds(unwatched)
    return made


TURNS = st.sampled_from([0, 1, 3, 60])
"""How often the event loop goes round after a move: nothing, something, or all that can happen has happened."""

WHICH = st.integers(0, 7)

SELDOM = st.sampled_from([False, False, True])
"""For what stops everything: with too much of it, nothing else is tried."""


class Stage:
    """The machine that plays now. One catalog serves all of them: to make it takes longer than to play."""

    machine: EngineMachine


def _catalog() -> Catalog:
    app = App("machine")

    async def act(step: StepContext) -> Any:
        """Do what is said."""
        return await Stage.machine.perform(step)

    app.operation("act")(act)
    app.operation("once", at_most_once=True)(act)

    @app.planner
    async def think(query: str) -> Plan:
        """Think for a while, then plan or fail."""
        await Stage.machine.clock.sleep(2)
        if "fail" in query:
            raise RuntimeError("no idea")
        return Plan(steps=[plan_step("s0", "act"), plan_step("s1", "once", depends_on=["s0"])])

    return app.catalog()


CATALOG = _catalog()


class EngineMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(lambda _, context: self.astray.append(context))
        self.astray: list[dict[str, Any]] = []
        """What tasks raised and nobody took."""
        self.clock = LoopClock(self.loop)
        self.journal = HeldJournal(now_ns=self.clock.now_ns)
        chance = Random(0)
        self.journal.turns = lambda: chance.choice((0, 0, 1, 4))
        self.puppets: list[Puppet] = []
        self.history = History(complete=False, wall=START_NS / 1e9)
        self.requests: list[ExecuteRequest] = []
        self.known: dict[str, set[str]] = {}
        """What each request id was answered with."""
        self.calls: list[tuple[asyncio.Task[Any], Callable[[Any], None]]] = []
        self.watchers: list[contextlib.ExitStack] = []
        self.due: dict[str, float] = {}
        """When the executions that were cancelled must have ended."""
        self.lost = False
        """Whether an append was refused, so that an execution may have no owner until the next start."""
        self.checked: dict[str, int] = {}
        self.old: list[Engine] = []
        self.calm = 0
        """Moves since the process was replaced."""
        Stage.machine = self
        self.engine = self._new_engine()
        self._run(self.journal.open())
        counts["examples"] += 1

    async def perform(self, step: StepContext) -> Any:
        """Has a puppet act."""
        self.history.effects.append(
            Effect(
                execution_id=step.execution_id,
                step_id=step.id,
                attempt=step.attempt,
                at_most_once=step.operation == "once",
                saved=int(step.saved or 0),
            )
        )
        puppet = Puppet(step=step, began=self.loop.now)
        self.puppets.append(puppet)
        return await puppet.act()

    def _new_engine(self) -> Engine:
        numbers = itertools.count(len(self.known) * 1000 + len(self.old) * 1_000_000)
        return Engine(
            CATALOG,
            self.journal,
            settings=Settings(cancel_grace=GRACE, max_pending_bytes=PENDING, max_parallel_steps=3),
            clock=self.clock,
            new_id=lambda: f"e{next(numbers)}",
        )

    def _run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    def _call(self, call: Coroutine[Any, Any, Any], then: Callable[[Any], None]) -> None:
        async def made() -> Any:
            return await call

        self.calls.append((self.loop.create_task(made()), then))

    @property
    def ids(self) -> list[str]:
        return list(self.journal._records)

    @property
    def out_of_order(self) -> bool:
        """Whether nothing can be expected in time now."""
        return self.lost or self.journal.full or not self.journal.open_gate.is_set()

    # -- what callers do

    @rule(plan=plans(), options=options_(), turns_=TURNS)
    def start(self, plan: Plan, options: ExecutionOptions, turns_: int) -> None:
        self._begin(ExecuteRequest(plan=plan, options=options), 1, turns_)

    @rule(query=st.sampled_from(["plan it", "fail"]), options=options_(), turns_=TURNS)
    def ask(self, query: str, options: ExecutionOptions, turns_: int) -> None:
        self._begin(ExecuteRequest(query=query, options=options), 1, turns_)

    @rule(plan=plans(), turns_=TURNS)
    def start_together(self, plan: Plan, turns_: int) -> None:
        self._begin(ExecuteRequest(plan=plan), 3, turns_)

    @precondition(lambda self: self.requests)
    @rule(which=WHICH, turns_=TURNS)
    def start_again(self, which: int, turns_: int) -> None:
        self._accept(self.requests[which % len(self.requests)])
        self._run(turns(turns_))

    def _begin(self, request: ExecuteRequest, times: int, turns_: int) -> None:
        request.request_id = f"r{len(self.requests)}"
        self.requests.append(request)
        for _ in range(times):
            self._accept(request)
        self._run(turns(turns_))

    def _accept(self, request: ExecuteRequest) -> None:
        def accepted(record: ExecutionRecord) -> None:
            self.known.setdefault(request.request_id, set()).add(record.execution_id)

        self._call(self.engine.accept(request), accepted)

    @precondition(lambda self: self.ids)
    @rule(which=WHICH, stubborn=st.booleans(), turns_=TURNS, seconds=st.sampled_from([0, 0, 10]))
    def cancel(self, which: int, stubborn: bool, turns_: int, seconds: int) -> None:
        execution_id = self.ids[-1 - which % len(self.ids)]
        for puppet in self._acting():
            if stubborn and puppet.step.execution_id == execution_id:
                puppet.inbox.put_nowait("swallow")
        self._run(turns(2))
        self.history.replies.append(
            Reply(method="CancelExecution", sent=0, at=self.loop.now, status="", execution_id=execution_id)
        )

        def accepted(_: ExecutionRecord) -> None:
            self.due.setdefault(execution_id, self.loop.now + GRACE)

        self._call(self.engine.cancel(execution_id, actor="a", reason="b"), accepted)
        self._run(turns(turns_))
        self._take_answers()
        self._run(asyncio.sleep(seconds))

    @precondition(lambda self: self.ids)
    @rule(which=WHICH, turns_=TURNS)
    def watch(self, which: int, turns_: int) -> None:
        stack = contextlib.ExitStack()
        stack.enter_context(self.engine.watched(self.ids[which % len(self.ids)]))
        self.watchers.append(stack)
        self._run(turns(turns_))

    @precondition(lambda self: self.watchers)
    @rule(which=WHICH, turns_=TURNS)
    def unwatch(self, which: int, turns_: int) -> None:
        async def leave() -> None:
            self.watchers.pop(which % len(self.watchers)).close()

        self._run(leave())
        self._run(turns(turns_))

    # -- what operations do

    def _acting(self) -> list[Puppet]:
        return [puppet for puppet in self.puppets if not puppet.over]

    @precondition(lambda self: self._acting())
    @rule(which=WHICH, words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), turns_=TURNS)
    def act(self, which: int, words: list[str], turns_: int) -> None:
        acting = self._acting()
        for word in words:
            acting[which % len(acting)].inbox.put_nowait(word)
        self._run(turns(turns_))

    @precondition(lambda self: self._acting())
    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), turns_=TURNS)
    def act_newest(self, words: list[str], turns_: int) -> None:
        for word in words:
            self._acting()[-1].inbox.put_nowait(word)
        self._run(turns(turns_))

    @precondition(lambda self: self._acting())
    @rule(seconds=st.sampled_from([0, 3]))
    def be_stubborn(self, seconds: int) -> None:
        for puppet in self._acting():
            puppet.inbox.put_nowait("swallow")
        self._run(asyncio.sleep(seconds))

    @precondition(lambda self: self._acting())
    @rule(turns_=TURNS)
    def finish_all(self, turns_: int) -> None:
        for puppet in self._acting():
            puppet.inbox.put_nowait("finish")
        self._run(turns(turns_))

    @precondition(lambda self: any(puppet.over for puppet in self.puppets))
    @rule(which=WHICH)
    def speak_after_the_end(self, which: int) -> None:
        over = [puppet for puppet in self.puppets if puppet.over]

        async def speak() -> None:
            await turns(2)  # Its attempt ends a moment after its function.
            with pytest.raises(StepEnded):
                await over[which % len(over)].step.progress(99, "after the end")

        self._run(speak())

    # -- what the world does

    @rule(seconds=st.sampled_from([1.0, 2.5, 6.0, 10.0, 40.0]))
    def advance(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    @rule()
    def set_the_wall_clock_back(self) -> None:
        self.clock.wall_offset_ns -= 3600 * 10**9

    @precondition(lambda self: self.journal.open_gate.is_set())
    @rule(really=SELDOM)
    def hold_the_journal(self, really: bool) -> None:
        if really:
            self.journal.hold()

    @precondition(lambda self: not self.journal.open_gate.is_set())
    @rule(turns_=TURNS)
    def release_the_journal(self, turns_: int) -> None:
        self.journal.release()
        self._put_off()
        self._run(turns(turns_))

    @rule(really=SELDOM)
    def fill_or_empty_the_disk(self, really: bool) -> None:
        if really or self.journal.full:
            self.journal.full = not self.journal.full
            # What waits for room tries each second.
            self._put_off(1.0)

    @rule(really=SELDOM, conflict=st.booleans())
    def refuse_the_next_append(self, really: bool, conflict: bool) -> None:
        if really:
            self.journal.fails.append(Conflict("another one has it") if conflict else JournalUnavailable("gone"))
            self.lost = True

    @precondition(lambda self: self.calm > 3)
    @rule()
    def crash(self) -> None:
        """The process is gone as far as anybody can tell; really it goes on, and must notice that it was replaced."""
        counts["crashes"] += 1
        for task in self.engine._accepting:
            task.cancel()
        self._replace()

    @precondition(lambda self: self.calm > 3)
    @rule(grace=st.sampled_from([0.0, 3.0]))
    def drain(self, grace: float) -> None:
        counts["drains"] += 1
        self._run(self.engine.drain(grace))
        assert self.engine.running == 0
        self._replace()

    def _replace(self) -> None:
        self.watchers.clear()
        self.old.append(self.engine)
        self.journal.fails.clear()
        self.engine = self._new_engine()
        self._run(self.engine.recover())
        self.lost = False
        self.calm = 0
        self._put_off()

    def _put_off(self, seconds: float = 0.0) -> None:
        """Gives every cancelled execution its grace again."""
        for execution_id in self.due:
            self.due[execution_id] = self.loop.now + GRACE + seconds

    # -- what holds after each move

    @invariant()
    def promises_hold(self) -> None:
        counts["moves"] += 1
        self.calm += 1
        self._take_answers()
        changed = {
            execution_id: self._kept(execution_id)
            for execution_id, record in self.journal._records.items()
            if self.checked.get(execution_id) != record.last_sequence
        }
        self.checked |= {execution_id: kept.last_sequence for execution_id, kept in changed.items()}
        self._judge(changed)
        assert self.astray == []

    @invariant()
    def live_state_is_what_the_journal_gives(self) -> None:
        for execution_id, executor in self.engine._live.items():
            if executor.recorder._appending is None and executor.recorder._lost is None:
                kept = self._kept(execution_id)
                events = [Event.FromString(frame) for frame in kept.frames]
                assert view(executor.fold) == view(folded(self.journal._records[execution_id], events))

    @invariant()
    def one_request_has_one_execution(self) -> None:
        for request_id, found in self.known.items():
            assert len(found) == 1, (request_id, found)
        by_request = [record.request_id for record in self.journal._records.values()]
        assert len(by_request) == len(set(by_request))

    @invariant()
    def cancelled_ones_end_in_time(self) -> None:
        if self.out_of_order:
            return
        for execution_id, due in self.due.items():
            assert self.loop.now < due + 0.5 or self.journal._records[execution_id].state in ENDED, execution_id

    @invariant()
    def unwatched_ones_are_minded(self) -> None:
        for execution_id, executor in self.engine._live.items():
            over = executor.fold.ended or executor.fold.state == ExecutionState.EXECUTION_STATE_CANCELLING
            if executor.unwatched_limit is not None and not over and not self.lost:
                watched = execution_id in self.engine._watchers
                assert watched != (execution_id in self.engine._unwatched), "no timer, or one too many"

    @invariant()
    def pending_is_bounded(self) -> None:
        for executor in self.engine._live.values():
            # What is beyond the bound is the engine's own: a few events for each step, of some hundred bytes.
            assert executor.recorder._pending_bytes < PENDING + 4_000

    @invariant()
    def nothing_runs_beyond_its_time(self) -> None:
        began = {id(puppet.step): puppet.began for puppet in self.puppets}
        for executor in self.engine._live.values():
            for runner in executor._running.values():
                timeout, now = runner.step.timeout.ToNanoseconds() / 1e9, self.loop.now
                if timeout and not self.out_of_order and runner._context is not None:
                    # What has not even begun to run has no time yet.
                    assert now < began.get(id(runner._context), now) + timeout + GRACE + 0.5

    def _take_answers(self) -> None:
        for task, then in [call for call in self.calls if call[0].done()]:
            if task.cancelled():
                continue
            error = task.exception()
            if error is None:
                then(task.result())
            else:
                assert isinstance(error, StepwireError), repr(error)
        self.calls = [call for call in self.calls if not call[0].done()]

    def _judge(self, changed: dict[str, Kept], *, complete: bool = False) -> None:
        history = History(
            complete=complete,
            journal=changed,
            wall=self.history.wall,
            replies=self.history.replies,
            effects=[effect for effect in self.history.effects if self._is_known(effect, changed)],
            appends=[
                Append(execution_id=execution_id, epoch=epoch, first=chunk.first, last=chunk.last)
                for execution_id, epoch, chunk in self.journal.taken
                if execution_id in changed
            ],
        )
        for name in JUDGED:
            found = list(CHECKERS[name](history))
            assert not found, (name, found)

    def _is_known(self, effect: Effect, changed: dict[str, Kept]) -> bool:
        """Whether the journal knows the attempt. One that began while the journal took nothing, in a process that was
        lost, is no attempt for whoever comes next: its number is given again.
        """
        kept = changed.get(effect.execution_id)
        return kept is not None and (
            effect.at_most_once
            or any(
                event.HasField("step_started") and (event.step_id, event.attempt) == (effect.step_id, effect.attempt)
                for event in events_of(kept)
            )
        )

    def _kept(self, execution_id: str) -> Kept:
        record = self.journal._records[execution_id]
        chunks = self.journal._chunks[execution_id]
        return Kept(
            execution_id=execution_id,
            request_id=record.request_id,
            request=record.request,
            create_time_ns=record.create_time_ns,
            epoch=record.epoch,
            state=record.state,
            last_sequence=record.last_sequence,
            snapshot=record.snapshot,
            firsts=[chunk.first for chunk in chunks],
            counts=[len(chunk) for chunk in chunks],
            frames=[frame for chunk in chunks for frame in frames(chunk.data)],
        )

    def teardown(self) -> None:
        """At last the world is kind: then everything ends, and nothing is left over."""
        try:
            self._end()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self._run(turns(20))
            self.loop.close()

    def _end(self) -> None:
        self.journal.release()
        self.journal.full = False
        if self.lost:
            self._replace()
        for _ in range(40):
            for puppet in self._acting():
                puppet.inbox.put_nowait("finish")
            self._run(asyncio.sleep(LONG))
            if not any(engine.running for engine in (self.engine, *self.old)) and not self._acting():
                break
        self.promises_hold()
        live = {engine_.running for engine_ in (self.engine, *self.old)}
        assert live == {0}, "an owner goes on, or an execution never ends"
        self._judge({execution_id: self._kept(execution_id) for execution_id in self.ids}, complete=True)
        assert self.engine.abandoned == 0
        assert not self.engine._unwatched
        counts["executions"] += len(self.ids)
        counts["events"] += sum(record.last_sequence for record in self.journal._records.values())


@pytest.fixture
def quiet() -> Iterator[None]:
    """No log: it would be of what puppets do."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_it_would_see_an_operation_that_is_never_let_go_of(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine sees a cancel that does not end: where nothing is abandoned after the grace, it fails."""
    monkeypatch.setattr(StepRunner, "_give_up", lambda _: None)
    machine = EngineMachine()
    try:
        machine.start(Plan(steps=[plan_step("s0", "act")]), ExecutionOptions(), 60)
        machine.cancel(which=0, stubborn=True, turns_=60, seconds=10)
        with pytest.raises(AssertionError, match="e0"):
            machine.cancelled_ones_end_in_time()
    finally:
        machine.teardown()


@pytest.mark.timeout(1800)
def test_the_promises_hold_whatever_comes(quiet: None) -> None:
    """In whatever order callers, operations, the journal, the clock and crashes come, every promise holds after each of
    them, and in the end everything has ended.
    """
    examples = int(os.environ.get("MACHINE_EXAMPLES") or (5_000 if os.environ.get("FAULTS_LONG") else 200))
    run_state_machine_as_test(
        EngineMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=[Phase.generate] if os.environ.get("MACHINE_NO_SHRINK") else list(Phase),
        ),
    )
    print(", ".join(f"{value:,} {name}" for name, value in counts.items()))
