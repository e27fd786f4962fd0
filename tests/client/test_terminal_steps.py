"""What `stepwire show` tells of an execution's steps."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner

from stepwire.terminal.commands import stepwire
from stepwire.terminal.steps import KINDS, account
from stepwire.terminal.views import line_of
from stepwire.v1 import Event, EventBatch, Execution, GetExecutionResponse, Plan, Step, StepSkipped

from .scripted import EXECUTION, ScriptedServer


def told(kind: str, step: str = "", attempt: int = 0) -> Event:
    """Returns an event of a kind about a step."""
    made = Event(step_id=step, attempt=attempt)
    getattr(made, kind).SetInParent()
    return made


def failed(step: str, text: str, *, attempt: int) -> Event:
    """Returns the event of a step that failed after 1.5 s."""
    made = told("step_failed", step, attempt)
    made.step_failed.error.message = text
    made.step_failed.execution_time.FromMilliseconds(1_500)
    return made


def plan(*names: str) -> Plan:
    """Returns a plan of steps with these ids."""
    return Plan(steps=[Step(id=name, name=name.upper()) for name in names])


def test_each_state() -> None:
    """Each step has its newest state, its attempt, how long it took, and why."""
    retrying = told("step_retrying", "b", 1)
    retrying.step_retrying.error.message = "busy"
    skipped = told("step_skipped", "d")
    skipped.step_skipped.cause, skipped.step_skipped.failed_step_id = StepSkipped.CAUSE_DEPENDENCY, "c"
    done = told("step_completed", "a", 1)
    done.step_completed.execution_time.FromMilliseconds(20)
    events = [told("step_started", "a", 1), done, told("step_started", "b", 1), retrying]
    events += [
        told("step_started", "c", 2),
        failed("c", "no such thing", attempt=2),
        skipped,
        told("step_cancelled", "e"),
    ]
    assert account(plan("a", "b", "c", "d", "e", "f"), events).rows == [
        ("1", "A (a)", "completed", "1", "0.020s", ""),
        ("2", "B (b)", "retrying", "1", "", "busy"),
        ("3", "C (c)", "failed", "2", "1.500s", "no such thing"),
        ("4", "D (d)", "skipped", "", "", "c did not complete"),
        ("5", "E (e)", "cancelled", "", "", ""),
        ("6", "F (f)", "pending", "", "", ""),
    ]


def test_what_a_retry_leaves() -> None:
    """The error of an attempt is gone once the next one has begun."""
    retrying = told("step_retrying", "a", 1)
    retrying.step_retrying.error.message = "busy"
    [row] = account(plan("a"), [retrying, told("step_started", "a", 2)]).rows
    assert row == ("1", "A (a)", "running", "2", "", "")


def test_a_long_plan() -> None:
    """Of more than 100 steps those are listed that are neither done nor still to come."""
    steps = [f"s{number}" for number in range(150)]
    events = [told("step_completed", step, 1) for step in steps[:90]] + [failed("s90", "no", attempt=1)]
    found = account(plan(*steps), events)
    assert [row[0] for row in found.rows] == ["91"]
    assert found.left_out == 149


def test_who_asked() -> None:
    """Who paused it and why is said until it is resumed, and who cancelled it."""
    paused, cancelling = told("plan_paused"), told("plan_cancelling")
    paused.plan_paused.actor, paused.plan_paused.reason = "ann", "the bank is closed"
    cancelling.plan_cancelling.reason = "wrong city"
    assert account(Plan(), [paused]).said == "paused by ann: the bank is closed"
    assert account(Plan(), [paused, told("plan_resumed")]).said == ""
    assert account(Plan(), [paused, cancelling]).said == "cancelled: wrong city"


def test_show(server: ScriptedServer) -> None:
    """The table stands below the facts, each step in a line of its own."""
    found = Execution(execution_id=EXECUTION, state=7, plan=plan("a"))
    server.replies("GetExecution", GetExecutionResponse(execution=found))
    page = EventBatch(events=[failed("a", "two\nlines", attempt=3)], sequence=1)
    server.replies("ListEvents", page, EventBatch(after_sequence=1, sequence=1))
    result = CliRunner().invoke(stepwire, ["--server", server.target, "show", EXECUTION])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("\n\n#  STEP   STATE   ATTEMPT  TIME\n1  A (a)  failed  3        1.500s  two lines\n")
    assert list(server.calls[1].request.filter.kinds) == list(KINDS)


def test_progress_without_a_text() -> None:
    """Progress that has no text is told by the step's name and what it counts."""

    def line(**fields: Any) -> str:
        made = told("step_progress", "mail")
        made.progress.percentage = 12.5
        for name, value in fields.items():
            setattr(made.step_progress, name, value)
        return line_of(made)

    assert line(current=3, total=8, unit="pages") == "     12%: mail: 3 of 8 pages"
    assert line(current=3) == "     12%: mail: 3"
    assert line(percentage=25) == "     12%: mail: 25%"
    assert line() == "     12%: mail"
    assert line(stage="sending") == "     12%: sending"


def test_a_step_that_waits_for_a_person() -> None:
    """A step that asks is said to wait, with its question, until it was answered."""
    asks = told("input_requested", "a", 1)
    asks.input_requested.prompt = "Go on?"
    events = [told("step_started", "a", 1), asks]
    assert account(plan("a"), events).rows == [("1", "A (a)", "waiting", "1", "", "asks: Go on?")]
    [row] = account(plan("a"), [*events, told("input_received", "a", 1)]).rows
    assert row == ("1", "A (a)", "running", "1", "", "")
