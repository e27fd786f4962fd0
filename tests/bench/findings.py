"""What a row of the benchmark found: figures, and figures that have a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .rounds import Spread

__all__ = ["Finding", "Outcome", "Told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An absolute figure: true on this machine, on this day."""

    name: str
    spread: Spread
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A figure that is compared with a target. Without one it is only told."""

    what: str
    """What it is, such as "Stepwire, times per message"."""
    spread: Spread
    unit: str = "times"
    at_least: float | None = None
    at_most: float | None = None
    collapse: float | None = None
    """Where `make bench-quick` fails: a wide limit, on ratios only, on the side that the target is on."""
    slack: str = ""
    """What qualifies the figure, in a few words."""

    @property
    def target(self) -> str:
        """The target in words; empty where there is none."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return f"at most {self.at_most:g}" if self.at_most is not None else ""

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None where there is none."""
        if self.at_least is not None:
            return self.spread.median >= self.at_least
        return self.spread.median <= self.at_most if self.at_most is not None else None

    @property
    def collapsed(self) -> bool:
        """Whether not even the wide limit holds."""
        if self.collapse is None:
            return False
        return self.spread.median > self.collapse if self.at_most is not None else self.spread.median < self.collapse


@dataclass(kw_only=True)
class Outcome:
    """All that a row found."""

    findings: list[Finding] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    plot: Mapping[str, Any] = field(default_factory=dict)
    """What the plots draw, by name."""
    taken: list[Mapping[str, Sequence[Any]]] = field(default_factory=list)
    """Every figure of every round, by variant: for those who reckon for themselves."""
