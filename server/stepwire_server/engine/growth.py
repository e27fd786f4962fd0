"""Lets the plan of an execution grow while it runs: a step adds others, which may depend on any of the plan.

    step.add_steps -> form, operations, inputs -> what is new of it -> plan_revised -> what is ready starts

What a step adds is part of the plan from its event on, whatever becomes of the step that added it. So another attempt,
or another process, that adds the same steps once more adds nothing.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence

from stepwire.errors import ExecutionEnded, PlanInvalid, Violation
from stepwire.v1 import Event, ExecutionState, Step
from stepwire_server import failpoints
from stepwire_server.engine.acceptance import in_thread, is_large, steps_problem, summary
from stepwire_server.engine.course import Course
from stepwire_server.engine.ending import ended
from stepwire_server.engine.graph import ID, MAX_PLAN_BYTES, MAX_STEPS, Graph, cycle_violations, step_violations
from stepwire_server.engine.items import clash, stem_of
from stepwire_server.engine.operation import Catalog
from stepwire_server.engine.recorder import Recorder

__all__ = ["Growth", "room_violations"]

_NAMED = 5
"""Steps that the line for people names."""


class Growth:
    """How the plan of one execution grows."""

    def __init__(
        self,
        recorder: Recorder,
        catalog: Catalog,
        *,
        execution_id: str,
        course: Course,
        on_grown: Callable[[], None],
    ) -> None:
        """`on_grown` is called each time, when the plan has grown."""
        self._recorder = recorder
        self._catalog = catalog
        self._execution_id = execution_id
        self._course = course
        self._on_grown = on_grown

    async def add(self, steps: Iterable[Step], *, added_by: str, check: Callable[[], None]) -> None:
        """Adds those steps that are not in the plan yet, all or none. `check` raises where the step that adds them has
        ended meanwhile. Raises PlanInvalid, which names everything that is wrong with them, and ExecutionEnded where no
        step starts any more.
        """
        given = list(steps)
        for step in given:
            if not isinstance(step, Step):
                raise TypeError(f"add_steps was given {type(step).__name__}; make steps with plan_step")
        graph = self._graph
        if is_large(given):
            found = await in_thread(lambda: self._form(graph, given))
        else:
            found = self._form(graph, given)
        _refuse(found)
        await self._recorder.room()
        check()
        # From here on nothing waits: what is known of the plan now is what is true when it grows.
        new, found = _new(graph, given)
        _refuse(found or room_violations(graph, new))
        if not new:
            return
        if self._course.stopping:
            raise self._refusal()
        self.record(new, added_by=added_by, message=f"{added_by} added {_names(new)}")

    def record(self, steps: Sequence[Step], *, added_by: str, message: str) -> None:
        """Records that the plan has grown by steps that may be added."""
        event = Event(message=message)
        event.plan_revised.steps.extend(steps)
        event.plan_revised.added_by = added_by
        event.plan_revised.revision = self._recorder.fold.revision + 1
        failpoints.reach("before-plan_revised")
        self._recorder.record(event)
        self._on_grown()
        failpoints.reach("after-plan_revised")

    @property
    def _graph(self) -> Graph:
        graph = self._recorder.fold.graph
        assert graph is not None
        return graph

    def _form(self, graph: Graph, given: Sequence[Step]) -> list[Violation]:
        """Returns what is wrong with steps whatever else is added meanwhile: a plan only grows."""
        # What the plan has already is judged by `_new`. Not joined: this may be another thread than where it grows.
        known = ChainMap({step.id: i for i, step in enumerate(given)}, graph.index)
        # What is there already needs no room: its items may be what has taken it.
        new = [(i, step) for i, step in enumerate(given) if step.id not in graph.index]
        room = MAX_STEPS - len(graph) - len(new)
        found: list[Violation] = []
        for i, step in new:
            if not ID.fullmatch(step.id):
                found.append(Violation(f"steps[{i}].id", f"{step.id[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}"))
            found += step_violations(step, f"steps[{i}]", known, room=room)
        found = found or cycle_violations(given, "steps")
        if found:
            return found
        problem = steps_problem(new, self._catalog, path="steps")
        return [] if problem is None else list(problem.violations)

    def _refusal(self) -> ExecutionEnded:
        if self._recorder.fold.state == ExecutionState.EXECUTION_STATE_CANCELLING:
            return ended(self._execution_id, self._recorder.fold.state)
        return ExecutionEnded(
            f"execution {self._execution_id} is ending: no step can be added",
            metadata={"execution_id": self._execution_id},
        )


def room_violations(graph: Graph, new: Sequence[Step]) -> list[Violation]:
    """Returns why a plan has no room for more steps; nothing where it has."""
    count = len(graph) + len(new)
    if count > MAX_STEPS:
        return [Violation("steps", f"would make a plan of {count:,} steps; at most {MAX_STEPS:,} are allowed")]
    size = graph.size_with(new)
    if size > MAX_PLAN_BYTES:
        return [Violation("steps", f"would make a plan of {size:,} bytes; at most {MAX_PLAN_BYTES:,} are allowed")]
    return []


def _new(graph: Graph, given: Sequence[Step]) -> tuple[list[Step], list[Violation]]:
    """Returns the steps that are not in the plan, and what is wrong with those whose id another step has, or
    an item of a mapped one would have."""
    fresh: dict[str, Step] = {}
    found: list[Violation] = []
    mapped = {step.id for step in given if step.HasField("for_each")}
    for i, step in enumerate(given):
        same = graph.steps[graph.index[step.id]] if step.id in graph.index else fresh.get(step.id)
        if same is None:
            fresh[step.id] = step
            if graph.is_mapped(stem_of(step.id)) or stem_of(step.id) in mapped:
                found.append(clash(step.id, f"steps[{i}]"))
            elif step.id in mapped and step.id in graph.stems:
                text = f"{step.id!r} has for_each, and the plan has a step whose id one of its items would have"
                found.append(Violation(f"steps[{i}].id", text))
        elif same != step:
            for name in _differences(same, step):
                text = f"the plan has a step {step.id!r} with another {name}; give this one another id"
                found.append(Violation(f"steps[{i}].{name}", text))
    return list(fresh.values()), found


def _differences(one: Step, other: Step) -> list[str]:
    names = [field.name for field in Step.DESCRIPTOR.fields]
    return [name for name in names if _only(one, name) != _only(other, name)]


def _only(step: Step, name: str) -> Step:
    only = Step()
    only.CopyFrom(step)
    for field in Step.DESCRIPTOR.fields:
        if field.name != name:
            only.ClearField(field.name)  # type: ignore[arg-type]
    return only


def _names(steps: Sequence[Step]) -> str:
    shown = ", ".join(step.name or step.id for step in steps[:_NAMED])
    more = f" and {len(steps) - _NAMED} more" if len(steps) > _NAMED else ""
    return f"{len(steps)} step{'s' if len(steps) > 1 else ''}: {shown}{more}"


def _refuse(found: list[Violation]) -> None:
    if found:
        raise PlanInvalid(summary("the steps can't be added", found), violations=found)
