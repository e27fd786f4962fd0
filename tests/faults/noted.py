"""What one test of a fault has to tell besides that it passed."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Noted"]


@dataclass(kw_only=True)
class Noted:
    """A row of the table of faults."""

    times: int = 1
    """How often the fault was injected."""
    figures: dict[str, str] = field(default_factory=dict)
    """What was measured, by its name, with its unit."""
