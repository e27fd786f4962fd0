"""The parts of a step, nested, as what folding its progress gives. No IO: the server reckons with it what it writes
into events, and the client shows with it what they say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from stepwire.v1 import StepProgress, StepState, Substep

__all__ = ["MAX_DEPTH", "MAX_NAME", "MAX_PARTS", "MAX_WEIGHT", "MIN_WEIGHT", "Part", "Parts", "names_of", "path_of"]

MAX_PARTS = 1_000
"""Parts of a step at a time."""

MAX_DEPTH = 16
"""How deep they are nested."""

MAX_NAME = 200
"""Characters of a part's name."""

MIN_WEIGHT, MAX_WEIGHT = 1e-6, 1e6
"""Of a part. Within these the sums over siblings stay true."""

_MESSAGE = 300
"""Characters of a part's message that are kept."""

_S = StepState
_PENDING = _S.STEP_STATE_PENDING
_COMPLETED = _S.STEP_STATE_COMPLETED
_BEGUN = (_S.STEP_STATE_RUNNING, _S.STEP_STATE_PROGRESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a step as it is now."""

    path: str
    """Identifies it in its step."""
    name: str
    """A short text for people."""
    weight: float
    """Its share among its siblings."""
    percentage: float
    """0 to 100."""
    state: str
    """Such as "RUNNING"."""
    message: str
    """What it said last, at most 300 characters."""
    parts: tuple[Part, ...]
    """Its own parts, in the order in which they came. None of one that has completed."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the part and its own parts as a dict that JSON can carry."""
        return asdict(self)


class _Node:
    """A part in the tree. Sums are kept up, so that an update costs no more than it is deep."""

    __slots__ = (
        "done",
        "message",
        "name",
        "own",
        "parent",
        "parts",
        "path",
        "percentage",
        "state",
        "weight",
        "weights",
    )

    def __init__(self, path: str, parent: _Node | None, weight: float = 1.0) -> None:
        self.path = path
        self.name = names_of(path)[-1] if path else ""
        self.parent = parent
        self.weight = weight
        self.state: StepState.ValueType = _PENDING
        self.message = ""
        self.own = 0.0
        self.percentage = 0.0
        self.parts: dict[str, _Node] = {}
        self.weights = 0.0
        self.done = 0.0

    def reckon(self) -> float:
        if self.state == _COMPLETED:
            return 100.0
        return max(self.own, self.rolled_up()) if self.parts else self.own

    def rolled_up(self) -> float:
        return min(100.0, max(0.0, self.done / self.weights)) if self.parts else 0.0

    def size(self) -> int:
        return len(self.parts) + sum(part.size() for part in self.parts.values())

    def view(self) -> Part:
        return Part(
            path=self.path,
            name=self.name,
            weight=self.weight,
            percentage=self.percentage,
            state=_state_name(self.state),
            message=self.message,
            parts=tuple(part.view() for part in self.parts.values()),
        )


class Parts:
    """The parts of one attempt of a step. `apply` takes one report after the other, in the order of their events.

    It takes what it is given: a part whose parents were not seen gets them, with a weight of 1, and beyond its bounds
    nothing is kept.
    """

    __slots__ = ("_root", "count")

    def __init__(self) -> None:
        self._root = _Node("", None)
        self.count = 0
        """How many parts there are, at all depths."""

    def apply(self, report: StepProgress, message: str = "") -> None:
        """Takes a report, with its event's message."""
        for declared in report.declared:
            node = self._reach(declared)
            if node is not None:
                self._weigh(node, declared)
        if report.HasField("substep"):
            node = self._reach(report.substep)
            if node is not None:
                self._move(node, report.substep, message)

    def state(self, path: str) -> StepState.ValueType | None:
        """Returns a part's state; None of one that is not there."""
        node = self._find(path)
        return None if node is None else node.state

    def weight(self, path: str) -> float | None:
        """Returns a part's weight; None of one that is not there."""
        node = self._find(path)
        return None if node is None else node.weight

    def percentage(self, path: str = "") -> float:
        """Returns how far a part is, or the step by its parts, 0 to 100; 0 of one that is not there."""
        node = self._find(path)
        return 0.0 if node is None else node.percentage

    def rolled_up(self, path: str) -> float:
        """Returns how far a part is by its own parts alone, 0 to 100; 0 where it has none."""
        node = self._find(path)
        return 0.0 if node is None else node.rolled_up()

    def tree(self) -> tuple[Part, ...]:
        """Returns the step's own parts, with theirs, as they are now."""
        return self._root.view().parts

    def line(self, path: str) -> Iterator[tuple[str, str, float, StepState.ValueType]]:
        """Gives path, name, percentage and state of a part and all that it belongs to, from the outermost on."""
        node = self._find(path)
        found: list[_Node] = []
        while node is not None and node.parent is not None:
            found.append(node)
            node = node.parent
        for each in reversed(found):
            yield each.path, each.name, each.percentage, each.state

    def _find(self, path: str) -> _Node | None:
        node: _Node | None = self._root
        for name in path.split("/") if path else ():
            node = node.parts.get(name) if node is not None else None
        return node

    def _reach(self, told: Substep) -> _Node | None:
        """Returns a part, and makes it where it is new; None where there may be no more."""
        names = told.path.split("/")
        if not told.path or len(names) > MAX_DEPTH:
            return None
        node = self._root
        for depth, name in enumerate(names, 1):
            part = node.parts.get(name)
            if part is None:
                if self.count >= MAX_PARTS:
                    return None
                weight = _weight(told) if depth == len(names) else 1.0
                part = node.parts[name] = _Node("/".join(names[:depth]), node, weight)
                node.weights += weight
                self.count += 1
            node = part
        return node

    def _weigh(self, node: _Node, told: Substep) -> None:
        node.name = told.name or node.name
        weight = _weight(told)
        if weight != node.weight and node.parent is not None:
            node.weight = weight
            siblings = node.parent.parts.values()
            node.parent.weights = sum(each.weight for each in siblings)
            node.parent.done = sum(each.weight * each.percentage for each in siblings)
        self._settle(node)

    def _move(self, node: _Node, told: Substep, message: str) -> None:
        node.state = told.state
        node.own = min(100.0, max(0.0, told.percentage)) if math.isfinite(told.percentage) else 0.0
        node.message = message[:_MESSAGE] or node.message
        if told.state in (_S.STEP_STATE_RUNNING, _S.STEP_STATE_COMPLETED):
            self.count -= node.size()
            node.parts.clear()
            node.weights = node.done = 0.0
        if told.state == _S.STEP_STATE_RUNNING:
            node.message = message[:_MESSAGE]
        self._weigh(node, told)

    def _settle(self, node: _Node) -> None:
        """Reckons a part and all that it belongs to."""
        while node.parent is not None:
            percentage = node.reckon()
            node.parent.done += node.weight * (percentage - node.percentage)
            node.percentage = percentage
            node = node.parent
        node.percentage = node.reckon()


def path_of(parent: str, name: str) -> str:
    """Returns the path of a part with this name that belongs to another one, or to the step itself where that is
    empty.
    """
    own = name.replace("~", "~0").replace("/", "~1")
    return f"{parent}/{own}" if parent else own


def _weight(told: Substep) -> float:
    return min(MAX_WEIGHT, max(MIN_WEIGHT, told.weight)) if told.weight > 0 else 1.0


def names_of(path: str) -> list[str]:
    """Returns the names that a path joins, from the step's own part downwards."""
    return [name.replace("~1", "/").replace("~0", "~") for name in path.split("/")] if path else []


def _state_name(state: int) -> str:
    value = StepState.DESCRIPTOR.values_by_number.get(state)
    return str(state) if value is None else str(value.name).removeprefix("STEP_STATE_")
