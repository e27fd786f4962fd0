"""Lines and bars for each kind of event."""

from __future__ import annotations

import io

import pytest
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from stepwire.events import EVENT_TYPES
from stepwire.terminal.live import LiveView
from stepwire.terminal.views import line_of, span_text
from stepwire.v1 import StepSkipped

from .scripted import event


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES - {"content", "step_saved"}))
def test_line(kind: str) -> None:
    """Each kind has a line, and it is one line."""
    made = event(1, kind)
    assert line_of(made)
    assert "\n" not in line_of(made)


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_bars(kind: str) -> None:
    """An event of each kind can be shown on a terminal, at any moment, and its text is never taken for markup."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveView(console) as view:
        for first in ("plan_started", "step_started", "step_progress"):
            view.show(event(1, first, message="[/] [bold] broken"))
        view.show(event(2, kind, message="[/nothing]"))


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
