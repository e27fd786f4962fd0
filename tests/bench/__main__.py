"""The benchmark: Stepwire beside its yardsticks, in turns, in one run.

    python -m tests.bench                       all rows, at least 5 rounds each: half an hour
    python -m tests.bench --only B1 B5          some rows
    python -m tests.bench --quick               rows that show a collapse, in under 3 minutes
    python -m tests.bench --list                what the rows are

`make bench` and `make bench-quick` do so in an environment of their own. The report goes to build/bench: bench.md,
bench.json and the plots. Every program that is measured is a process of its own, and every event is decoded and
checked: where one is lost, doubled or out of order, the benchmark fails.

Exit code: 0; 1 where a row failed, or where with --quick a ratio has collapsed; 2 for wrong arguments. A target that is
missed is in the report, and is no failure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import machine, plot, report
from .bench import Bench
from .findings import Outcome
from .process import REPOSITORY, Failed
from .row import Row, named
from .rows import ROWS

__all__ = ["main"]

FULL_ROUNDS = 5
QUICK_ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small work and wide limits on ratios")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="these rows, such as B1 B5")
    parser.add_argument("--rounds", type=int, help=f"rounds of each variant ({FULL_ROUNDS}; quick: {QUICK_ROUNDS})")
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "build" / "bench", metavar="DIR", help="for the report"
    )
    parser.add_argument("--list", action="store_true", help="say what the rows are, and run none")
    given = parser.parse_args()
    try:
        rows = named(ROWS, given.only)
    except ValueError as error:
        parser.error(str(error))
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds is at least 1")
    if given.list:
        for row in rows:
            print(f"{row.number}: {row.title}\n{row.what}")
        return 0
    if given.quick and not given.only:
        rows = [row for row in rows if row.quick]
    return run(
        rows, quick=given.quick, rounds=given.rounds or (QUICK_ROUNDS if given.quick else FULL_ROUNDS), out=given.out
    )


def run(rows: list[Row], *, quick: bool, rounds: int, out: Path) -> int:
    """Runs the rows, and writes the report after each: what is there stays there when the next one fails."""
    bench = Bench(quick=quick, rounds=rounds)
    found = machine.describe()
    outcomes: dict[str, Outcome] = {}
    failed: list[str] = []
    for row in rows:
        try:
            with bench.for_row(row.number) as own:
                own.say(row.title)
                outcome = row.run(own)
                outcome.taken = own.taken
                outcomes[row.number] = outcome
        except Failed as error:
            failed.append(row.number)
            print(f"{row.number} FAILED: {error}", file=sys.stderr)
        report.write(out, machine=found, outcomes=outcomes, rows=rows, rounds=rounds)
    plot.write(out, outcomes)
    print(report.as_markdown(machine=found, outcomes=outcomes, rows=rows, rounds=rounds))
    collapsed = [finding for outcome in outcomes.values() for finding in outcome.findings if finding.collapsed]
    if quick:
        for finding in collapsed:
            was = report.number(finding.spread.median)
            print(f"COLLAPSED: {finding.what}: {was}, beyond {finding.collapse:g}", file=sys.stderr)
    return 1 if failed or (quick and collapsed) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the report has the rows that were done")
