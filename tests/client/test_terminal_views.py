"""Lines and bars for each kind of event."""

from __future__ import annotations

import io
import re
import time

import pytest
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from stepwire.events import EVENT_TYPES
from stepwire.steps import Outage
from stepwire.terminal.live import LiveView
from stepwire.terminal.outages import BACK, DRAINING, LOST, POLLING, STREAMING, OutageWatch
from stepwire.terminal.views import line_of, span_text
from stepwire.v1 import Progress, StepSkipped

from .scripted import event


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES - {"content", "step_saved"}))
def test_line(kind: str) -> None:
    """Each kind has a line, and it is one line."""
    made = event(1, kind)
    assert line_of(made)
    assert "\n" not in line_of(made)


def test_a_condition_that_does_not_hold() -> None:
    """The line of a step that its condition skipped says what was found, where the event does."""
    skipped = event(3, "step_skipped", message="Skipped: /total of a is 50, not above 100", step_name="Approve")
    skipped.step_skipped.cause = StepSkipped.CAUSE_CONDITION
    assert line_of(skipped).endswith("Approve (skipped: /total of a is 50, not above 100)")
    skipped.message = "Kept: Approve"
    assert line_of(skipped).endswith("Approve (skipped: its condition does not hold)")


def test_a_plan_that_grows() -> None:
    """A revision has a line with what was added and how much there is now, also without a text."""
    revised = event(3, "plan_revised", message="decide added 2 steps: a, b", progress=Progress(total_steps=5))
    assert line_of(revised) == "Growing: decide added 2 steps: a, b (5 in all)"
    revised.message = ""
    revised.plan_revised.steps.add(id="a")
    assert line_of(revised) == "Growing: 1 more step (5 in all)"


def test_steps_that_were_added_have_bars() -> None:
    """On a terminal a revision stays as a line, and steps that it added are shown with their place among all."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveView(console) as view:
        view.show(event(1, "plan_started", progress=Progress(total_steps=1)))
        view.show(event(2, "plan_revised", message="a added 1 step: b", progress=Progress(total_steps=2)))
        for sequence, kind in enumerate(("step_started", "step_completed"), 3):
            about = {"step_id": "b", "step_name": "Bee"}
            view.show(event(sequence, kind, progress=Progress(total_steps=2, current_step=2), **about))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert "Growing: a added 1 step: b (2 in all)" in shown
    assert re.search(r"done +2/2 Bee", shown)


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_bars(kind: str) -> None:
    """An event of each kind can be shown on a terminal, at any moment, and its text is never taken for markup."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveView(console) as view:
        for first in ("plan_started", "step_started", "step_progress"):
            view.show(event(1, first, message="[/] [bold] broken"))
        view.show(event(2, kind, message="[/nothing]"))


