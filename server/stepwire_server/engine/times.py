"""When the steps of an execution could start, did, and ended, by the times of its events alone.

A pause that is over does not count, nor does the time in which a step waited for a person: neither says anything of the
operation. A pause that goes on while a step ends did not hold it up, and counts: such a step ran through it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from stepwire.v1 import StepState
from stepwire_server.engine.states import ENDED_STEP

__all__ = ["Moment", "StepTimes", "Times", "between"]

_RUNNING = StepState.STEP_STATE_RUNNING
_WAITING = StepState.STEP_STATE_WAITING


class Moment(NamedTuple):
    """When something happened, and what had been of pauses by then."""

    ns: int
    """Nanoseconds since 1970."""
    paused: int = 0
    """Nanoseconds of the pauses that were over."""
    into: int = 0
    """Nanoseconds since the beginning of the pause that was not over. 0: there was none."""


def between(start: Moment, end: Moment) -> int:
    """Returns the nanoseconds from one moment to a later one, less the pauses that were over at the end."""
    over = end.paused - start.paused
    return end.ns - start.ns - (over - start.into if over else 0)


class StepTimes:
    """The times of one step."""

    __slots__ = ("_asked", "_asked_ns", "_held", "_held_at", "ended", "started")

    def __init__(self) -> None:
        self.started: Moment | None = None
        """When its first attempt started. None: none has."""
        self.ended: Moment | None = None
        """When it completed, failed, was cancelled or skipped. None: it has not."""
        self._asked: Moment | None = None
        self._asked_ns = 0
        self._held = 0
        self._held_at = 0

    @property
    def duration(self) -> int:
        """Nanoseconds from its start to its end, all attempts and what is between them: less the pauses that were over,
        and the time it waited for people. Asked of a step that has started and ended.
        """
        assert self.started is not None
        assert self.ended is not None
        held = self._held if self._held_at == self.ended.paused else 0
        return between(self.started, self.ended) - self._asked_ns - held

    def note(self, state: StepState.ValueType, now: Moment) -> None:
        """Takes the step's new state."""
        if self._asked is not None:
            self._answered(self._asked, now)
            self._asked = None
        if state == _RUNNING and self.started is None:
            self.started = now
        elif state == _WAITING:
            self._asked = now
        elif state in ENDED_STEP:
            self.ended = now

    def _answered(self, asked: Moment, now: Moment) -> None:
        waited = between(asked, now)
        inside = min(waited, now.into)
        self._asked_ns += waited - inside
        if self._held_at != now.paused:
            # What was before is in a pause that is over since, and is subtracted with it.
            self._held, self._held_at = 0, now.paused
        self._held += inside


class Times:
    """The times of an execution and its steps. Fed by the fold."""

    __slots__ = ("_grown", "_paused", "_since", "begun", "first", "steps")

    def __init__(self) -> None:
        self.begun: Moment | None = None
        """When the plan started. None: it has not."""
        self.first: Moment | None = None
        """When the first step started. None: none has."""
        self.steps: dict[int, StepTimes] = {}
        """By the step's index: those of which there was an event."""
        self._grown: list[tuple[int, Moment]] = []
        self._paused = 0
        self._since: int | None = None

    def begin(self, ns: int) -> None:
        """Notes that the plan started."""
        self.begun = self._moment(ns)

    def grow(self, index: int, ns: int) -> None:
        """Notes that steps from this index on were added."""
        self._grown.append((index, self._moment(ns)))

    def pause(self, ns: int) -> None:
        """Notes that the execution is paused."""
        if self._since is None:
            self._since = ns

    def unpause(self, ns: int) -> None:
        """Notes that it is not any more."""
        if self._since is not None:
            self._paused += ns - self._since
            self._since = None

    def step(self, index: int, state: StepState.ValueType, ns: int) -> None:
        """Notes a step's new state."""
        times = self.steps.get(index)
        if times is None:
            times = self.steps[index] = StepTimes()
        now = self._moment(ns)
        times.note(state, now)
        if self.first is None and times.started is not None:
            self.first = now

    def declared(self, index: int) -> Moment:
        """Returns when a step became part of the plan."""
        assert self.begun is not None
        # Searched, not walked: a plan of 10,000 steps may have grown as often.
        place = bisect_right(self._grown, index, key=_first)
        return self._grown[place - 1][1] if place else self.begun

    def _moment(self, ns: int) -> Moment:
        return Moment(ns, self._paused, 0 if self._since is None else ns - self._since)


def _first(grown: tuple[int, Moment]) -> int:
    return grown[0]
