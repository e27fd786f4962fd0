"""Points at which a test makes the server end at once, as if it were killed there.

    STEPWIRE_FAIL_POINT=before-commit:3 stepwire-server serve orders:app

ends it the third time that it is about to commit, with exit code 86. Without the variable `reach` does nothing.
"""

from __future__ import annotations

import itertools
import os

__all__ = ["EXIT_CODE", "POINTS", "VARIABLE", "reach"]

VARIABLE = "STEPWIRE_FAIL_POINT"
"""The environment's variable: a point, or a point and how many times it must be reached."""

EXIT_CODE = 86
"""What the process ends with."""

POINTS = tuple(
    f"{side}-{what}"
    for what in (
        "insert",
        "claim",
        "commit",
        "wake",
        "checkpoint",
        "purge",
        "compaction",
        "step_started",
        "effect",
        "step_completed",
        "plan_revised",
    )
    for side in ("before", "after")
)
"""All points. An insert is one record or chunk in a transaction, a wake one chunk's, an effect an operation's call. A
purge and a compaction are one bite's, before its commit; the times count bites, so that a later one is in the middle.
"""


def _parse(text: str) -> tuple[str, int]:
    point, _, times = text.partition(":")
    if point and point not in POINTS:
        raise ValueError(f"{VARIABLE}: there is no point {point!r}; there are {', '.join(POINTS)}")
    return point, int(times or 1)


_POINT, _TIMES = _parse(os.environ.get(VARIABLE, ""))
_reached = itertools.count(1)


def reach(point: str) -> None:
    """Ends the process where this point was asked for."""
    if point == _POINT and next(_reached) == _TIMES:
        os._exit(EXIT_CODE)
