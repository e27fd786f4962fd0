"""A plan as a graph: its form checked, its order fixed."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Sequence

from stepwire.errors import Violation
from stepwire.v1 import Plan, Retry, Step
from stepwire_server.engine import values
from stepwire_server.engine.conditions import condition_violations
from stepwire_server.engine.items import clash, for_each_violations, stem_of

__all__ = [
    "ID",
    "MAX_ATTEMPTS",
    "MAX_NAME",
    "MAX_PLAN_BYTES",
    "MAX_SPAN_NS",
    "MAX_STEPS",
    "Graph",
    "cycle_violations",
    "retry_violations",
    "step_violations",
    "violations",
]

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What an id looks like. Use with fullmatch."""

MAX_STEPS = 10_000
"""Steps in a plan."""

MAX_PLAN_BYTES = 768 * 1024
"""Bytes of an encoded plan, so that plan_started fits into an event."""

MAX_NAME = 200
"""Characters in a step's name."""

MAX_ATTEMPTS = 100
"""Attempts in a Retry."""


MAX_SPAN_NS = 366 * 86_400 * 10**9
"""The longest timeout, delay or time limit, in nanoseconds: 366 days."""


class Graph:
    """A plan whose form is right. Steps are known by their index in the plan's order, from 0. It grows at its end."""

    __slots__ = ("dependants", "index", "item_of", "items", "size", "stems", "steps", "waits_for")

    def __init__(self, plan: Plan) -> None:
        self.steps: list[Step] = []
        self.index: dict[str, int] = {}
        """From step id to index."""
        self.waits_for: list[int] = []
        """How many steps each step depends on."""
        self.dependants: list[list[int]] = []
        """The steps that depend on each step directly, in the plan's order."""
        self.items: dict[int, list[int]] = {}
        """The items of each mapped step, in their order."""
        self.item_of: dict[int, int] = {}
        """From an item to its mapped step."""
        self.stems: set[str] = set()
        """The ids of which a step would be an item, if a step that is mapped had one of them."""
        self.size = plan.ByteSize()
        """Bytes of the encoded plan."""
        self._add(plan.steps)

    def grow(self, steps: Sequence[Step]) -> None:
        """Adds steps. They may depend on any step, and on each other; takes no longer for a plan that is long."""
        self.size = self.size_with(steps)
        self._add(steps)

    def size_with(self, steps: Sequence[Step]) -> int:
        """Returns what `size` would be with more steps."""
        return self.size + Plan(steps=steps).ByteSize()

    def _add(self, steps: Sequence[Step]) -> None:
        first = len(self.steps)
        self.steps += steps
        self.index.update((step.id, i) for i, step in enumerate(steps, first))
        self.dependants += ([] for _ in steps)
        for i, step in enumerate(steps, first):
            needed = set(step.depends_on)
            self.waits_for.append(len(needed))
            for name in needed:
                self.dependants[self.index[name]].append(i)
            if step.HasField("for_each"):
                self.items[i] = []
        for i, step in enumerate(steps, first):
            stem = stem_of(step.id)
            if stem:
                self.stems.add(stem)
                parent = self.index.get(stem)
                if parent in self.items:
                    self.item_of[i] = parent
                    self.items[parent].append(i)

    def is_mapped(self, step_id: str) -> bool:
        """Returns whether there is a mapped step of this id."""
        return self.index.get(step_id) in self.items

    def needs(self, index: int) -> list[int]:
        """Returns the steps that a step depends on directly."""
        return [self.index[name] for name in set(self.steps[index].depends_on)]

    def __len__(self) -> int:
        return len(self.steps)

    def sinks(self) -> list[int]:
        """Returns the steps that nothing depends on, in the plan's order. On an item its mapped step depends."""
        return [i for i, followers in enumerate(self.dependants) if not followers and i not in self.item_of]


def violations(plan: Plan, path: str = "plan", *, ran: bool = False) -> list[Violation]:
    """Returns everything that is wrong with a plan's form, each with its field. Operations and inputs' types are not
    looked at here. `ran`: it is a plan as it ran, in which mapped steps may have their items.
    """
    if not plan.steps:
        return [Violation(f"{path}.steps", "is empty; a plan has at least one step")]
    if len(plan.steps) > MAX_STEPS:
        return [Violation(f"{path}.steps", f"has {len(plan.steps):,} steps; at most {MAX_STEPS:,} are allowed")]
    size = plan.ByteSize()
    if size > MAX_PLAN_BYTES:
        return [Violation(path, f"has {size:,} bytes; at most {MAX_PLAN_BYTES:,} are allowed")]
    found: list[Violation] = values.check(plan.analysis, f"{path}.analysis")
    first: dict[str, int] = {}
    for i, step in enumerate(plan.steps):
        if not ID.fullmatch(step.id):
            found.append(Violation(f"{path}.steps[{i}].id", f"{step.id[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}"))
        elif step.id in first:
            found.append(Violation(f"{path}.steps[{i}].id", f"{step.id!r} is the id of steps[{first[step.id]}] too"))
        first.setdefault(step.id, i)
    mapped = {step.id for step in plan.steps if step.HasField("for_each")}
    room = MAX_STEPS if ran else MAX_STEPS - len(plan.steps)
    for i, step in enumerate(plan.steps):
        if mapped and not ran and stem_of(step.id) in mapped:
            found.append(clash(step.id, f"{path}.steps[{i}]"))
        found += step_violations(step, f"{path}.steps[{i}]", first, room=room)
    if not found:
        found += cycle_violations(plan.steps, f"{path}.steps")
    return found


