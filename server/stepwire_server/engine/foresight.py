"""How long an execution will still take, from how long such steps took before, along the critical path of what is left.

    left of a step    by its operation's past, given how long it has run; what it says of itself counts as well
    left of the plan  the longest path through what is left, or all of its work over the slots, whichever is longer

It is reckoned when an event comes, at most once a second, and in between it runs down with the time. What is told goes
over to a new estimate by and by, half of the way in some seconds, so that it does not jump. Where a step still to run
is of an operation that nobody has seen end, or is mapped over a list that is not known yet, nothing is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stepwire.v1 import Event, ExecutionState, ForEach
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.graph import Graph
from stepwire_server.engine.spread import Left, Spread
from stepwire_server.engine.states import ENDED_STEP

__all__ = ["Foresight"]

_SECOND = 1_000_000_000

_EVERY = _SECOND
"""Nanoseconds between two estimates, at least ..."""

_EVERY_STEP = 1_000_000
"""... and so many more for each step of the plan: a plan of 10,000 steps takes 20 ms to go over."""

_HALF_WAY = 2.0
_HALF_WAY_SHARE = 0.02
"""What is told goes half of the way to a new estimate in so many seconds, and in so much of itself more; at once never
more than half of the way.
"""

_SAYS_SOMETHING = 0.05
_RAN_FOR = 1.0
"""What a step says of itself counts from this fraction on, and after so many seconds, where nothing else is known."""

_OFF_FIRST, _OFF_LAST = 0.7, 0.05
"""How far what a step says of itself may be off, as a share: at its beginning, and at its end beside that."""

_NOTHING = Left(0.0, 0.0)

_NOTED = frozenset(
    {
        "input_received",
        "input_requested",
        "step_cancelled",
        "step_completed",
        "step_failed",
        "step_retrying",
        "step_skipped",
        "step_started",
    }
)
"""What changes how long a step has run."""

_TOLD_IN = frozenset({ExecutionState.EXECUTION_STATE_RUNNING})


class Foresight:
    """Says of one execution how long it will take. `slots`: how many steps run at once. `known` gives the past
    durations by operation.
    """

    __slots__ = (
        "_asked",
        "_at",
        "_due",
        "_end",
        "_fold",
        "_known",
        "_margin",
        "_order",
        "_own",
        "_since",
        "_slots",
        "_told",
    )

    def __init__(self, fold: Fold, *, slots: int, known: Callable[[], Mapping[str, Spread]]) -> None:
        self._fold = fold
        self._slots = slots
        self._known = known
        self._since: dict[int, int] = {}  # when the attempts that run now started
        self._asked: dict[int, int] = {}  # when those that wait for a person asked
        self._own: dict[str, list[float]] = {}  # durations in this execution, of operations that are not known
        self._order: Sequence[int] = ()
        self._told: Left | None = None
        self._at = 0  # when that was true
        self._end = self._margin = 0  # the same, in nanoseconds: when the end is, and how far that may be off
        self._due = 0

    def look(self, event: Event, kind: str, time_ns: int) -> None:
        """Takes note of an event that the fold has just applied, and writes into the fold how much is left after it."""
        fold = self._fold
        if kind in _NOTED and fold.graph is not None:
            self._note(fold.graph.index[event.step_id], kind, time_ns)
        if fold.graph is None or fold.state not in _TOLD_IN or self._asked:
            self._told, self._due = None, 0
            return
        if time_ns >= self._due:
            self._due = time_ns + _EVERY + _EVERY_STEP * len(fold.steps)
            self._tell(self._estimate(fold.graph, time_ns), time_ns)
        if self._told is not None:
            fold.remaining = (max(0, self._end - time_ns), self._margin)

    def _note(self, index: int, kind: str, time_ns: int) -> None:
        match kind:
            case "step_started":
                self._since[index] = time_ns
            case "input_requested":
                self._asked[index] = time_ns
            case "input_received" if index in self._asked:
                self._since[index] = self._since.get(index, time_ns) + time_ns - self._asked.pop(index)
        if self._fold.steps[index].state in ENDED_STEP or kind == "step_retrying":
            self._asked.pop(index, None)
            since = self._since.pop(index, None)
            if kind == "step_completed" and since is not None:
                assert self._fold.graph is not None
                operation = self._fold.graph.steps[index].operation
                if operation not in self._known() and index not in self._fold.graph.items:
                    self._own.setdefault(operation, []).append((time_ns - since) / _SECOND)

    def _tell(self, left: Left | None, time_ns: int) -> None:
        before, passed = self._told, (time_ns - self._at) / _SECOND
        if left is not None and before is not None and left != _NOTHING:
            expected = max(0.0, before.mean - passed)
            weight = max(0.5, 0.5 ** (passed / (_HALF_WAY + _HALF_WAY_SHARE * expected)))
            left = Left(left.mean + weight * (expected - left.mean), left.variance)
        self._told, self._at = left, time_ns
        if left is not None:
            self._end, self._margin = time_ns + int(left.mean * _SECOND), int(left.margin * _SECOND)

    def _estimate(self, graph: Graph, now: int) -> Left | None:
        """Returns what is left; None where that is not known."""
        if len(self._order) != len(graph):
            self._order = _from_the_end(graph)
        known, own = self._known(), _spreads(self._own)
        path: list[Left] = [_NOTHING] * len(graph)
        mapped: dict[int, Left] = {}
        longest, work = _NOTHING, _NOTHING
        for i in self._order:
            if self._fold.steps[i].state in ENDED_STEP:
                continue
            operation = graph.steps[i].operation
            spread = known.get(operation) or own.get(operation)
            if graph.items.get(i):
                left: Left | None = _NOTHING  # What it takes is in its items.
            elif i in graph.items:
                left = _of_items_to_come(graph.steps[i].for_each, spread)
            else:
                left = self._left(i, spread, now)
            if left is None:
                return None
            work += left
            if spread is not None and i in graph.items and left != _NOTHING:
                left = max(spread.whole, _shared(left, graph.steps[i].for_each.max_parallel or self._slots))
            parent = graph.item_of.get(i)
            if parent is not None:
                mapped[parent] = mapped.get(parent, _NOTHING) + left
                path[i] = left + path[parent]
            else:
                path[i] = left + max((path[j] for j in graph.dependants[i]), default=_NOTHING)
            longest = max(longest, path[i])
        for i, left in mapped.items():
            if graph.steps[i].for_each.max_parallel:
                longest = max(longest, _shared(left, graph.steps[i].for_each.max_parallel) + path[i])
        return max(longest, _shared(work, self._slots))

    def _left(self, index: int, spread: Spread | None, now: int) -> Left | None:
        """Returns what is left of a step, by the past, by what it says of itself, or by both."""
        since = self._since.get(index)
        if since is None:
            return None if spread is None else spread.whole
        elapsed = (now - since) / _SECOND
        by_past = None if spread is None else spread.after(elapsed)
        fraction = self._fold.steps[index].fraction
        if fraction < _SAYS_SOMETHING or (by_past is None and elapsed < _RAN_FOR):
            return by_past
        by_itself = elapsed * (1 - fraction) / fraction
        # A step that says 25 % when it has just begun would else seem to be over at once, and to be sure of it.
        share = _OFF_FIRST * (1 - fraction) + _OFF_LAST
        off = share * max(by_itself, by_past.mean if by_past else 0.0, elapsed * _OFF_LAST)
        said = Left(by_itself, off**2)
        return said if by_past is None else _both(by_past, said)


def _of_items_to_come(mapped: ForEach, spread: Spread | None) -> Left | None:
    """Returns the work of a mapped step that has no items yet; None where nobody knows how many they will be."""
    if not mapped.HasField("values"):
        return None
    count = len(mapped.values.values)
    if spread is None or not count:
        return None if count else _NOTHING
    return Left(spread.whole.mean * count, spread.whole.variance * count)


def _shared(work: Left, slots: int) -> Left:
    """Returns how long work takes that so many do together."""
    return Left(work.mean / slots, work.variance / slots**2)


def _both(one: Left, other: Left) -> Left:
    """Returns the mean of two estimates of the same, each weighted by how sure it is."""
    total = one.variance + other.variance
    if total == 0:
        return one
    share = other.variance / total
    return Left(one.mean * share + other.mean * (1 - share), one.variance * share)


def _spreads(durations: Mapping[str, Sequence[float]]) -> Mapping[str, Spread]:
    spreads = {}
    for operation, found in durations.items():
        ordered = sorted(found)
        p25, p50, p75 = (ordered[len(ordered) * share // 4] for share in (1, 2, 3))
        spreads[operation] = Spread(count=len(ordered), p25=p25, p50=p50, p75=p75)
    return spreads


def _from_the_end(graph: Graph) -> Sequence[int]:
    """Returns all steps, each after all that wait for it: what depends on it, and of an item its mapped step."""
    waits = [len(followers) for followers in graph.dependants]
    for i in graph.item_of:
        waits[i] += 1
    order = [i for i, count in enumerate(waits) if count == 0]
    for i in order:
        for needed in (*graph.needs(i), *graph.items.get(i, ())):
            waits[needed] -= 1
            if waits[needed] == 0:
                order.append(needed)
    return order
