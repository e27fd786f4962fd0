"""Mapped steps (Step.for_each): what each is while its items run.

    step_started -> plan_revised by a step for each item -> the items run, so many at once
        -> step_progress as they end -> step_completed with the list of their outputs | step_failed

A mapped step has no runner and no slot. All that there is of it follows from the events: which of its items have ended.
So nothing of it is lost with a process, and whoever takes the execution over goes on with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf import struct_pb2

from stepwire.errors import failure
from stepwire.v1 import Event, Step, StepState
from stepwire_server.engine import values
from stepwire_server.engine.acceptance import LARGE_PLAN, in_thread
from stepwire_server.engine.calling import AttemptFailed
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.graph import MAX_PLAN_BYTES, MAX_STEPS, Graph
from stepwire_server.engine.growth import room_violations
from stepwire_server.engine.items import item_steps
from stepwire_server.engine.schedule import Schedule
from stepwire_server.engine.states import ENDED_STEP, LIVE_STEP
from stepwire_server.engine.step_events import StepEvents
from stepwire_server.engine.step_runner import Surroundings

__all__ = ["Mappings"]

_NAMED = 5
"""Items that failed that the error names."""


@dataclass(slots=True)
class _Mapping:
    """One mapped step while its items run."""

    step: Step
    items: Sequence[int]
    left: int
    """Items that have not ended."""
    waiting: deque[int] = field(default_factory=deque)
    """Items that are held back by the bound."""


class Mappings:
    """The mapped steps of one execution, in one process."""

    def __init__(
        self,
        around: Surroundings,
        schedule: Schedule,
        *,
        may_start: Callable[[], bool],
        on_end: Callable[[int], None],
    ) -> None:
        """Takes up those that run already. `on_end` is called with each that has ended, once that is recorded."""
        self._recorder = around.recorder
        self._growth = around.growth
        self._clock = around.clock
        self._simulate = around.simulate
        self._schedule = schedule
        self._may_start = may_start
        self._on_end = on_end
        self._open: dict[int, _Mapping] = {}
        self._news: dict[int, None] = {}
        self._unopened = [i for i in self._graph.items if self._fold.steps[i].state in LIVE_STEP]

    @property
    def has_news(self) -> bool:
        """Whether `settle` has something to do."""
        return bool(self._news) or (self.has_unopened and self._may_start())

    @property
    def has_unopened(self) -> bool:
        """Whether a mapped step has begun and has not been given its items."""
        return bool(self._unopened)

    def begin(self, index: int) -> None:
        """Starts a mapped step, whose turn it is."""
        self._events(index).started(1, self._graph.steps[index].operation)
        self._unopened.append(index)

    def item_ended(self, index: int) -> None:
        """Notes that a step ended; does nothing where it is no item, or was let go of because the process ends."""
        parent = self._graph.item_of.get(index)
        mapping = None if parent is None else self._open.get(parent)
        if parent is None or mapping is None or self._fold.steps[index].state not in ENDED_STEP:
            return
        mapping.left -= 1
        self._news[parent] = None
        if mapping.waiting:
            self._schedule.release(mapping.waiting.popleft())

    async def settle(self) -> None:
        """Gives those that have begun their items, and records how far the others are, and their ends."""
        while self._unopened and self._may_start():
            await self._recorder.room()
            await self._expand(self._unopened[0])
        while self._news:
            await self._recorder.room()
            index = next(iter(self._news))
            del self._news[index]
            if not self._open[index].left:
                self._conclude(index)
            else:
                self._report(index)

    async def end(self) -> None:
        """Records the ends of all that have not ended, in an execution that is ending."""
        for index in self._graph.items:
            if self._fold.steps[index].state in LIVE_STEP:
                await self._recorder.room()
                self._conclude(index)

    # -- the items

    async def _expand(self, index: int) -> None:
        """Gives a mapped step its items: those of the list, where it does not have them yet."""
        step = self._graph.steps[index]
        try:
            listed = self._listed(step)
        except AttemptFailed as error:
            return self._fail(index, "INPUT_INVALID", str(error))
        if len(listed) > MAX_STEPS:
            return self._fail(index, "LIMIT_SIZE", f"its {len(listed):,} items: a plan has at most {MAX_STEPS:,} steps")
        if listed and not self._graph.items[index]:
            if len(listed) > LARGE_PLAN:
                made = await in_thread(lambda: item_steps(step, listed, most=MAX_PLAN_BYTES))
            else:
                made = item_steps(step, listed, most=MAX_PLAN_BYTES)
            if not self._may_start():
                return None
            found = room_violations(self._graph, made) if made else []
            if not made or found:
                why = found[0].description if found else "would have more bytes than a plan may have"
                return self._fail(index, "LIMIT_SIZE", f"its {len(listed):,} items: {why}")
            count = f"{len(listed)} item{'s' if len(listed) > 1 else ''}"
            self._growth.record(made, added_by=step.id, message=f"{step.name or step.id}: {count}")
        self._unopened.remove(index)
        self._take_up(index)
        return None

    def _listed(self, step: Step) -> Sequence[struct_pb2.Value]:
        """Returns the items that a mapped step is to have. Raises AttemptFailed where they are no list."""
        if step.for_each.HasField("values"):
            return step.for_each.values.values
        source = step.for_each.output
        output = self._fold.output(source.step_id)
        if output is None or self._simulate:
            return []
        place = f"for_each: {source.json_pointer!r} in the output of step {source.step_id!r}"
        try:
            found = values.point(output, source.json_pointer)
        except KeyError:
            raise AttemptFailed(failure("INPUT_INVALID", f"{place} is not there")) from None
        if not found.HasField("list_value"):
            raise AttemptFailed(failure("INPUT_INVALID", f"{place} is no list"))
        return found.list_value.values

    def _take_up(self, index: int) -> None:
        """Lets items run: those that had begun before, and as many others as may."""
        step, items = self._graph.steps[index], self._graph.items[index]
        left = [i for i in items if self._fold.steps[i].state not in ENDED_STEP]
        mapping = self._open[index] = _Mapping(step, items, len(left))
        left.sort(key=lambda i: not self._fold.steps[i].attempt)
        begun = sum(self._fold.steps[i].attempt > 0 for i in left)
        most = max(step.for_each.max_parallel or len(left), begun)
        for i in left[:most]:
            self._schedule.release(i)
        mapping.waiting.extend(left[most:])
        if not left:
            self._news[index] = None

    # -- the mapped step's own events

    def _report(self, index: int) -> None:
        mapping = self._open[index]
        count = len(mapping.items)
        ended = count - mapping.left
        name = mapping.step.name or mapping.step.id
        event = Event(step_id=mapping.step.id, step_name=name, attempt=1, message=f"{name}: {ended} of {count} items")
        progress = event.step_progress
        progress.percentage = 100 * ended / count
        progress.current, progress.total, progress.unit = ended, count, "items"
        self._recorder.record(event)

    def _conclude(self, index: int) -> None:
        """Records the end of a mapped step whose items have ended, or which is to have none any more."""
        items = self._graph.items[index]
        states = [self._fold.steps[i] for i in items]
        failed = [i for i in items if self._fold.steps[i].state == StepState.STEP_STATE_FAILED]
        if failed:
            return self._fail(index, "STEP_FAILED", self._what_failed(failed, len(items)))
        if index in self._open and all(state.state == StepState.STEP_STATE_COMPLETED for state in states):
            listed = struct_pb2.Value()
            listed.list_value.SetInParent()
            listed.list_value.values.extend(state.output for state in states if state.output is not None)
            self._events(index).completed(listed)
        else:
            self._events(index).cancelled(abandoned=False)
        return self._forget(index)

    def _fail(self, index: int, reason: str, text: str) -> None:
        self._events(index).failed(failure(reason, text))
        self._forget(index)

    def _forget(self, index: int) -> None:
        self._open.pop(index, None)
        self._news.pop(index, None)
        if index in self._unopened:
            self._unopened.remove(index)
        self._on_end(index)

    def _what_failed(self, failed: Sequence[int], count: int) -> str:
        steps, folds = self._graph.steps, self._fold.steps
        shown = [f"{steps[i].id} ({folds[i].error})" if folds[i].error else steps[i].id for i in failed[:_NAMED]]
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        return f"{len(failed)} of {count} items failed: {', '.join(shown)}{more}"

    def _events(self, index: int) -> StepEvents:
        fold = self._fold.steps[index]
        passed = (self._recorder.now_ns() - fold.started_ns) / 1e9
        return StepEvents(
            self._recorder, self._graph.steps[index], fold, self._clock, began=self._clock.monotonic() - passed
        )

    @property
    def _fold(self) -> Fold:
        return self._recorder.fold

    @property
    def _graph(self) -> Graph:
        assert self._fold.graph is not None
        return self._fold.graph
