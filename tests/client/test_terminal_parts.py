"""Parts of steps on the terminal: nested bars, and lines elsewhere."""

from __future__ import annotations

import io
import re
from typing import Any

import pyte
import pytest
from rich.console import Console

from stepwire.terminal.live import LiveView
from stepwire.terminal.views import line_of
from stepwire.v1 import Event, StepState, Substep

from .scripted import event

STATES = StepState.DESCRIPTOR.values_by_name


def part(path: str, state: str, percentage: float = 0, *, step: int = 1, whole: float = 0, **more: Any) -> Event:
    """Returns an event about a part of a step; `whole` is the step's percentage, `more` of its report."""
    message = more.pop("message", "")
    made = event(1, message=message, step_id=f"s{step}", step_name=f"Step {step}", attempt=1)
    made.progress.current_step, made.progress.percentage = step, 20
    made.step_progress.substep.CopyFrom(
        Substep(
            path=path,
            name=path.rpartition("/")[2],
            weight=1,
            percentage=percentage,
            state=STATES[f"STEP_STATE_{state}"].number,
        )
    )
    made.step_progress.percentage = whole
    for name, value in more.items():
        setattr(made.step_progress, name, value)
    return made


def about(kind: str, step: int = 1) -> Event:
    """Returns an event of a kind about a step."""
    made = event(1, kind, message="", step_id=f"s{step}", step_name=f"Step {step}", attempt=1)
    made.progress.current_step = step
    return made


class Screen:
    """A live view on a terminal of 100 columns, and the bars that it shows."""

    def __init__(self, *, height: int = 30) -> None:
        self._file = io.StringIO()
        self._console = Console(file=self._file, force_terminal=True, width=100, height=height, color_system="standard")
        self.view = LiveView(self._console)
        self.view._bars.live.auto_refresh = False  # Its thread would write whenever it likes.

    def __enter__(self) -> Screen:
        self.view.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.view.__exit__(*error)

    def show(self, *events: Event) -> list[str]:
        """Shows events, and returns the bars then: name, percentage where it is known, and message."""
        for made in events:
            self.view.show(made)
        self._file.seek(0)
        self._file.truncate()
        self.view._bars.refresh()
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self._file.getvalue()).splitlines()
        return [re.sub(r" +$", "", re.sub(r" *[━╸╺]{24} *", " | ", line)) for line in shown if line.strip()]

    def printed(self, made: Event) -> str:
        """Shows an event, and returns what it leaves above the bars."""
        self._file.seek(0)
        self._file.truncate()
        self.view.show(made)
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self._file.getvalue()).splitlines()
        return "\n".join(line.rstrip() for line in lines if "━" not in line and line.strip())


def without_clock(lines: list[str]) -> list[str]:
    """Returns the lines of steps and parts, without their times."""
    return [re.sub(r" *\d:\d\d:\d\d ?", " ", line).rstrip() for line in lines[1:]]


def test_nested_bars() -> None:
    """Each part that runs has a bar below what it belongs to, with what it counts; one that ended has none."""
    with Screen() as screen:
        assert without_clock(screen.show(about("step_started"), about("step_started", 2))) == [
            "  1/2 Step 1 |",
            "  2/2 Step 2 |",
        ]
        declared = about("step_progress")
        declared.step_progress.declared.add(path="Load", name="Load", weight=1)
        declared.step_progress.percentage = 0
        bars = screen.show(
            declared,
            part("Load", "RUNNING"),
            part("Load/Files", "RUNNING", step=1),
            part("Load/Files", "PROGRESS", 30, whole=30, message="reading", current=12, total=40, unit="files"),
            part("Other", "RUNNING", step=2),
            part("Load/More", "RUNNING", whole=15),
        )
        assert without_clock(bars) == [
            "  1/2 Step 1 | 15%",
            "    Load | 15%",
            "      Files | 30% reading, 12 of 40 files",
            "      More |",
            "  2/2 Step 2 | 0%",
            "    Other |",
        ]
        bars = screen.show(part("Load/Files", "COMPLETED", 100), part("Load/More", "PROGRESS", 0, whole=50, stage="s"))
        assert without_clock(bars)[:3] == ["  1/2 Step 1 | 50%", "    Load | 50%", "      More | s"]
        assert without_clock(screen.show(part("Load", "RUNNING")))[:2] == ["  1/2 Step 1 | 0%", "    Load |"]
        assert "More" not in "".join(screen.show())
        bars = screen.show(part("Load", "CANCELLED", 50))
        assert without_clock(bars)[:2] == [
            "  1/2 Step 1 | 0%",
            "  2/2 Step 2 | 0%",
        ]
        assert without_clock(screen.show(about("step_completed", 2))) == ["  1/2 Step 1 | 0%"]


