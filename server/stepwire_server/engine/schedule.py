"""Which step is next: what is ready, and what will never run because of a failure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence

from stepwire.v1 import StepState
from stepwire_server.engine.fold import Fold, StepFold
from stepwire_server.engine.graph import Graph

__all__ = ["Schedule"]

_LOST = frozenset({StepState.STEP_STATE_FAILED, StepState.STEP_STATE_CANCELLED})
"""States after which nothing that depends on a step will run."""


class Schedule:
    """The steps of one execution that have not started, by their index in the plan's order.

    Each step comes out of it at most once: from `next_ready` where all that it depends on is done, from `next_to_skip`
    where something never will be. An item of a mapped step must be released, too.
    """

    __slots__ = ("_doomed", "_graph", "_ready", "_to_skip", "_waits")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        # An item waits for its release beside what it depends on.
        self._waits = [count + (i in graph.item_of) for i, count in enumerate(graph.waits_for)]
        self._ready = [i for i, count in enumerate(self._waits) if count == 0]
        self._to_skip: deque[tuple[int, int]] = deque()
        self._doomed: dict[int, int] = {}
        """What will not run, and the step because of which."""

    @classmethod
    def of(cls, fold: Fold) -> Schedule:
        """Returns the schedule of a plan from where its events end."""
        assert fold.graph is not None
        schedule = cls(fold.graph)
        for i, step in enumerate(fold.steps):
            if step.done:
                schedule.done(i)
            elif step.state in _LOST:
                schedule.failed(i)
        not_started = (StepState.STEP_STATE_PENDING, StepState.STEP_STATE_STARTING)
        schedule._ready = [i for i in sorted(schedule._ready) if fold.steps[i].state in not_started]
        return schedule

    @property
    def ready(self) -> bool:
        """Whether a step can start."""
        return bool(self._ready)

    @property
    def to_skip(self) -> bool:
        """Whether a step is to be skipped."""
        return bool(self._to_skip)

    @property
    def first_ready(self) -> int:
        """The step that `next_ready` would take. Asked where one can start."""
        return self._ready[0]

    def next_ready(self) -> int:
        """Takes the first ready step in the plan's order."""
        return heapq.heappop(self._ready)

    def next_to_skip(self) -> tuple[int, int]:
        """Takes a step that will not run, and the step because of which."""
        return self._to_skip.popleft()

    def done(self, index: int) -> None:
        """Notes that a step completed, or was skipped by its own condition: what waited for it alone is ready."""
        for follower in self._graph.dependants[index]:
            self.release(follower)

    def release(self, index: int) -> None:
        """Notes that a step waits for one thing less: something that it depends on, or its release as an item."""
        self._waits[index] -= 1
        if self._waits[index] == 0:
            heapq.heappush(self._ready, index)

    def failed(self, index: int) -> None:
        """Notes that a step failed or was cancelled: all that depend on it, directly or not, are to be skipped."""
        self._doom(self._graph.dependants[index], index)

    def grow(self, steps: Sequence[StepFold]) -> None:
        """Takes up what was added to the graph, given the state of all its steps."""
        first = len(self._waits)
        for i in range(first, len(self._graph)):
            needed = self._graph.needs(i)
            self._waits.append(sum(not steps[j].done for j in needed) + (i in self._graph.item_of))
            if self._waits[i] == 0:
                heapq.heappush(self._ready, i)
        for i in range(first, len(self._graph)):
            culprits = (self._culprit(j, steps[j]) for j in self._graph.needs(i))
            culprit = next((found for found in culprits if found is not None), None)
            if culprit is not None:
                self._doom([i], culprit)

    def _culprit(self, index: int, step: StepFold) -> int | None:
        """Returns the step because of which nothing that depends on a step will run; None where it may."""
        return index if step.state in _LOST else self._doomed.get(index)

    def _doom(self, steps: Iterable[int], culprit: int) -> None:
        """Notes that steps, and all that depend on them, are to be skipped. What is doomed already is not looked at
        again, so all failures together take no longer than one.
        """
        found: list[int] = []
        left = list(steps)
        while left:
            i = left.pop()
            if i not in self._doomed:
                self._doomed[i] = culprit
                found.append(i)
                left += self._graph.dependants[i]
        self._to_skip += [(i, culprit) for i in sorted(found)]
