"""Which step is next: what is ready, and what will never run because of a failure."""

from __future__ import annotations

import heapq
from collections import deque

from stepwire.v1 import StepState
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.graph import Graph

__all__ = ["Schedule"]


class Schedule:
    """The steps of one execution that have not started, by their index in the plan's order.

    Each step comes out of it at most once: from `next_ready` where all that it depends on has completed, from
    `next_to_skip` where something has not.
    """

    __slots__ = ("_doomed", "_graph", "_ready", "_to_skip", "_waits")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._waits = list(graph.waits_for)
        self._ready = [i for i, count in enumerate(self._waits) if count == 0]
        self._to_skip: deque[tuple[int, int]] = deque()
        self._doomed: set[int] = set()

    @classmethod
    def of(cls, fold: Fold) -> Schedule:
        """Returns the schedule of a plan from where its events end."""
        assert fold.graph is not None
        schedule = cls(fold.graph)
        for i, step in enumerate(fold.steps):
            if step.state == StepState.STEP_STATE_COMPLETED:
                schedule.completed(i)
            elif step.state in (StepState.STEP_STATE_FAILED, StepState.STEP_STATE_CANCELLED):
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

    def next_ready(self) -> int:
        """Takes the first ready step in the plan's order."""
        return heapq.heappop(self._ready)

    def next_to_skip(self) -> tuple[int, int]:
        """Takes a step that will not run, and the step because of which."""
        return self._to_skip.popleft()

    def completed(self, index: int) -> None:
        """Notes that a step completed: what waited for it alone is ready."""
        for follower in self._graph.dependants[index]:
            self._waits[follower] -= 1
            if self._waits[follower] == 0:
                heapq.heappush(self._ready, follower)

    def failed(self, index: int) -> None:
        """Notes that a step failed or was cancelled: all that depend on it, directly or not, are to be skipped.

        A step that is doomed already is not looked at again, so all failures together take no longer than one.
        """
        found: list[int] = []
        left = list(self._graph.dependants[index])
        while left:
            i = left.pop()
            if i not in self._doomed:
                self._doomed.add(i)
                found.append(i)
                left += self._graph.dependants[i]
        self._to_skip += [(i, index) for i in sorted(found)]
