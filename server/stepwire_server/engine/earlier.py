"""What became of the steps of an ended execution, and what a retry keeps of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stepwire.v1 import Event, EventBatch, Plan, StepSkipped
from stepwire_server.engine.graph import Graph
from stepwire_server.engine.states import KINDS
from stepwire_server.journal import ExecutionRecord, Journal

__all__ = ["Earlier", "Inheritance", "read_earlier"]

_TOLD = frozenset(
    KINDS[kind]
    for kind in (
        "plan_started",
        "plan_revised",
        "step_started",
        "step_completed",
        "step_failed",
        "step_skipped",
        "step_cancelled",
    )
)
"""The kinds of events that say what became of steps. The others are not decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What a new execution begins with."""

    plan: Plan
    """The plan as it ran, with all its revisions."""
    query: str
    """The query that it was made from, where there was one."""
    events: Sequence[Event]
    """For each step that is kept, the event that says so, in the order in which they ended."""


@dataclass(slots=True)
class Earlier:
    """What the events of an ended execution tell of its steps."""

    execution_id: str
    plan: Plan | None = None
    query: str = ""
    added_by: dict[str, str] = field(default_factory=dict)
    """The steps that came while it ran: by step id, the id of the step that added it."""
    begun: set[str] = field(default_factory=set)
    """The steps that started."""
    ends: dict[str, Event] = field(default_factory=dict)
    """By step id, in order: the event with which the step ended."""

    def take(self, event: Event) -> None:
        """Takes the next event of a kind that counts."""
        match event.WhichOneof("kind"):
            case "plan_started":
                self.plan = event.plan_started.plan
                self.query = event.plan_started.query
            case "plan_revised":
                assert self.plan is not None
                self.plan.steps.extend(event.plan_revised.steps)
                self.added_by |= {step.id: event.plan_revised.added_by for step in event.plan_revised.steps}
            case "step_started":
                self.begun.add(event.step_id)
            case _:
                self.ends[event.step_id] = event

    @property
    def kept(self) -> int:
        """How many steps it had itself kept of an earlier one."""
        return sum("kept_from" in end.metadata for end in self.ends.values())

    def is_done(self, step_id: str) -> bool:
        """Returns whether a step completed, or was skipped by its own condition."""
        end = self.ends.get(step_id)
        if end is None:
            return False
        return end.HasField("step_completed") or end.step_skipped.cause == StepSkipped.CAUSE_CONDITION

    def to_run(self, step_ids: Iterable[str]) -> set[int]:
        """Returns the steps that run again, by their place in the plan: those that are named, those that are not done,
        and all that depend on them. Who names a mapped step names its items, and it depends on them.
        """
        assert self.plan is not None
        return self._to_run(Graph(self.plan), step_ids)

    def named(self, step_ids: Iterable[str]) -> set[str]:
        """Returns the ids that are named, those of a mapped step's items with it."""
        assert self.plan is not None
        graph = Graph(self.plan)
        return {graph.steps[i].id for i in _named(graph, step_ids)}

    def inheritance(self, step_ids: Iterable[str]) -> Inheritance:
        """Returns what is kept where these steps are named."""
        assert self.plan is not None
        graph = Graph(self.plan)
        again = self._to_run(graph, step_ids)
        gone = _renewed(graph, again, step_ids)
        plan = self.plan
        if gone:
            plan = Plan(name=plan.name, steps=[step for i, step in enumerate(graph.steps) if i not in gone])
            if self.plan.HasField("analysis"):
                plan.analysis.CopyFrom(self.plan.analysis)
        events = [self._keeping(end) for step_id, end in self.ends.items() if graph.index[step_id] not in again]
        return Inheritance(plan=plan, query=self.query, events=events)

    def _to_run(self, graph: Graph, step_ids: Iterable[str]) -> set[int]:
        left = _named(graph, step_ids)
        left += [i for i, step in enumerate(graph.steps) if not self.is_done(step.id)]
        found: set[int] = set()
        while left:
            i = left.pop()
            if i not in found:
                found.add(i)
                left += graph.dependants[i]
                if i in graph.item_of:
                    left.append(graph.item_of[i])
        return found

    def _keeping(self, end: Event) -> Event:
        event = Event(step_id=end.step_id, step_name=end.step_name, message=f"Kept: {end.step_name}")
        # Where it ran, and not where it was kept.
        event.metadata["kept_from"] = end.metadata.get("kept_from") or self.execution_id
        if end.HasField("step_completed"):
            event.step_completed.CopyFrom(end.step_completed)
        else:
            event.step_skipped.CopyFrom(end.step_skipped)
        return event


def _named(graph: Graph, step_ids: Iterable[str]) -> list[int]:
    named = [graph.index[step_id] for step_id in step_ids]
    return named + [item for i in named for item in graph.items.get(i, ())]


def _renewed(graph: Graph, again: set[int], step_ids: Iterable[str]) -> set[int]:
    """Returns the items that may be others this time, with all that depend on them: those of mapped steps that are
    named, or depend on what runs again. The new execution makes them anew, and has none of these.
    """
    named = {graph.index[step_id] for step_id in step_ids}
    left = [
        item
        for i, items in graph.items.items()
        if i in named or (i in again and not again.isdisjoint(graph.needs(i)))
        for item in items
    ]
    found: set[int] = set()
    while left:
        i = left.pop()
        if i not in found:
            found.add(i)
            left += graph.dependants[i]
    return found


async def read_earlier(journal: Journal, record: ExecutionRecord) -> Earlier:
    """Returns what became of an ended execution's steps. Raises CursorExpired where it is purged meanwhile."""
    earlier = Earlier(record.execution_id)
    with journal.follow(record.execution_id, after=0) as follower:
        while follower.sequence < record.last_sequence:
            chunks = await follower.read(max_events=512, max_bytes=1 << 20)
            if not chunks:
                # The record came from the storage, and the event loop has yet to hear of its last events.
                await follower.wait()
            for chunk in chunks:
                for index, kind in enumerate(chunk.kinds):
                    if kind in _TOLD:
                        earlier.take(EventBatch.FromString(chunk.frame(index)).events[0])
            # A long one is read beside others.
            await asyncio.sleep(0)
    return earlier