@pytest.mark.parametrize("width", [60, 80, 100])
def test_columns(width: int) -> None:
    """Names and messages of any length leave the state, the bar and the percentage as they are, on one line each."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system="standard")
    with LiveView(console) as view:
        for first in ("plan_started", "step_started", "step_progress"):
            made = event(1, first, step_name="A long name " * 9, message="a long message " * 9)
            if first == "step_progress":
                made.step_progress.percentage = 20
            view.show(made)
        view.show(event(2, "plan_started", message="a long message " * 9))
        view._bars.refresh()
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).splitlines()[-2:]  # type: ignore[attr-defined]
    bar = 24 if width >= 80 else 10
    assert max(map(len, lines)) <= width
    assert all(re.search(rf"[━╸╺]{{{bar}}} +\d+% \d:\d\d:\d\d \S", line) for line in lines), lines
    assert lines[0].startswith("Running")
    assert lines[1].startswith("  1/2 A long")
    assert all(line.rstrip().endswith("…") for line in lines)


@pytest.mark.parametrize("kind", ["plan_failed", "plan_cancelled"])
def test_how_it_ended(kind: str) -> None:
    """What a run failed with, or why it was cancelled, stands below the bars in full, whatever is in it."""
    text = "The query was not understood. What can be asked: [bold] how something is done, " + "and more, " * 20 + "end"
    made = event(1, kind, step_id="")
    if kind == "plan_failed":
        made.plan_failed.error.message = text
    else:
        made.plan_cancelled.reason = text
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with LiveView(console) as view:
        view.show(made)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    name = kind.removeprefix("plan_").capitalize()
    assert f"{name}: {text} (0.000s)" in " ".join(shown[shown.rindex("━") :].split())


def test_ends_of_steps() -> None:
    """The end of a step says what became of it, behind what its start says."""
    failed = event(1, "step_failed")
    failed.step_failed.error.message = "out of paper"
    failed.step_failed.execution_time.FromMilliseconds(12_340)
    assert line_of(event(1, "step_started")) == "  Step 1/2: First"
    assert line_of(event(1, "step_completed")) == "  Step 1/2: First (done in 0.000s)"
    assert line_of(failed) == "  Step 1/2: First (failed after 12.3s): out of paper"
    assert line_of(event(1, "step_cancelled")) == "  Step 1/2: First (cancelled)"


@pytest.mark.parametrize(
    ("delay", "text"), [(0, "(tries again)"), (0.0001, "(tries again)"), (2, "(tries again in 2.000s)")]
)
def test_retrying(delay: float, text: str) -> None:
    """A wait before another attempt is told where there is one."""
    made = event(1, "step_retrying")
    made.step_retrying.delay.FromNanoseconds(round(delay * 1e9))
    made.step_retrying.error.message = "busy"
    assert line_of(made) == f"  Step 1/2: First {text}: busy"


class Watched:
    """As much of a run as an OutageWatch looks at."""

    outage: Outage | None = None


def test_outages() -> None:
    """An outage is told once when it has lasted a second, and its end once; a short one is not told."""
    run, told = Watched(), []
    watch = OutageWatch(run, told.append)  # type: ignore[arg-type]
    now = time.monotonic()
    for outage in (None, Outage(since=now, draining=False), None):
        run.outage = outage
        watch.look()
    assert told == []
    for outage in (Outage(since=now - 1, draining=False),) * 2 + (None,) * 2 + (Outage(since=now - 9, draining=True),):
        run.outage = outage
        watch.look()
    assert told == [LOST, BACK, DRAINING]


def test_polling_is_told() -> None:
    """A run that polls says so once, also where the connection was lost before, and when streams come through again."""
    run, told = Watched(), []
    watch = OutageWatch(run, told.append)  # type: ignore[arg-type]
    lost = Outage(since=time.monotonic() - 1, draining=False)
    polling = Outage(since=lost.since, draining=False, polling=True)
    for outage in (lost, polling, polling, None, None, polling, lost, None):
        run.outage = outage
        watch.look()
    assert told == [LOST, POLLING, STREAMING, POLLING, LOST, BACK]


def test_more_steps_than_lines() -> None:
    """Steps beyond the height of the terminal run without a bar and still get their last line."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=10)
    with LiveView(console) as view:
        for number in range(50):
            view.show(event(number + 1, "step_started", step_id=f"s{number}"))
            view.show(event(number + 1, step_id=f"s{number}"))
        view.show(event(99, "step_completed", step_id="s49", step_name="Last of all"))
    assert "Last of all" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (StepSkipped.CAUSE_DEPENDENCY, "First (skipped: s0 did not complete)"),
        (StepSkipped.CAUSE_CONDITION, "First (skipped: its condition does not hold)"),
        (StepSkipped.CAUSE_ENDED, "First (skipped: the execution ended before its turn)"),
        (StepSkipped.CAUSE_UNSPECIFIED, "First (skipped)"),
    ],
)
def test_skipped(cause: StepSkipped.Cause.ValueType, text: str) -> None:
    """A skipped step says why."""
    made = event(1, "step_skipped")
    made.step_skipped.cause, made.step_skipped.failed_step_id = cause, "s0"
    assert line_of(made).endswith(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0021, "0.002s"), (12.34, "12.3s"), (245, "4m 05s"), (7440, "2h 04m"), (0, "0.000s")]
)
def test_span(seconds: float, text: str) -> None:
    """Spans are as exact as they are short."""
    span = Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))
    assert span_text(span) == text
