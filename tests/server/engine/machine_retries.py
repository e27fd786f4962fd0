"""What the engine has to answer to the machine's callers who retry, and what a retry has to keep, reckoned anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.faults.history import Kept, events_of

from stepwire.errors import (
    AtMostOnce,
    Draining,
    ExecutionEnded,
    ExecutionRunning,
    JournalUnavailable,
    RequestMalformed,
    StepwireError,
    StorageFull,
    reason_of,
)
from stepwire.v1 import Event, ExecuteRequest, ExecutionState, Plan, StepSkipped
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.rerun import rerun_of
from stepwire_server.journal import ENDED, ExecutionRecord

__all__ = ["Retries"]

_AFTERWARDS = {"step_started", "step_skipped", "plan_completed", "plan_failed", "plan_cancelled"}
"""What comes only after everything that is kept."""


@dataclass(kw_only=True)
class _Source:
    """What an ended execution's events tell, without the engine's own ways to find that."""

    plan: Plan | None
    begun: set[str]
    ends: dict[str, Event]

    @classmethod
    def of(cls, kept: Kept) -> _Source:
        events = events_of(kept)
        plans = [event.plan_started.plan for event in events if event.HasField("plan_started")]
        ends = ("step_completed", "step_failed", "step_skipped", "step_cancelled")
        added = [step for event in events for step in event.plan_revised.steps]
        return cls(
            plan=Plan(steps=[*plans[0].steps, *added]) if plans else None,
            begun={event.step_id for event in events if event.HasField("step_started")},
            ends={event.step_id: event for event in events if event.WhichOneof("kind") in ends},
        )

    @property
    def names(self) -> set[str]:
        return {step.id for step in self.plan.steps} if self.plan is not None else set()

    def items_of(self, name: str) -> set[str]:
        """Returns the items of a mapped step; none of any other."""
        assert self.plan is not None
        mapped = any(step.id == name and step.HasField("for_each") for step in self.plan.steps)
        return {step.id for step in self.plan.steps if mapped and re.fullmatch(f"{name}-[0-9]+", step.id)}

    def with_items(self, named: Iterable[str]) -> set[str]:
        return {found for name in named for found in ({name} | self.items_of(name))}

    def runs(self, named: Iterable[str]) -> set[str]:
        assert self.plan is not None
        found = self.with_items(named) | {step.id for step in self.plan.steps if not self._is_done(step.id)}
        for _ in self.plan.steps:
            found |= {step.id for step in self.plan.steps if found & (set(step.depends_on) | self.items_of(step.id))}
        return found

    def made_anew(self, named: Iterable[str]) -> set[str]:
        """Returns the items of mapped steps whose list may be another one, and what depends on them."""
        assert self.plan is not None
        runs = self.runs(named)
        mapped = [step for step in self.plan.steps if step.HasField("for_each")]
        again = [step.id for step in mapped if step.id in set(named) or runs & set(step.depends_on)]
        found = {item for name in again for item in self.items_of(name)}
        for _ in self.plan.steps:
            found |= {step.id for step in self.plan.steps if found & set(step.depends_on)}
        return found

    def plan_again(self, named: Iterable[str]) -> Plan:
        assert self.plan is not None
        gone = self.made_anew(named)
        return Plan(steps=[step for step in self.plan.steps if step.id not in gone])

    def silent(self, named: Iterable[str]) -> set[str]:
        """Returns what would run a second time although it may run once, and nobody said so."""
        if self.plan is None:
            return set()
        once = {step.id for step in self.plan.steps if step.operation == "once" and not step.HasField("for_each")}
        return {name for name in (self.runs(named) & once) - self.with_items(named) if self._may_have_run(name)}

    def kept(self, named: Iterable[str]) -> list[tuple[str, object]]:
        runs = self.runs(named)
        return [(name, end.step_completed.output) for name, end in self.ends.items() if name not in runs]

    def _is_done(self, name: str) -> bool:
        end = self.ends.get(name, Event())
        return end.HasField("step_completed") or end.step_skipped.cause == StepSkipped.CAUSE_CONDITION

    def _may_have_run(self, name: str) -> bool:
        end = self.ends.get(name)
        failed = end is not None and end.HasField("step_failed")
        is_known = failed and end is not None and reason_of(end.step_failed.error) != "OUTCOME_UNKNOWN"
        return self._is_done(name) or (name in self.begun and not is_known)


class Retries:
    """Retries, and what becomes of them."""

    def __init__(self, kept: Callable[[str], Kept], excused: Callable[[Engine], bool]) -> None:
        self._kept = kept
        self._excused = excused
        """Whether an engine may have lost its executions, or refuse new ones."""
        self._asked: dict[str, tuple[str, frozenset[str]]] = {}
        """What was asked for under each request id."""
        self.count = 0

    async def ask(self, engine: Engine, execution_id: str, names: Iterable[str], *, times: int = 1) -> None:
        """Retries an execution under a new request id, so many times, and judges the answers."""
        named = frozenset(names)
        request_id = f"t{len(self._asked)}"
        self._asked[request_id] = (execution_id, named)
        record = engine.journal._records[execution_id]  # type: ignore[attr-defined]
        source = _Source.of(self._kept(execution_id))
        found = set()
        for _ in range(times):
            try:
                answer = await engine.retry(
                    execution_id, step_ids=sorted(named), request_id=request_id, actor="a", reason=request_id
                )
            except StepwireError as error:
                self._refused(engine, record, source, named, error)
            else:
                self._accepted(record, source, named, answer)
                found.add(answer.execution_id)
        assert len(found) <= 1, found

    def _refused(
        self, engine: Engine, record: ExecutionRecord, source: _Source, named: frozenset[str], error: StepwireError
    ) -> None:
        expected: type[StepwireError] | None = None
        if record.state not in ENDED:
            expected = ExecutionRunning
        elif named - source.names:
            expected = RequestMalformed
        elif record.state == ExecutionState.EXECUTION_STATE_COMPLETED and not named:
            expected = ExecutionEnded
        elif silent := source.silent(named):
            expected = AtMostOnce
            assert not isinstance(error, AtMostOnce) or len(error.violations) == len(silent), error.violations
        excused = isinstance(error, JournalUnavailable | Draining | StorageFull) and self._excused(engine)
        assert excused or (expected is not None and isinstance(error, expected)), (expected, repr(error))

    def _accepted(
        self, record: ExecutionRecord, source: _Source, named: frozenset[str], answer: ExecutionRecord
    ) -> None:
        assert record.state in ENDED, "what still ran was retried"
        assert named or record.state != ExecutionState.EXECUTION_STATE_COMPLETED, "there was nothing to retry"
        assert answer.execution_id != record.execution_id
        assert not source.silent(named), "what runs once would run again"
        self.count += 1

    def judge(self, kept: Kept) -> None:
        """Holds a retry to what it has to keep: all of it, at once, and nothing else; and to the plan that ran."""
        rerun = rerun_of(ExecuteRequest.FromString(kept.request))
        if rerun is None:
            return
        assert self._asked[kept.request_id] == (rerun.execution_id, rerun.step_ids)
        source = _Source.of(self._kept(rerun.execution_id))
        events = events_of(kept)
        has_all = any(event.WhichOneof("kind") in _AFTERWARDS for event in events)
        if source.plan is None:
            assert not any(event.metadata.get("kept_from") for event in events)
            return
        plans = [event.plan_started.plan for event in events if event.HasField("plan_started")]
        expected_plan = source.plan_again(rerun.step_ids)
        assert plans == [expected_plan] or not (plans or has_all), "another plan, or none"
        taken = [event for event in events if "kept_from" in event.metadata]
        expected = source.kept(rerun.step_ids)
        found = [(event.step_id, event.step_completed.output) for event in taken]
        assert found == (expected if has_all else expected[: len(found)]), (found, expected)
        assert all(event.attempt == 0 for event in taken)
        started = {event.step_id for event in events if event.HasField("step_started")} & source.names
        assert started <= source.runs(rerun.step_ids), "a kept step has run"
