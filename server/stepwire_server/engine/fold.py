"""The state of an execution as what folding its events gives. The live state is this too: an event is applied first,
then written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from google.protobuf import struct_pb2

from stepwire.errors import reason_of
from stepwire.v1 import Event, Execution, ExecutionState, Plan, Step, StepSkipped, StepState
from stepwire_server.engine.graph import Graph
from stepwire_server.engine.questions import Questions
from stepwire_server.engine.stamp import write_state, write_time
from stepwire_server.engine.states import (
    ENDED_EXECUTION,
    ENDED_STEP,
    KEPT,
    LIVE_STEP,
    SAID,
    TransitionError,
    next_execution_state,
    next_step_state,
)
from stepwire_server.engine.times import Times

__all__ = ["NEARLY", "Fold", "StepFold"]

NEARLY = 99.99
"""The highest percentage while anything is left to do."""

_ERROR_CHARACTERS = 300
"""Of a step's error, kept for the text that tells why the execution failed."""

# Looked up here once: to ask an enum for a value costs as much as half an event.
_PENDING = StepState.STEP_STATE_PENDING
_WAITING = StepState.STEP_STATE_WAITING
_PAUSED = ExecutionState.EXECUTION_STATE_PAUSED
_BY_CONDITION = StepSkipped.CAUSE_CONDITION


class StepFold:
    """What the events say of one step."""

    __slots__ = (
        "_saved_when_lost",
        "attempt",
        "done",
        "epoch",
        "error",
        "fraction",
        "lost",
        "output",
        "recoveries",
        "saved",
        "started_ns",
        "state",
        "weight",
    )

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.state: StepState.ValueType = _PENDING
        self.attempt = 0
        """The newest attempt, from 1."""
        self.started_ns = 0
        """When that began."""
        self.epoch = 0
        """That of the process in which the newest attempt started."""
        self.recoveries = 0
        """How many attempts ended with their process, whether it was lost or stopped in order: they are not tries."""
        self.lost = 0
        """How many of them in a row were lost with their work: none had saved anything else than the one before it, or
        got an answer. One that was lost while it waited for a person is not among them.
        """
        self.done = False
        """Whether it completed, or was skipped by its own condition: what depends on it may run."""
        self.fraction = 0.0
        """How much of it is done, 0 to 1."""
        self.output: struct_pb2.Value | None = None
        """What it returned, once it has."""
        self.error = ""
        """Why it failed, shortened, once it has."""
        self.saved: struct_pb2.Value | None = None
        """What it saved last, while another attempt may ask for it."""
        self._saved_when_lost: struct_pb2.Value | None = None

    def lost_once_more(self) -> int:
        """Returns what `lost` is where the newest attempt is lost too."""
        return self.lost + 1 if self.saved == self._saved_when_lost else 1

    def lose(self) -> None:
        """Notes that the newest attempt was lost."""
        self.lost = self.lost_once_more()
        self._saved_when_lost = self.saved


