"""What the kit says at the end: a table of cases by clients, the reason of every failure, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from .case import Case
from .trial import Result

__all__ = ["Report"]


class Report:
    """Collects results. `not_run` has the clients that could not be tried, and why."""

    def __init__(self, cases: Sequence[Case], clients: Sequence[str], not_run: Mapping[str, str]) -> None:
        self._cases = cases
        self._clients = clients
        self._not_run = not_run
        self._results: dict[tuple[str, str], Result] = {}

    def add(self, result: Result) -> None:
        """Takes a result."""
        self._results[result.case, result.client] = result

    @property
    def passed(self) -> bool:
        """Whether every case was tried with every client, and passed."""
        return not self._not_run and all(
            (result := self._results.get((case.name, client))) is not None and result.passed
            for case in self._cases
            for client in self._clients
        )

    def failures(self) -> list[str]:
        """Returns what is wrong, with what to do."""
        texts = [f"{client}: NOT RUN: {why}" for client, why in self._not_run.items()]
        rules = {case.name: case.rule for case in self._cases}
        for result in self._results.values():
            if not result.passed:
                lines = [f"{result.client}, {result.case}: {rules[result.case]}"]
                lines += [f"    {wrong}" for wrong in result.wrong]
                errors = result.errors.strip().splitlines()
                lines += [f"    standard error: {line}" for line in errors[-12:]]
                lines.append(f"    again: make conformance CLIENTS={result.client} CASES={result.case}")
                texts.append("\n".join(lines))
        return texts

    def table(self) -> list[Sequence[str]]:
        """Returns the table's rows, the head first."""
        rows: list[Sequence[str]] = [("case", *self._clients)]
        rows += [(case.name, *(self._cell(case.name, client) for client in self._clients)) for case in self._cases]
        rows.append(("passed", *(self._count(client) for client in self._clients)))
        return rows

    def text(self) -> str:
        """Returns the table for a terminal."""
        rows = self.table()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    def write(self, folder: Path) -> None:
        """Writes `conformance.md` and `conformance.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        head, *rows = self.table()
        lines = [_row(head), _row(["---"] * len(head)), *map(_row, rows)]
        failures = self.failures()
        if failures:
            lines += ["", "## What is wrong", "", "```", "\n\n".join(failures), "```"]
        (folder / "conformance.md").write_text("# Conformance\n\n" + "\n".join(lines) + "\n")
        content = {
            "passed": self.passed,
            "not_run": dict(self._not_run),
            "results": [asdict(result) for result in self._results.values()],
        }
        (folder / "conformance.json").write_text(json.dumps(content, indent=2) + "\n")

    def _cell(self, case: str, client: str) -> str:
        result = self._results.get((case, client))
        if result is None:
            return "NOT RUN"
        return "ok" if result.passed else "WRONG"

    def _count(self, client: str) -> str:
        passed = sum(self._cell(case.name, client) == "ok" for case in self._cases)
        return f"{passed} of {len(self._cases)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
