"""An execution as callers see it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from stepwire.v1 import Event, ExecuteRequest, Execution, ExecutionState, Plan, PlanCall
from stepwire_server.engine.recorder import frame
from stepwire_server.engine.rerun import Rerun, rerun_request
from stepwire_server.engine.snapshot import first_snapshot, plan_of
from stepwire_server.engine.states import KINDS
from stepwire_server.journal import Chunk, ExecutionRecord, MemoryJournal

RUNNING = ExecutionState.EXECUTION_STATE_RUNNING


def chunk_of(event: Event) -> Chunk:
    """Returns a chunk of one event."""
    data = frame(event.SerializeToString())
    return Chunk(
        first=event.sequence, data=data, ends=[len(data)], kinds=bytes([KINDS[event.WhichOneof("kind") or ""]])
    )


@pytest.mark.timeout(10)
async def test_a_record_that_is_ahead_of_the_wake_up_holds_nobody_up() -> None:
    """A record can be read from the storage before the event loop hears of its last events; the plan waits for them,
    and lets everything else go on, so that they can come.
    """
    journal = MemoryJournal()
    await journal.open()
    asked = ExecutionRecord(execution_id="a", request=b"", create_time_ns=1, state=RUNNING)
    record, _ = await journal.create(asked)
    started = Event(execution_id="a", sequence=1)
    started.plan_started.plan.CopyFrom(Plan(steps=[{"id": "first"}]))
    revised = Event(execution_id="a", sequence=2)
    revised.plan_revised.steps.add(id="second")
    await journal.append("a", epoch=1, chunk=chunk_of(started), state=RUNNING, snapshot=b"")
    ahead = replace(record, last_sequence=2)
    reading = asyncio.create_task(plan_of(journal, ahead))
    await asyncio.sleep(0)
    await journal.append("a", epoch=1, chunk=chunk_of(revised), state=RUNNING, snapshot=b"")
    plan = await reading
    assert plan is not None
    assert [step.id for step in plan.steps] == ["first", "second"]
    await journal.close()


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (ExecuteRequest(call=PlanCall(plan="order")), "order"),
        (ExecuteRequest(plan=Plan(name="my own")), "my own"),
        (ExecuteRequest(query="plan it"), ""),
    ],
)
def test_a_snapshot_names_its_plan(request_: ExecuteRequest, name: str) -> None:
    """A snapshot has the name of the plan that was called or sent, from the beginning; so has that of a retry, and of a
    retry of a retry.
    """
    again = Rerun(execution_id="e", step_ids=frozenset(), actor="", reason="")
    once = rerun_request(again, request_, kept=1)
    for asked in (request_, once, rerun_request(again, once, kept=None)):
        record = ExecutionRecord(execution_id="e", request=asked.SerializeToString(), create_time_ns=1)
        assert Execution.FromString(first_snapshot(record)).plan_name == name
