"""A state machine over the engine: callers, operations, time, the journal and the process do what they like, in any
order, and the promises hold after each move.

Real: the engine, the fold, the checkers of the fault suite. Not real: the time (a virtual loop), the journal (memory
that can be slow, full, or refuse), the operations (puppets that do what they are told).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.e2e.watchers import frames
from tests.faults.checkers import CHECKERS
from tests.faults.history import Append, Effect, History, Kept, Reply, events_of
from tests.server.journal.scan import scan

from stepwire.errors import JournalUnavailable, StepwireError, reason_of
from stepwire.v1 import Event, ExecuteRequest, ExecutionOptions, ExecutionState, Plan, StepSkipped
from stepwire_server import App, StepContext, plan_step
from stepwire_server.engine.context import StepEnded
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.executor import Settings
from stepwire_server.engine.items import stem_of
from stepwire_server.engine.operation import Catalog
from stepwire_server.engine.step_runner import Cause
from stepwire_server.journal import ENDED, Conflict, ExecutionRecord

from .machine_answers import Accepting, Answers, Controls
from .machine_retries import Retries
from .puppets import WORDS, Puppet, options_, plans
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

PAUSED = ExecutionState.EXECUTION_STATE_PAUSED

counts = dict.fromkeys(
    (
        "examples",
        "moves",
        "executions",
        "events",
        "crashes",
        "drains",
        "pauses",
        "resumes",
        "pauses taken over",
        "questions",
        "answers",
        "retries",
        "revisions",
        "items",
        "skipped by conditions",
    ),
    0,
)

TURNS = st.sampled_from([0, 1, 3, 60])
"""How often the event loop goes round after a move: nothing, something, or all that can happen has happened."""

WHICH = st.integers(0, 7)

TIMES = st.sampled_from([1, 1, 2])

NAMES = st.sampled_from([(), (), ("s0",), ("s0",), ("s1",), ("s0", "s1"), ("s3",), ("s1-1",), ("s0-g",)])
"""Of steps: what most plans have, and what few have."""

SELDOM = st.sampled_from([False, False, True])
"""For what stops everything: with too much of it, nothing else is tried."""


class Stage:
    """The machine that plays now. One catalog serves all of them: to make it takes longer than to play."""

    machine: EngineMachine


def _catalog() -> Catalog:
    app = App("machine")

    async def act(step: StepContext, item: Any = None) -> Any:
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
        self.effects: list[tuple[int, Effect]] = []
        """What operations did, each with the epoch in which its process had the execution."""
        self.requests: list[ExecuteRequest] = []
        self.known: dict[str, set[str]] = {}
        """What each request id was answered with."""
        self.calls: list[tuple[asyncio.Task[Any], Callable[[Any], None]]] = []
        self.watchers: list[contextlib.ExitStack] = []
        self.due: dict[str, float] = {}
        """When the executions that were cancelled must have ended."""
        self.lost = False
        """Whether an append was refused, so that an execution may have no owner until the next start."""
        self.controls = Controls(self._kept, self._may_be_lost)
        self.answers = Answers(self._kept, self._may_be_lost)
        self.retries = Retries(self._kept, self._may_be_lost)
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
        effect = Effect(
            execution_id=step.execution_id,
            step_id=step.id,
            attempt=step.attempt,
            at_most_once=step.operation == "once",
            saved=int(step.saved or 0),
        )
        self.effects.append((step._recorder._epoch, effect))
        puppet = Puppet(
            step=step,
            began=self.loop.now,
            now=self.loop.time,
            passed=self._passed,
            broken_off=self._broken_off,
            answered=self._answered,
        )
        self.puppets.append(puppet)
        return await puppet.act()

    def _passed(self, step: StepContext) -> None:
        """A step goes on at a place to stop, which in a pause it may only where it runs at most once, was told to end,
        or its execution is ending.
        """
        for engine in (self.engine, *self.old):
            executor = engine._live.get(step.execution_id)
            if executor is None or executor.recorder is not step._recorder or executor._course.stopping:
                continue
            runners = executor._running.values()
            told = any(runner._context is step and runner._cause is not None for runner in runners)
            if executor.fold.state == PAUSED and not told and step.operation != "once":
                # Not raised: that would be the step's failure.
                self.astray.append({"went past its place in a pause": (step.execution_id, step.id)})

    def _answered(self, step: StepContext, answer: int | None) -> None:
        """A step goes on with an answer that is durable."""
        if not self.answers.is_durable(self._kept(step.execution_id), step.id, answer):
            self.astray.append({"went on with an answer that is not durable": (step.execution_id, step.id, answer)})

    def _broken_off(self, step: StepContext) -> None:
        """A held step is interrupted for many reasons, but not for the time: that stands still."""
        for engine in (self.engine, *self.old):
            executor = engine._live.get(step.execution_id)
            for runner in executor._running.values() if executor is not None else ():
                if runner._context is step and runner._cause is Cause.TIMEOUT:
                    self.astray.append({"timed out while it was held": (step.execution_id, step.id)})

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

    def _may_be_lost(self, engine: Engine) -> bool:
        """Whether an engine may say that it does not run what it ran."""
        return self.lost or engine is not self.engine or engine._draining

    @property
    def paused(self) -> list[str]:
        """Those that the journal says are paused."""
        return [execution_id for execution_id, record in self.journal._records.items() if record.state == PAUSED]

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
    @rule(which=WHICH, other=st.sampled_from(["", "", "labels", "options", "work"]), turns_=TURNS)
    def start_again(self, which: int, other: str, turns_: int) -> None:
        """With a request id that was used: by the same request, or by another one."""
        request = ExecuteRequest()
        request.CopyFrom(self.requests[which % len(self.requests)])
        match other:
            case "labels":
                request.labels["another"] = "yes"
            case "options":
                request.options.max_parallel_steps += 1
            case "work":
                request.query = "plan another one"
        self._accept(request)
        self._run(turns(turns_))

    def _begin(self, request: ExecuteRequest, times: int, turns_: int) -> None:
        request.request_id = f"r{len(self.requests)}"
        self.requests.append(request)
        for _ in range(times):
            self._accept(request)
        self._run(turns(turns_))

    def _accept(self, request: ExecuteRequest) -> None:
        def accepted(record: ExecutionRecord | None) -> None:
            if record is not None:
                self.known.setdefault(request.request_id, set()).add(record.execution_id)

        self._call(Accepting(request=request).call(self.engine), accepted)

    @rule(
        which=WHICH,
        words=st.sampled_from(
            [("pause",), ("pause",), ("resume",), ("pause", "pause"), ("resume", "resume"), ("resume", "pause")]
        ),
        turns_=TURNS,
    )
    def control(self, which: int, words: tuple[str, ...], turns_: int) -> None:
        """Pauses and resumes, also twice at the same moment, whatever the execution does."""
        live = [execution_id for execution_id in self.ids if self.journal._records[execution_id].state not in ENDED]
        # Now and then one that has ended, or that there never was.
        chosen = live if live and which < 6 else ["nothing", *self.ids]
        execution_id = chosen[-1 - which % len(chosen)]
        for word in words:
            self._call(self.controls.ask(self.engine, word, execution_id), lambda _: None)
        self._run(turns(turns_))

    @precondition(lambda self: self._going_on())
    @rule(which=WHICH, turns_=TURNS)
    def pause(self, which: int, turns_: int) -> None:
        going = self._going_on()
        self._call(self.controls.ask(self.engine, "pause", going[which % len(going)]), lambda _: None)
        self._run(turns(turns_))

    def _going_on(self) -> list[str]:
        live = self.engine._live.items()
        return [
            execution_id for execution_id, executor in live if not executor._course.stopping and not executor._paused
        ]

    @precondition(lambda self: self.paused)
    @rule(which=WHICH, words=st.sampled_from([("resume",), ("resume",), ("resume", "pause")]), turns_=TURNS)
    def resume(self, which: int, words: tuple[str, ...], turns_: int) -> None:
        paused = self.paused
        for word in words:
            self._call(self.controls.ask(self.engine, word, paused[which % len(paused)]), lambda _: None)
        self._run(turns(turns_))

    def _open_questions(self) -> list[tuple[str, str]]:
        """Returns execution and question of all that are open."""
        live = self.engine._live.items()
        return [
            (execution_id, input_id) for execution_id, executor in live for input_id in executor.fold.questions.open
        ]

    @precondition(lambda self: self._open_questions())
    @rule(which=WHICH, times=st.sampled_from([1, 1, 2]), turns_=TURNS)
    def answer(self, which: int, times: int, turns_: int) -> None:
        """Answers what is open; two persons, maybe, with two answers at the same moment."""
        asked = self._open_questions()
        for _ in range(times):
            self._call(self.answers.give(self.engine, *asked[which % len(asked)]), lambda _: None)
        self._run(turns(turns_))

    @precondition(lambda self: self.ids)
    @rule(which=WHICH, how=st.sampled_from(["again", "again", "unfit", "nothing"]), turns_=TURNS)
    def answer_otherwise(self, which: int, how: str, turns_: int) -> None:
        """Gives an answer once more, one that does not fit, or one to a question that nobody asked."""
        asked = self._open_questions()
        earlier = self.answers.earlier(which)
        if how == "again" and earlier is not None:
            self._call(self.answers.give(self.engine, *earlier), lambda _: None)
        elif how == "unfit" and asked:
            unfit = struct_pb2.Value(string_value="many")
            self._call(self.answers.give(self.engine, *asked[which % len(asked)], unfit), lambda _: None)
        else:
            self._call(self.answers.give(self.engine, self.ids[-1 - which % len(self.ids)], "nothing"), lambda _: None)
        self._run(turns(turns_))

    @precondition(lambda self: self.ids)
    @rule(which=WHICH, names=NAMES, times=TIMES, turns_=TURNS)
    def retry(self, which: int, names: tuple[str, ...], times: int, turns_: int) -> None:
        """Retries what has ended, now and then what has not, with and without names."""
        over = [execution_id for execution_id in self.ids if self.journal._records[execution_id].state in ENDED]
        chosen = over if over and which < 6 else self.ids
        call = self.retries.ask(self.engine, chosen[-1 - which % len(chosen)], names, times=times)
        self._call(call, lambda _: None)
        self._run(turns(turns_))

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
    @rule(word=st.sampled_from(["save", "pausepoint"]), turns_=TURNS)
    def come_to_a_place_to_stop(self, word: str, turns_: int) -> None:
        for puppet in self._acting():
            puppet.inbox.put_nowait(word)
        self._run(turns(turns_))

    @precondition(lambda self: self._acting())
    @rule(word=st.sampled_from([word for word in WORDS if word.startswith("ask")]), turns_=TURNS)
    def ask_people(self, word: str, turns_: int) -> None:
        for puppet in self._acting():
            puppet.inbox.put_nowait(word)
        self._run(turns(turns_))

    @precondition(lambda self: self._acting())
    @rule(which=WHICH, word=st.sampled_from([word for word in WORDS if word.startswith("grow")]), turns_=TURNS)
    def grow(self, which: int, word: str, turns_: int) -> None:
        acting = self._acting()
        acting[which % len(acting)].inbox.put_nowait(word)
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
        for task in self.engine._intake._tasks:
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
        counts["pauses taken over"] += len(self.paused)
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
        for kept in changed.values():
            self.controls.judge(kept)
            self.answers.judge(kept)
            self.retries.judge(kept)
            assert not any(_is_a_bug(event) for event in events_of(kept)), kept.execution_id
        assert self.astray == [], self.astray

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
    def no_more_run_than_may(self) -> None:
        for executor in self.engine._live.values():
            slots = executor._slots
            assert len(slots._taken) <= slots._bound
            assert slots._taken <= set(executor._running), "a step has a slot and does not run"
            for runner in executor._running.values():
                asks = runner._context is not None and runner._context._asking._waiting is not None
                idle = asks or runner._resting or runner.index in slots._coming
                # What was told to end, and asked people after that, cleans up without a slot for as long as its grace.
                told = runner._stopping or runner._cause is not None
                assert idle or told or slots.taken(runner.index), "it works without a slot"

    @invariant()
    def nothing_runs_beyond_its_time(self) -> None:
        began = {id(puppet.step): puppet.began + puppet.held for puppet in self.puppets}
        for executor in self.engine._live.values():
            for runner in executor._running.values():
                timeout, now = runner.step.timeout.ToNanoseconds() / 1e9, self.loop.now
                held = runner._resting or (runner._limit is not None and runner._limit._holds)
                if timeout and not self.out_of_order and runner._context is not None and not held:
                    # What has not even begun to run has no time yet, and what is held back needs none.
                    assert now < began.get(id(runner._context), now) + timeout + GRACE + 0.5

    def _take_answers(self) -> None:
        for task, then in [call for call in self.calls if call[0].done()]:
            if task.cancelled():
                continue
            error = task.exception()
            if isinstance(error, AssertionError):
                raise error
            assert error is None or isinstance(error, StepwireError), repr(error)
            if error is None:
                then(task.result())
        self.calls = [call for call in self.calls if not call[0].done()]

    def _judge(self, changed: dict[str, Kept], *, complete: bool = False) -> None:
        history = History(
            complete=complete,
            journal=changed,
            wall=self.history.wall,
            # One that swallows its cancel goes on where it was held, when its server stops.
            stubborn=any(puppet.swallows for puppet in self.puppets),
            replies=[*self.history.replies, *self._told()] if complete else self.history.replies,
            effects=self._effects(changed),
            appends=[
                Append(execution_id=execution_id, epoch=epoch, first=chunk.first, last=chunk.last)
                for execution_id, epoch, chunk in self.journal.taken
                if execution_id in changed
            ],
        )
        for name in (*JUDGED, "P9") if complete else JUDGED:
            found = list(CHECKERS[name](history))
            assert not found, (name, found)

    def _told(self) -> list[Reply]:
        """Returns what callers who started something were told, each answer once."""
        return [
            Reply(method="StartExecution", sent=0, at=0, status="OK", request_id=request_id, execution_id=execution_id)
            for request_id, found in self.known.items()
            for execution_id in found
        ]

    def _effects(self, changed: dict[str, Kept]) -> list[Effect]:
        """Returns the effects of attempts that the journal knows. One that began while the journal took nothing, in a
        process that was lost, is no attempt for whoever comes next: its number is given again, and the journal knows
        nothing of what had been saved before it.
        """
        owners = {
            (execution_id, sequence): epoch
            for execution_id, epoch, chunk in self.journal.taken
            if execution_id in changed
            for sequence in range(chunk.first, chunk.last + 1)
        }
        begun = {
            (owners[kept.execution_id, event.sequence], kept.execution_id, event.step_id, event.attempt)
            for kept in changed.values()
            for event in events_of(kept)
            if event.HasField("step_started")
        }
        return [
            effect
            for epoch, effect in self.effects
            if (effect.at_most_once and effect.execution_id in changed)
            or (epoch, effect.execution_id, effect.step_id, effect.attempt) in begun
        ]

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

    def _end_pauses(self) -> None:
        """What is paused and has let its steps end stays as it is, however long."""
        for _ in range(2):
            for puppet in self._acting():
                puppet.inbox.put_nowait("finish")
            self._run(asyncio.sleep(LONG))
        self.promises_hold()
        for execution_id in self.paused:
            record = self.journal._records[execution_id]
            self._run(asyncio.sleep(LONG))
            if execution_id in self.paused:
                assert self.journal._records[execution_id].last_sequence == record.last_sequence, execution_id

    def _end(self) -> None:
        self.journal.release()
        self.journal.full = False
        if self.lost:
            self._replace()
        self._run(turns(60))
        if self.paused:
            self._end_pauses()
        for engine in self.old:
            # One that was replaced notices at its next append. What it holds in a pause has none, nor what waits.
            folds = [executor.fold for executor in engine._live.values()]
            if any(fold.state == PAUSED or fold.questions.open for fold in folds):
                self._run(engine.drain(0))
        for _ in range(40):
            for execution_id in self.paused:
                self._call(self.controls.ask(self.engine, "resume", execution_id), lambda _: None)
            for asked in self._open_questions():
                self._call(self.answers.give(self.engine, *asked), lambda _: None)
            for puppet in self._acting():
                puppet.inbox.put_nowait("finish")
            self._run(asyncio.sleep(LONG))
            if not any(engine.running for engine in (self.engine, *self.old)) and not self._acting():
                break
        self.promises_hold()
        assert not self.calls, "a call has no answer"
        live = {engine_.running for engine_ in (self.engine, *self.old)}
        assert live == {0}, "an owner goes on, or an execution never ends"
        self._judge({execution_id: self._kept(execution_id) for execution_id in self.ids}, complete=True)
        found = self._run(self.journal.statistics(tenant=""))
        by_scan = self._run(scan(self.journal))
        assert (found.operations, found.plans) == (by_scan.operations, by_scan.plans)
        assert self.engine.abandoned == 0
        assert not self.engine._unwatched
        for name in ("pauses", "resumes"):
            counts[name] += self.controls.counts[name]
        for name in ("questions", "answers"):
            counts[name] += self.answers.counts[name]
        counts["retries"] += self.retries.count
        counts["executions"] += len(self.ids)
        for execution_id in self.ids:
            for event in events_of(self._kept(execution_id)):
                counts["revisions"] += event.HasField("plan_revised")
                counts["items"] += event.HasField("step_started") and bool(stem_of(event.step_id))
                counts["skipped by conditions"] += event.step_skipped.cause == StepSkipped.CAUSE_CONDITION
        counts["events"] += sum(record.last_sequence for record in self.journal._records.values())


def _is_a_bug(event: Event) -> bool:
    """Whether the engine says of itself that it could not go on."""
    failed = event.plan_failed if event.HasField("plan_failed") else event.step_failed
    return reason_of(failed.error) == "INTERNAL_ERROR"
