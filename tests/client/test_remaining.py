"""The time remaining for people."""

from __future__ import annotations

import pytest

from stepwire.terminal.remaining import Countdown, remaining_text
from stepwire.v1 import Progress


@pytest.mark.parametrize(
    ("seconds", "margin", "text"),
    [
        (0.0, 0.0, "about 1 s left"),
        (0.4, 9.0, "about 1 s left"),
        (3.4, 0.5, "about 3 s left"),
        (38.0, 9.0, "about 40 s left"),
        (38.0, 12.0, "about 40 s left, give or take 10 s"),
        (57.0, 0.0, "about 1 min left"),
        (150.0, 60.0, "about 2 min left, give or take 1 min"),
        (3_400.0, 0.0, "about 0.9 h left"),
        (5_400.0, 0.0, "about 1.5 h left"),
        (100_000.0, 0.0, "about 28 h left"),
    ],
)
def test_it_is_rounded_to_what_is_known(seconds: float, margin: float, text: str):
    """A span has one or two digits, and its margin where it is above a quarter of it."""
    assert remaining_text(seconds, margin) == text


def test_it_runs_down_between_two_events():
    """What the newest event said becomes less with the time, never less than nothing, and its margin with it."""
    now = [100.0]
    countdown = Countdown(clock=lambda: now[0])
    assert countdown.text == ""
    progress = Progress()
    progress.remaining.FromSeconds(40)
    progress.remaining_margin.FromSeconds(20)
    countdown.set(progress)
    assert countdown.text == "about 40 s left, give or take 20 s"
    now[0] += 36
    assert countdown.text == "about 4 s left, give or take 2 s"
    now[0] += 36
    assert countdown.text == "about 1 s left"
    countdown.set(Progress())
    assert countdown.text == ""
    progress.remaining.SetInParent()
    progress.remaining.seconds = 0
    countdown.set(progress)
    assert countdown.text == "about 1 s left"


def test_what_was_said_before_stands_until_it_is_replaced():
    """Whoever draws it while the next event is taken sees the one before, and no gap."""
    drawn: list[str] = []

    def clock() -> float:
        if countdown is not None and not drawn:
            drawn.append("")
            drawn.append(countdown.text)
        return 100.0

    countdown: Countdown | None = None
    progress = Progress()
    progress.remaining.FromSeconds(40)
    made = Countdown(clock=clock)
    made.set(progress)
    countdown = made
    made.set(progress)
    assert drawn[1] == "about 40 s left"
