"""How far one attempt of a step is: by what it says itself, by its parts, and by a rule of its operation's own.

The result stands in each event: whoever folds events needs neither the parts nor the rule.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

from stepwire.parts import Part, Parts
from stepwire.v1 import StepProgress
from stepwire.values import to_python

__all__ = ["Reckoner", "Report", "Rule"]

_log = logging.getLogger(__name__)


class Report:
    """What an operation's own rule is given: the newest word of the step, or of one of its parts, and all parts."""

    __slots__ = ("_parts", "_report", "percentage")

    def __init__(self, report: StepProgress, parts: Parts, percentage: float | None) -> None:
        self._report = report
        self._parts = parts
        self.percentage = percentage
        """What it would be without the rule; None where that is not known, or does not change."""

    @property
    def path(self) -> str:
        """The part that the newest word is about; empty where it is about the step itself."""
        return self._report.substep.path

    @property
    def stage(self) -> str:
        """The stage that it names, if it does."""
        return self._report.stage

    @property
    def current(self) -> float | None:
        """Pieces done, where it says so."""
        return self._report.current if self._report.HasField("current") else None

    @property
    def total(self) -> float | None:
        """Pieces in all, where it says so."""
        return self._report.total if self._report.HasField("total") else None

    @property
    def unit(self) -> str:
        """What is counted."""
        return self._report.unit

    @property
    def data(self) -> Mapping[str, Any]:
        """What the operation attached."""
        taken: dict[str, Any] = to_python(self._report.data)
        return taken

    @property
    def parts(self) -> tuple[Part, ...]:
        """The step's own parts, with theirs, as they are now. Made anew at each call."""
        return self._parts.tree()


Rule = Callable[[Report], float | None]
"""Says how far a step is, 0 to 100; None leaves it as it would be without the rule."""


class Reckoner:
    """Lives as long as an attempt."""

    __slots__ = ("_complained", "_operation", "_rule", "_said", "parts")

    def __init__(self, *, operation: str, rule: Rule | None) -> None:
        self.parts = Parts()
        """The parts of the attempt."""
        self._operation = operation
        self._rule = rule
        self._said = 0.0
        self._complained = False

    def reckon(self, report: StepProgress, message: str) -> None:
        """Takes a report that is about to be recorded, and writes into it how far the step is after it."""
        of_parts = report.HasField("substep") or len(report.declared) > 0
        if of_parts:
            self.parts.apply(report, message)
        elif report.HasField("percentage"):
            self._said = report.percentage
        percentage: float | None = None
        if of_parts or report.HasField("percentage"):
            percentage = max(self._said, self.parts.percentage())
        if self._rule is not None:
            percentage = self._by_rule(self._rule, Report(report, self.parts, percentage))
        if percentage is not None:
            report.percentage = percentage

    def _by_rule(self, rule: Rule, report: Report) -> float | None:
        try:
            percentage = rule(report)
            if percentage is None:
                return report.percentage
            if isinstance(percentage, SupportsFloat) and 0 <= float(percentage) <= 100:
                return float(percentage)
            problem: object = f"returned {percentage!r}; it must be 0 to 100, or None"
        except Exception as error:
            problem = error
        if not self._complained:
            self._complained = True
            exc_info = problem if isinstance(problem, Exception) else None
            text = "raised" if exc_info else problem
            _log.warning("operation %r: its rule of progress %s", self._operation, text, exc_info=exc_info)
        return report.percentage