class Fold:
    """An execution's state. `apply` takes one event after the other; every attribute is as of the last one."""

    __slots__ = (
        "_done",
        "_done_weight",
        "_first_state",
        "_full_weight",
        "attempt_count",
        "cancelled_by",
        "changes",
        "completed",
        "create_ns",
        "end_ns",
        "epoch",
        "failed",
        "graph",
        "kept",
        "percentage",
        "questions",
        "remaining",
        "result",
        "revision",
        "sequence",
        "skipped",
        "start_ns",
        "started",
        "state",
        "steps",
        "time_ns",
        "times",
    )

    def __init__(self, *, create_ns: int, planning: bool) -> None:
        self.create_ns = create_ns
        self._first_state = (
            ExecutionState.EXECUTION_STATE_PLANNING if planning else ExecutionState.EXECUTION_STATE_PENDING
        )
        self.state: ExecutionState.ValueType = self._first_state
        self.sequence = 0
        self.changes = 0
        """How many events changed more than the time: while it stays, so does all that is not a time."""
        self.time_ns = create_ns
        """The newest event's time: times never decrease."""
        self.start_ns = 0
        self.end_ns = 0
        self.epoch = 1
        self.attempt_count = 1
        """How often a process has taken the execution up."""
        self.cancelled_by = ("", "")
        """Actor and reason, once the end was asked for."""
        self.graph: Graph | None = None
        self.steps: list[StepFold] = []
        self.questions = Questions()
        self.times = Times()
        self.started = 0
        """How many steps have begun."""
        self.completed = 0
        self.failed = 0
        self.skipped = 0
        self.kept = 0
        """How many steps it keeps of an earlier execution that it retries: they are done, and never started."""
        self.revision = 0
        """How often the plan has grown."""
        self.percentage = 0.0
        """The high-water mark: a retry does not take it back. Growth does, as far as there is more to do in all."""
        self.remaining: tuple[int, int] | None = None
        """An estimate of what is left, and its margin, in nanoseconds: as the last event says, or is to say."""
        self.result: Event | None = None
        """The terminal event."""
        self._done = 0
        self._done_weight = 0.0
        self._full_weight = 0.0

    @property
    def ended(self) -> bool:
        """Whether the terminal event was applied."""
        return self.state in ENDED_EXECUTION

    @property
    def all_done(self) -> bool:
        """Whether every step is completed, or skipped by its own condition."""
        return self._done == len(self.steps)

    def output(self, step_id: str) -> struct_pb2.Value | None:
        """Returns the output of a step of the plan; None where it has none."""
        assert self.graph is not None
        return self.steps[self.graph.index[step_id]].output

    def apply(self, event: Event, kind: str, time_ns: int) -> None:
        """Takes the next event: its `kind` arm, `step_id`, `metadata` and time remaining are read, nothing else of it,
        and nothing is written. Raises TransitionError, and has changed nothing then.
        """
        step_id = event.step_id
        if step_id:
            self._apply_to_step(event, step_id, kind, time_ns)
        else:
            if kind == "plan_started" and self.graph is not None:
                raise TransitionError("plan_started for the second time")
            if kind == "plan_revised" and self.graph is None:
                raise TransitionError("plan_revised before plan_started")
            before = self.state
            self.state = next_execution_state(before, kind)
            if before == _PAUSED and self.state != before:
                self.times.unpause(time_ns)
            if kind == "plan_resumed" and self.graph is None:
                self.state = self._first_state
            elif kind == "plan_started":
                self._begin(event.plan_started.plan)
                self.start_ns = time_ns
                self.times.begin(time_ns)
            elif kind == "plan_revised":
                self.times.grow(len(self.steps), time_ns)
                self._grow(event.plan_revised.steps)
            elif kind == "plan_paused":
                self.times.pause(time_ns)
            elif kind == "plan_recovered":
                self.epoch = event.plan_recovered.epoch
                self.attempt_count += 1
            elif kind == "plan_cancelling":
                self.cancelled_by = (event.plan_cancelling.actor, event.plan_cancelling.reason)
            elif self.state in ENDED_EXECUTION:
                self.end_ns = time_ns
                self.result = event
            self.changes += 1
        self.sequence += 1
        self.time_ns = time_ns
        self.remaining = None
        if event.HasField("progress"):
            # Folding can't reckon it again: what others took by then, the events do not say.
            told = event.progress
            if told.HasField("remaining"):
                self.remaining = told.remaining.ToNanoseconds(), told.remaining_margin.ToNanoseconds()

    def snapshot(self) -> Execution:
        """Returns the Execution as of the last event: only what events change."""
        execution = Execution(state=self.state, as_of_sequence=self.sequence, attempt_count=self.attempt_count)
        execution.open_questions = len(self.questions.open)
        write_state(self, execution.progress, current=self.started)
        write_time(self, execution.progress)
        if self.start_ns:
            execution.start_time.FromNanoseconds(self.start_ns)
        if self.result is not None:
            execution.end_time.FromNanoseconds(self.end_ns)
            if self.result.HasField("plan_completed") and self.result.plan_completed.HasField("output"):
                execution.output.CopyFrom(self.result.plan_completed.output)
            elif self.result.HasField("plan_failed"):
                execution.error.CopyFrom(self.result.plan_failed.error)
        return execution

    def _begin(self, plan: Plan) -> None:
        self.graph = Graph(plan)
        self._add(plan.steps)
        self._full_weight = sum(step.weight for step in self.steps)

    def _grow(self, steps: Sequence[Step]) -> None:
        assert self.graph is not None
        self.graph.grow(steps)
        self.revision += 1
        before, first = self._full_weight, len(self.steps)
        given_up = self._add(steps)
        self._full_weight += sum(step.weight for step in self.steps[first:])
        self._full_weight -= given_up
        # What had been reached stays reached, and is less of the whole now.
        self.percentage *= min(1.0, before / self._full_weight)

    def _add(self, steps: Sequence[Step]) -> float:
        """Adds steps. Mapped ones leave their weight to their items; returns how much of it was counted before."""
        assert self.graph is not None
        first = len(self.steps)
        self.steps += [StepFold(step.weight if step.HasField("weight") else 1.0) for step in steps]
        given_up = 0.0
        for i in range(first, len(self.steps)):
            parent = self.graph.item_of.get(i)
            if parent is not None:
                given_up += self.steps[parent].weight if parent < first else 0.0
                self.steps[parent].weight = 0.0
        return given_up

    def _apply_to_step(self, event: Event, step_id: str, kind: str, time_ns: int) -> None:
        assert self.graph is not None, f"{kind} of a step before plan_started"
        index = self.graph.index[step_id]
        step = self.steps[index]
        before = step.state
        if kind in SAID and before in LIVE_STEP:
            return
        if kind == "input_received" and event.input_received.input_id not in self.questions.open:
            raise TransitionError("input_received without an open question")
        kept = kind in KEPT and "kept_from" in event.metadata
        if kept and self.started:
            raise TransitionError(f"{kind} of a kept step after another has started")
        state = next_step_state(before, kind, kept=kept)
        self.time_ns = time_ns
        if state != before:
            step.state = state
            self.times.step(index, state, time_ns)
        self.changes += 1
        self.kept += kept
        take = _TAKE.get(kind)
        if take is not None:
            take(self, event, index, before)
        if state in ENDED_STEP:
            step.saved = None
            self.questions.dropped(index)

    # -- what each kind of event says of a step: its index, and the state that it was in

    def _take_started(self, _: Event, index: int, __: StepState.ValueType) -> None:
        step = self.steps[index]
        if step.attempt == 0:
            self.started += 1
        step.attempt += 1
        step.started_ns = self.time_ns
        step.epoch = self.epoch

    def _take_progress(self, event: Event, index: int, _: StepState.ValueType) -> None:
        # Of a part, too: how far its step is by it stands beside it.
        if event.step_progress.HasField("percentage"):
            self._set_fraction(self.steps[index], event.step_progress.percentage / 100)

    def _take_saved(self, event: Event, index: int, _: StepState.ValueType) -> None:
        self.steps[index].saved = event.step_saved.state

    def _take_question(self, event: Event, index: int, _: StepState.ValueType) -> None:
        self.questions.asked(index, event.input_requested)

    def _take_answer(self, event: Event, index: int, _: StepState.ValueType) -> None:
        self.questions.received(event.input_received)
        if not event.input_received.expired:
            self.steps[index].lost = 0

    def _take_retry(self, event: Event, index: int, before: StepState.ValueType) -> None:
        step = self.steps[index]
        if reason_of(event.step_retrying.error) == "RECOVERED":
            step.recoveries += 1
            if step.epoch < self.epoch and before != _WAITING:
                # Said by the next process. One that stops in order says it itself: nothing is to blame on the step.
                # Nor is it on one that only waited for a person.
                step.lose()
        self._set_fraction(step, 0.0)

    def _take_completed(self, event: Event, index: int, _: StepState.ValueType) -> None:
        self.completed += 1
        self.steps[index].output = event.step_completed.output
        self._finish(self.steps[index])

    def _take_failed(self, event: Event, index: int, _: StepState.ValueType) -> None:
        self.failed += 1
        self.steps[index].error = event.step_failed.error.message[:_ERROR_CHARACTERS]

    def _take_skipped(self, event: Event, index: int, _: StepState.ValueType) -> None:
        self.skipped += 1
        if event.step_skipped.cause == _BY_CONDITION:
            self._finish(self.steps[index])

    def _finish(self, step: StepFold) -> None:
        self._done += 1
        step.done = True
        self._set_fraction(step, 1.0)

    def _set_fraction(self, step: StepFold, fraction: float) -> None:
        self._done_weight += step.weight * (fraction - step.fraction)
        step.fraction = fraction
        if self.all_done:
            self.percentage = 100.0
        else:
            self.percentage = max(self.percentage, min(100 * self._done_weight / self._full_weight, NEARLY))


_TAKE: Mapping[str, Callable[[Fold, Event, int, StepState.ValueType], None]] = {
    "step_started": Fold._take_started,
    "step_progress": Fold._take_progress,
    "step_saved": Fold._take_saved,
    "input_requested": Fold._take_question,
    "input_received": Fold._take_answer,
    "step_retrying": Fold._take_retry,
    "step_completed": Fold._take_completed,
    "step_failed": Fold._take_failed,
    "step_skipped": Fold._take_skipped,
}
"""What an event about a step changes besides the step's state."""
