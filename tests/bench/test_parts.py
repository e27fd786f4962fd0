"""Where an event's processor time goes."""

from __future__ import annotations

import pytest

from . import parts


async def test_every_part_has_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of an event's way is measured, and a part takes no longer than what it is a part of."""
    monkeypatch.setattr(parts, "_TIMES", 3)
    table = await parts.measure()
    figures = {what.strip(): figure for what, figure, _ in table.rows}
    assert len(figures) == len(table.rows)
    assert all(figure > 0 for figure in figures.values())
    assert figures["emit: one call of step.content"] > figures["record it"] > figures["fold it into the state"]
