"""The engine, broken on purpose in pauses, questions, retries, request ids and growing plans: the machine finds each.

python -m tests.server.engine.machine_breaks      prints a table: what is broken, and in which example it was found
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from stepwire.errors import RequestIdReused
from stepwire.v1 import Event, ExecutionState, InputReceived, StepState
from stepwire_server.engine import asking, earlier, executor, growth, inheritance, intake, states
from stepwire_server.engine.asking import Asking
from stepwire_server.engine.earlier import Earlier
from stepwire_server.engine.ending import record_not_met, record_skipped
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.executor import Executor
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.graph import Graph
from stepwire_server.engine.mapping import Mappings
from stepwire_server.engine.questions import Questions
from stepwire_server.engine.recovery import record_takeover
from stepwire_server.engine.slots import Slots
from stepwire_server.engine.step_events import StepEvents
from stepwire_server.engine.step_runner import StepRunner
from stepwire_server.engine.time_limit import TimeLimit
from stepwire_server.journal import MemoryJournal

from .machine import STEPS, EngineMachine, counts

__all__ = ["BREAKS", "counts_the_time_that_it_holds", "examples_until_found"]

_E = ExecutionState
_CLAIM = MemoryJournal.claim
_RECORD = Executor._record_pause
_NOT_MET = record_not_met
_TAKEOVER = record_takeover


def forgets_the_pause_at_a_takeover() -> AbstractContextManager[Any]:
    forgotten = {_E.EXECUTION_STATE_PAUSED: _E.EXECUTION_STATE_RUNNING}
    return patch.dict(states.EXECUTION["plan_recovered"], forgotten)  # type: ignore[arg-type]


def starts_attempts_in_a_pause() -> AbstractContextManager[Any]:
    async def never(_: StepRunner, **__: Any) -> None:
        return

    return patch.object(StepRunner, "_wait_for_the_end_of_a_pause", never)


def waits_only_once_for_the_end_of_a_pause() -> AbstractContextManager[Any]:
    async def once(self: StepRunner, **_: Any) -> None:
        if not self._around.going.is_set():
            with self._rest():
                await self._around.going.wait()

    return patch.object(StepRunner, "_wait_for_the_end_of_a_pause", once)


def holds_no_step_at_its_places() -> AbstractContextManager[Any]:
    async def never(*_: Any) -> None:
        return

    return patch.object(StepRunner, "_hold", never)


def counts_the_time_that_it_holds() -> AbstractContextManager[Any]:
    """Not in the table: chance seldom comes to it, and a test plays it."""
    return patch.object(TimeLimit, "hold", lambda _: None)


def never_lets_go_of_what_it_held() -> AbstractContextManager[Any]:
    def only_clears(self: Executor) -> None:
        if self._paused:
            self._around.going.clear()
        elif self.fold.sequence < 4:
            self._around.going.set()

    return patch.object(Executor, "_mind_pause", only_clears)


def does_not_wake_who_was_resumed() -> AbstractContextManager[Any]:
    def record(self: Executor, event: Event) -> int:
        sequence = self.recorder.record(event)
        self._mind_pause()
        return sequence

    return patch.object(Executor, "_record_pause", record)


def pauses_what_is_paused_once_more() -> AbstractContextManager[Any]:
    def pause(self: Executor, *, actor: str, reason: str) -> int:
        self._check_going_on()
        event = Event()
        event.plan_paused.actor, event.plan_paused.reason = actor, reason
        return self._record_pause(event)

    return patch.object(Executor, "pause", pause)


def records_a_resume_twice() -> AbstractContextManager[Any]:
    def record(self: Executor, event: Event) -> int:
        sequence = _RECORD(self, event)
        if event.HasField("plan_resumed"):
            event.ClearField("plan_resumed")
            event.plan_paused.SetInParent()
            _RECORD(self, event)
            event.plan_resumed.SetInParent()
            _RECORD(self, event)
        return sequence

    return patch.object(Executor, "_record_pause", record)


def pauses_what_is_being_cancelled() -> AbstractContextManager[Any]:
    return patch.object(Executor, "_check_going_on", lambda _: None)


def answers_before_it_is_durable() -> AbstractContextManager[Any]:
    async def at_once(*_: Any) -> None:
        return

    return patch.object(Engine, "_durable", at_once)


def loses_who_paused() -> AbstractContextManager[Any]:
    def record(self: Executor, event: Event) -> int:
        if event.HasField("plan_paused"):
            event.plan_paused.actor = ""
        return _RECORD(self, event)

    return patch.object(Executor, "_record_pause", record)


def loses_request_ids_at_a_takeover() -> AbstractContextManager[Any]:
    async def claim(self: MemoryJournal, execution_id: str, *, epoch: int) -> Any:
        record = await _CLAIM(self, execution_id, epoch=epoch)
        self._by_request_id.pop((record.tenant, record.request_id), None)
        return record

    return patch.object(MemoryJournal, "claim", claim)


def attaches_to_another_request() -> AbstractContextManager[Any]:
    return patch.object(intake, "_attached", lambda record, _: record)


def refuses_the_same_request() -> AbstractContextManager[Any]:
    def refused(record: Any, _: Any) -> Any:
        raise RequestIdReused("used", metadata={"execution_id": record.execution_id})

    return patch.object(intake, "_attached", refused)


def goes_on_before_its_answer_is_durable() -> AbstractContextManager[Any]:
    async def at_once(*_: Any) -> None:
        return

    return patch.object(Asking, "_durable", at_once)


def takes_an_answer_that_does_not_fit() -> AbstractContextManager[Any]:
    return patch.object(asking, "judge", lambda question, _: asking.Verdict(question, []))


def takes_a_second_answer() -> AbstractContextManager[Any]:
    return patch.object(asking, "_check_repeated", lambda *_: None)


def knows_no_answer_after_the_end() -> AbstractContextManager[Any]:
    async def none(*_: Any) -> bool:
        return False

    return patch.object(Engine, "_was_given", none)


def takes_any_answer_after_the_end() -> AbstractContextManager[Any]:
    async def every(*_: Any) -> bool:
        return True

    return patch.object(Engine, "_was_given", every)


def forgets_answers() -> AbstractContextManager[Any]:
    def received(self: Questions, told: InputReceived) -> None:
        self.dropped(self.open[told.input_id].step_index)

    return patch.object(Questions, "received", received)


def withdraws_the_questions_of_those_that_are_let_go_of() -> AbstractContextManager[Any]:
    return patch.object(StepRunner, "_is_broken_off", lambda _: False)


def comes_back_without_a_slot() -> AbstractContextManager[Any]:
    async def at_once(*_: Any) -> None:
        return

    return patch.object(Slots, "back", at_once)


def retries_silently_what_runs_at_most_once() -> AbstractContextManager[Any]:
    return patch.object(inheritance, "_why_not_again", lambda *_: "")


def keeps_what_depends_on_a_step_that_runs() -> AbstractContextManager[Any]:
    def only_these(self: Earlier, graph: Graph, step_ids: Any) -> set[int]:
        return {i for i, step in enumerate(graph.steps) if step.id in step_ids or not self.is_done(step.id)}

    return patch.object(Earlier, "_to_run", only_these)


def keeps_items_where_the_list_may_be_another_one() -> AbstractContextManager[Any]:
    return patch.object(earlier, "_renewed", lambda *_: set())


def adds_again_what_the_plan_has() -> AbstractContextManager[Any]:
    return patch.object(growth, "_new", lambda _, given: (list(given), []))


def forgets_at_a_revision_what_was_reached() -> AbstractContextManager[Any]:
    grow = Fold._grow

    def forget(self: Fold, steps: Any) -> None:
        grow(self, steps)
        self.percentage = 0.0

    return patch.object(Fold, "_grow", forget)


def lets_every_condition_hold() -> AbstractContextManager[Any]:
    return patch.object(executor, "unmet", lambda *_: "")


def skips_what_depends_on_what_a_condition_skipped() -> AbstractContextManager[Any]:
    def record(recorder: Any, index: int, *, why: str) -> None:
        _NOT_MET(recorder, index, why=why)
        for follower in recorder.fold.graph.dependants[index]:
            if recorder.fold.steps[follower].state == StepState.STEP_STATE_PENDING:
                record_skipped(recorder, follower, culprit=recorder.fold.graph.steps[index].id)

    return patch.object(executor, "record_not_met", record)


def lets_all_items_run_at_once() -> AbstractContextManager[Any]:
    take_up = Mappings._take_up

    def all_of_them(self: Mappings, index: int) -> None:
        take_up(self, index)
        waiting = self._open[index].waiting
        while waiting:
            self._schedule.release(waiting.popleft())

    return patch.object(Mappings, "_take_up", all_of_them)


def never_notes_the_end_of_an_item() -> AbstractContextManager[Any]:
    def none(self: Mappings, *_: Any) -> None:
        return

    return patch.object(Mappings, "item_ended", none)


def lists_the_outputs_of_items_backwards() -> AbstractContextManager[Any]:
    completed = StepEvents.completed

    def backwards(self: StepEvents, output: Any) -> None:
        if output.HasField("list_value") and self._step.HasField("for_each"):
            output.list_value.values.reverse()
        completed(self, output)

    return patch.object(StepEvents, "completed", backwards)


def takes_a_mapped_step_for_lost() -> AbstractContextManager[Any]:
    def lost(recorder: Any, **more: Any) -> None:
        graph = recorder.fold.graph
        items, graph.items = graph.items, {}
        try:
            _TAKEOVER(recorder, **more)
        finally:
            graph.items = items

    return patch.object(executor, "record_takeover", lost)


BREAKS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    broken.__name__: broken
    for broken in (
        forgets_the_pause_at_a_takeover,
        starts_attempts_in_a_pause,
        waits_only_once_for_the_end_of_a_pause,
        holds_no_step_at_its_places,
        never_lets_go_of_what_it_held,
        does_not_wake_who_was_resumed,
        pauses_what_is_paused_once_more,
        records_a_resume_twice,
        pauses_what_is_being_cancelled,
        answers_before_it_is_durable,
        loses_who_paused,
        loses_request_ids_at_a_takeover,
        attaches_to_another_request,
        refuses_the_same_request,
        goes_on_before_its_answer_is_durable,
        takes_an_answer_that_does_not_fit,
        takes_a_second_answer,
        knows_no_answer_after_the_end,
        takes_any_answer_after_the_end,
        forgets_answers,
        withdraws_the_questions_of_those_that_are_let_go_of,
        comes_back_without_a_slot,
        retries_silently_what_runs_at_most_once,
        keeps_what_depends_on_a_step_that_runs,
        keeps_items_where_the_list_may_be_another_one,
        adds_again_what_the_plan_has,
        forgets_at_a_revision_what_was_reached,
        lets_every_condition_hold,
        skips_what_depends_on_what_a_condition_skipped,
        lets_all_items_run_at_once,
        never_notes_the_end_of_an_item,
        lists_the_outputs_of_items_backwards,
        takes_a_mapped_step_for_lost,
    )
}
"""By what the broken engine does."""


def examples_until_found(broken: Callable[[], AbstractContextManager[Any]], *, most: int) -> tuple[int, str]:
    """Plays until the machine finds what is broken; returns in which example, at most, and what it said. 0: never."""
    began = counts["examples"]
    with broken():
        try:
            run_state_machine_as_test(
                seed(0)(EngineMachine),
                settings=settings(
                    max_examples=most,
                    stateful_step_count=STEPS,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate],
                    database=None,
                    report_multiple_bugs=False,
                ),
            )
        except Exception as error:  # Whatever the machine raises: it has found it.
            return counts["examples"] - began, f"{type(error).__name__}: {error}".split("\n")[0][:110]
    return 0, ""


def main() -> int:
    logging.disable()
    missed = 0
    print("| the engine | found in example | it said |\n| --- | --- | --- |")
    for name in sys.argv[1:] or BREAKS:
        example, said = examples_until_found(BREAKS[name], most=1_500)
        missed += not example
        print(f"| {name.replace('_', ' ')} | {example or 'NEVER'} | {said} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