def test_unknown_amounts() -> None:
    """The bar of a step or part that never said how far it is pulses, without a percentage."""
    with Screen() as screen:
        bars = screen.show(about("step_started"), part("A", "RUNNING"))
        assert screen.view._steps["s1"]._inner["A"]
        tasks = {task.description.strip(): task.total for task in screen.view._bars.tasks}
        assert tasks["A"] is None
        assert "%" not in bars[2]
    with Screen() as screen:
        text = about("step_progress")
        text.step_progress.stage = "thinking"
        bars = screen.show(about("step_started"), text)
        assert without_clock(bars) == ["  1/2 Step 1 | thinking"]
        assert [task.total for task in screen.view._bars.tasks] == [100, None]
        text.step_progress.percentage = 5
        assert without_clock(screen.show(text)) == ["  1/2 Step 1 | 5% thinking"]


def test_a_part_that_fails() -> None:
    """A part that fails leaves a line that says why, once for an exception that leaves one part after another."""
    with Screen() as screen:
        screen.show(about("step_started"), part("A", "RUNNING"), part("A/[b]", "RUNNING"))
        line = screen.printed(part("A/[b]", "FAILED", 10, message="Failed: [b]: OSError: no line"))
        assert line == "  failed    1/2 Step 1 > A > [b]  OSError: no line"
        assert screen.printed(part("A", "FAILED", 10, message="Failed: A: OSError: no line")) == ""
        assert "OSError: other" in screen.printed(part("C", "FAILED", 10, message="Failed: C: OSError: other"))


def test_a_retry_takes_the_bars_of_parts_away() -> None:
    """What an attempt left open is gone with it."""
    with Screen() as screen:
        screen.show(about("step_started"), part("A", "RUNNING"), part("A/b", "RUNNING"))
        assert without_clock(screen.show(about("step_retrying"))) == ["  1/2 Step 1 | 0%"]
        assert without_clock(screen.show(about("step_started"), part("b", "RUNNING"))) == [
            "  1/2 Step 1 | 0%",
            "    b |",
        ]


def test_more_parts_than_lines() -> None:
    """Where the terminal has no lines for all, steps have theirs first, then outer parts, and nothing scrolls."""
    with Screen(height=10) as screen:
        screen.show(about("step_started", 1), about("step_started", 2))
        for number in range(20):
            screen.show(part(f"P{number}", "RUNNING"), part(f"P{number}/inner", "RUNNING"))
        bars = without_clock(screen.show(part("Q", "RUNNING", step=2)))
        assert bars == ["  1/2 Step 1 | 0%", "    P0 |", "    P1 |", "    P2 |", "    P3 |", "  2/2 Step 2 | 0%"]
        for number in range(20):
            screen.show(part(f"P{number}", "COMPLETED", 100))
        assert without_clock(screen.show())[1:] == ["  2/2 Step 2 | 0%", "    Q |"]


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (part("Pay", "RUNNING", message="Started: Pay"), "Pay"),
        (part("Pay/3-D Secure", "RUNNING", message="Started: 3-D Secure"), "Pay > 3-D Secure"),
        (part("Pay", "PROGRESS", 50, message="Waiting"), "Pay: Waiting"),
        (part("Pay", "PROGRESS", 50), "Pay: 50%"),
        (part("Pay", "PROGRESS", 30, current=12, total=40, unit="files"), "Pay: 12 of 40 files"),
        (part("Pay", "PROGRESS", 30, stage="second", current=12), "Pay: second, 12"),
        (
            part("Pay", "PROGRESS", 30, message="12 of 40 files", current=12, total=40, unit="files"),
            "Pay: 12 of 40 files",
        ),
        (part("Pay", "COMPLETED", 100, message="Completed: Pay"), "Pay (done)"),
        (part("Pay", "CANCELLED", 10, message="Cancelled: Pay"), "Pay (cancelled)"),
        (part("Pay", "FAILED", 10, message="Failed: Pay: OSError: no"), "Pay (failed: OSError: no)"),
        (part("a~1b/c", "RUNNING"), "a/b > c"),
    ],
)
def test_lines_about_parts(made: Event, line: str) -> None:
    """A line about a part names it, with what it belongs to, and what became of it."""
    assert line_of(made) == f"     20%: {line}"


def test_a_question_takes_no_line_away() -> None:
    """What was printed is still there once a question was asked aside, with what was typed; so it is where the terminal
    shows ^C behind the bars.
    """
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, height=30)
    screen = pyte.Screen(100, 30)
    view = LiveView(console)
    view._bars.live.auto_refresh = False
    with view:
        for step in (1, 2, 3):
            view.show(about("step_started", step))
        view.show(about("step_completed", 3))
        view.notice("before")
        view._bars.refresh()
        file.write("^C")
        view.hold()
        file.write("Go on? yes\n")
        view.release()
        view.notice("after")
        view.show(about("step_completed", 1))
    pyte.Stream(screen).feed(file.getvalue().replace("\n", "\r\n"))
    shown = [line.rstrip() for line in screen.display if line.strip()]
    assert [line[:12] for line in shown[:-1]] == ["  done      ", "before", "Go on? yes", "after", "  done      "]
    assert "━" in shown[-1]