def step_violations(step: Step, path: str, known: Container[str], *, room: int) -> list[Violation]:
    """Returns what is wrong with a step's form beside its id, in a plan that has the steps `known`, and room for so
    many more.
    """
    found: list[Violation] = []
    if not step.operation:
        found.append(Violation(f"{path}.operation", "is empty; ListOperations names those there are"))
    if len(step.name) > MAX_NAME:
        found.append(Violation(f"{path}.name", f"has {len(step.name):,} characters; at most {MAX_NAME} are allowed"))
    if step.HasField("weight") and not (math.isfinite(step.weight) and step.weight > 0):
        found.append(Violation(f"{path}.weight", f"is {step.weight}; it must be above 0 and finite"))
    if step.HasField("timeout") and not 0 < step.timeout.ToNanoseconds() <= MAX_SPAN_NS:
        found.append(Violation(f"{path}.timeout", "must be above 0 and at most 366 days"))
    if step.HasField("retry"):
        found += retry_violations(step.retry, f"{path}.retry")
    for j, name in enumerate(step.depends_on):
        if name == step.id:
            found.append(Violation(f"{path}.depends_on[{j}]", f"{name!r} is the step itself"))
        elif name not in known:
            found.append(Violation(f"{path}.depends_on[{j}]", f"no step has the id {name[:80]!r}"))
    found += values.check(step.input, f"{path}.input")
    needed = set(step.depends_on)
    for parameter, source in step.input_from.items():
        where = f"{path}.input_from[{parameter!r}]"
        if parameter in step.input.fields:
            found.append(Violation(where, "is given by input too; give it once"))
        found += values.check_reference(source, where, needed)
    found += condition_violations(step, path, needed)
    found += for_each_violations(step, path, needed, room=room)
    return found


def retry_violations(retry: Retry, path: str) -> list[Violation]:
    """Returns everything that is wrong with a Retry."""
    found: list[Violation] = []
    if not 0 <= retry.attempts <= MAX_ATTEMPTS:
        found.append(Violation(f"{path}.attempts", f"is {retry.attempts}; 0 to {MAX_ATTEMPTS} are allowed"))
    for name in ("initial_delay", "max_delay"):
        if retry.HasField(name) and not 0 <= getattr(retry, name).ToNanoseconds() <= MAX_SPAN_NS:
            found.append(Violation(f"{path}.{name}", "must not be negative, and at most 366 days"))
    if retry.multiplier != 0 and not 1 <= retry.multiplier < math.inf:
        found.append(Violation(f"{path}.multiplier", f"is {retry.multiplier}; it must be at least 1"))
    if not 0 <= retry.jitter <= 1:
        found.append(Violation(f"{path}.jitter", f"is {retry.jitter}; it must be 0 to 1"))
    return found


def cycle_violations(steps: Sequence[Step], path: str) -> list[Violation]:
    """Returns one violation that names a way around where steps depend on each other in a circle. Steps that are not
    among these are taken to depend on none of them.
    """
    index = {step.id: i for i, step in enumerate(steps)}
    needs = [[index[name] for name in set(step.depends_on) if name in index] for step in steps]
    dependants: list[list[int]] = [[] for _ in steps]
    for i, needed in enumerate(needs):
        for j in needed:
            dependants[j].append(i)
    waits = [len(needed) for needed in needs]
    ready = [i for i, count in enumerate(waits) if count == 0]
    done = 0
    while ready:
        i = ready.pop()
        done += 1
        for follower in dependants[i]:
            waits[follower] -= 1
            if waits[follower] == 0:
                ready.append(follower)
    if done == len(steps):
        return []
    # Every step that is left waits for another one that is left: going from one to the next must come round.
    here = next(i for i, count in enumerate(waits) if count > 0)
    seen: dict[int, int] = {}
    way: list[int] = []
    while here not in seen:
        seen[here] = len(way)
        way.append(here)
        here = next(j for name in steps[here].depends_on if name in index and waits[j := index[name]] > 0)
    ring = [steps[i].id for i in way[seen[here] :]]
    shown = ring if len(ring) <= 12 else [*ring[:11], f"... ({len(ring) - 11} more)"]
    first = index[ring[0]]
    return [Violation(f"{path}[{first}].depends_on", "is a cycle: " + " -> ".join([*shown, ring[0]]))]
