"""What the kit says at the end: a table of cases by clients, the reason of every failure, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from .case import Case
from .catching import Catch
from .trial import Result

__all__ = ["Report"]

_CAUGHT = "wrong client"
"""The column that says whether the case catches its wrong client."""


class Report:
    """Collects results. `not_run` has the clients that could not be tried, and why; `catching` says whether each case
    is tried with its wrong client, too.
    """

    def __init__(
        self, cases: Sequence[Case], clients: Sequence[str], *, not_run: Mapping[str, str], catching: bool
    ) -> None:
        self._cases = cases
        self._clients = clients
        self._not_run = not_run
        self._catching = catching
        self._results: dict[tuple[str, str], Result] = {}
        self._catches: dict[str, Catch] = {}

    def add(self, result: Result | Catch) -> None:
        """Takes a result."""
        if isinstance(result, Catch):
            self._catches[result.case] = result
        else:
            self._results[result.case, result.client] = result

    @property
    def passed(self) -> bool:
        """Whether every case was tried with every client and passed, and caught its wrong one."""
        return all(cell in ("ok", "caught") for row in self._rows() for cell in row[1:])

    def failures(self) -> list[str]:
        """Returns what is wrong, and how to see it again."""
        texts = [f"{client}: NOT RUN: {why}" for client, why in self._not_run.items()]
        rules = {case.name: case.rule for case in self._cases}
        texts += [_failure(result, rules[result.case]) for result in self._results.values() if not result.passed]
        return texts + [_miss(catch) for catch in self._catches.values() if not catch.caught]

    def table(self) -> list[Sequence[str]]:
        """Returns the table's rows, the head first."""
        rows = self._rows()
        columns = list(zip(*rows, strict=True))[1:]
        good = [f"{sum(cell in ('ok', 'caught') for cell in column)} of {len(rows)}" for column in columns]
        return [("case", *self._columns()), *rows, ("good", *good)]

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
        lines = ["# Conformance", "", _row(head), _row(["---"] * len(head)), *map(_row, rows)]
        failures = self.failures()
        if failures:
            lines += ["", "## What is wrong", "", "```", "\n\n".join(failures), "```"]
        if self._catches:
            lines += ["", "## What the wrong clients do", ""]
            lines += [f"- {catch.case}: {catch.fault}" for catch in self._catches.values()]
        (folder / "conformance.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        content = {
            "passed": self.passed,
            "not_run": dict(self._not_run),
            "results": [asdict(result) for result in self._results.values()],
            "wrong_clients": [asdict(catch) | {"caught": catch.caught} for catch in self._catches.values()],
        }
        (folder / "conformance.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _columns(self) -> Sequence[str]:
        return [*self._clients, _CAUGHT] if self._catching else self._clients

    def _rows(self) -> list[Sequence[str]]:
        return [(case.name, *(self._cell(case.name, column) for column in self._columns())) for case in self._cases]

    def _cell(self, case: str, column: str) -> str:
        if column == _CAUGHT and (catch := self._catches.get(case)) is not None:
            return "caught" if catch.caught else "MISSED"
        result = self._results.get((case, column))
        return "NOT RUN" if result is None else "ok" if result.passed else "WRONG"


def _failure(result: Result, rule: str) -> str:
    lines = [f"{result.client}, {result.case}: {rule}"]
    lines += [f"    {wrong}" for wrong in result.wrong]
    lines += [f"    standard error: {line}" for line in result.errors.strip().splitlines()[-12:]]
    lines.append(f"    again: make conformance CLIENTS={result.client} CASES={result.case}")
    return "\n".join(lines)


def _miss(catch: Catch) -> str:
    lines = [f"The case {catch.case} does not catch its wrong client: {catch.fault}"]
    if not catch.result.wrong:
        lines.append("    It passed.")
    elif catch.result.exit_code != 0:
        lines.append(f"    It did not run to its end (exit code {catch.result.exit_code}), which proves nothing:")
        lines += [f"    {line}" for line in [*catch.result.wrong, *catch.result.errors.strip().splitlines()[-12:]]]
    elif catch.sound is not None:
        lines.append("    It is wrong in the plain case, too:")
        lines += [f"    {line}" for line in [*catch.sound.wrong, *catch.sound.errors.strip().splitlines()[-12:]]]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
