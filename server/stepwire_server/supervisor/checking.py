"""What the tests say of the code that the state has, whoever changed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwire_server.supervisor.trial import Trial

__all__ = ["NO_REPORT", "report_of"]

NO_REPORT: Mapping[str, Any] = {"passed": 0, "total": 0, "tests": []}
"""Where there is no code."""


async def report_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the state's report; where there is code without one, of a trial that is held now."""
    if not state["code"]:
        return dict(NO_REPORT)
    known: dict[str, Any] | None = state.get("report")
    return known if known is not None else (await Trial(state["tests"]).run(state["code"])).to_state()
