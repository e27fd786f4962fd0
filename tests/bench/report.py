"""The report: a table of targets and figures, the absolute figures beneath, and the same as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .findings import Finding, Outcome
from .rounds import Spread
from .row import Row

__all__ = ["as_json", "as_markdown", "number", "write"]

_UNITS = {"times": ""}
_VERDICTS = {True: "met", False: "**missed**", None: ""}


def number(value: float) -> str:
    """Returns a figure with three digits, and separators where there are thousands."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def write(
    folder: Path, *, machine: Mapping[str, str], outcomes: Mapping[str, Outcome], rows: Sequence[Row], rounds: int
) -> None:
    """Writes bench.md and bench.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text = as_markdown(machine=machine, outcomes=outcomes, rows=rows, rounds=rounds)
    (folder / "bench.md").write_text(text, encoding="utf-8")
    found = json.dumps(as_json(machine=machine, outcomes=outcomes, rounds=rounds), indent=1)
    (folder / "bench.json").write_text(found + "\n", encoding="utf-8")


def as_markdown(
    *, machine: Mapping[str, str], outcomes: Mapping[str, Outcome], rows: Sequence[Row], rounds: int
) -> str:
    """Returns the report as text: targets first, then the rest of the ratios, then absolute figures."""
    shown = [row for row in rows if row.number in outcomes]
    targets = [(row, finding) for row in shown for finding in outcomes[row.number].findings if finding.target]
    met = sum(1 for _, finding in targets if finding.met)
    head = ["row", "figure", "target", "median", "min to max", ""]
    cells = [
        [
            row.number,
            _said(finding),
            finding.target + _unit(finding.unit),
            *_cells(finding.spread, finding.unit),
            _VERDICTS[finding.met],
        ]
        for row, finding in targets
    ]
    parts = [
        "# Benchmark",
        f"{met} of {len(targets)} targets are met. Each figure is the median of {rounds} rounds in which the variants "
        "alternated, with its minimum and maximum. Ratios are formed round by round; only they hold on other machines.",
        _table(head, cells),
    ]
    for row in shown:
        parts += [f"## {row.number}: {row.title}", " ".join(row.what.split())]
        others = [finding for finding in outcomes[row.number].findings if not finding.target]
        if others:
            cells = [[_said(finding), *_cells(finding.spread, finding.unit)] for finding in others]
            parts.append(_table(["ratio", "median", "min to max"], cells))
        if outcomes[row.number].told:
            cells = [[told.name, *_cells(told.spread, told.unit)] for told in outcomes[row.number].told]
            parts.append(_table(["absolute, on this machine", "median", "min to max"], cells))
    parts += ["## Machine and versions", _table(["", ""], [[name, text] for name, text in machine.items()])]
    return "\n\n".join(parts) + "\n"


def as_json(*, machine: Mapping[str, str], outcomes: Mapping[str, Outcome], rounds: int) -> dict[str, Any]:
    """Returns all that was found, for programs."""
    return {
        "machine": dict(machine),
        "rounds": rounds,
        "rows": {
            name: {
                "findings": [_plain(finding) | {"met": finding.met} for finding in outcome.findings],
                "absolute": [_plain(told) for told in outcome.told],
                "taken": outcome.taken,
                "plot": {key: _plain(value) for key, value in outcome.plot.items()},
            }
            for name, outcome in outcomes.items()
        },
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return {str(key): _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _said(finding: Finding) -> str:
    return f"{finding.what} ({finding.slack})" if finding.slack else finding.what


def _unit(unit: str) -> str:
    return f" {unit}" if (unit := _UNITS.get(unit, unit)) else ""


def _cells(spread: Spread, unit: str) -> list[str]:
    return [number(spread.median) + _unit(unit), f"{number(spread.least)} to {number(spread.most)}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    right = [index > 0 and name in ("median", "min to max", "target") for index, name in enumerate(head)]
    rule = ["---:" if is_right else "---" for is_right in right]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])
