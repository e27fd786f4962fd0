"""Seeds, how long to go on, and the table of faults; lets the fault suite use the servers of the end-to-end suite.

A test of a fault says what it does and how, and leaves its figures in `noted`:

    @pytest.mark.fault("the server frozen, then on", how="SIGSTOP, SIGCONT")
    async def test_...(noted: Noted) -> None:
        noted.times = 3
        noted.figures["to the next event"] = "7.1 s"

`make faults` prints them all as one table at its end.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from .noted import Noted

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)


_SLICE_SEED = 20_261_121


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether to go on for as long as `make faults` does, and not only for as long as `make test` may."""
    return bool(os.environ.get("FAULTS_LONG"))


@pytest.fixture
def random_seed(long: bool) -> int:
    """The seed in FAULTS_SEED; by default a new one for each long run, and always the same one for `make test`: what
    changes between two runs of that is the code.
    """
    chosen = random.SystemRandom().randrange(1 << 32) if long else _SLICE_SEED
    seed = int(os.environ.get("FAULTS_SEED") or chosen)
    print(f"seed {seed}; again with FAULTS_SEED={seed}")
    return seed


@pytest.fixture
def noted(request: pytest.FixtureRequest) -> Iterator[Noted]:
    """Where a test of a fault leaves its figures."""
    made = Noted()
    yield made
    request.node.user_properties += [("times", made.times), *made.figures.items()]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark = item.get_closest_marker("fault")
        if mark is not None:
            item.user_properties += [("fault", mark.args[0]), ("how", mark.kwargs["how"])]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not os.environ.get("FAULTS_LONG"):
        return
    # Figures stand in the last report of a test: they were noted after its call's report was made.
    told: dict[str, dict[str, object]] = {}
    results: dict[str, str] = {}
    for result, reports in terminalreporter.stats.items():
        for report in reports:
            if isinstance(report, pytest.TestReport) and any(name == "fault" for name, _ in report.user_properties):
                told.setdefault(report.nodeid, {}).update(report.user_properties)
                if result:
                    results[report.nodeid] = "NOT RUN" if result == "skipped" else result
    # Cases of one fault that end alike and leave no figures are one line.
    rows: Counter[tuple[str, ...]] = Counter()
    for node, values in told.items():
        what, how, times = values.pop("fault"), values.pop("how"), values.pop("times", 1)
        figures = "; ".join(f"{name}: {value}" for name, value in values.items())
        rows[str(what), str(how), results[node], figures] += int(str(times))
    if rows:
        terminalreporter.section("faults")
        terminalreporter.write_line("| fault | how | times | result | figures |")
        terminalreporter.write_line("|---|---|---|---|---|")
        for (what, how, result, figures), times in sorted(rows.items()):
            terminalreporter.write_line(f"| {what} | {how} | {times:,} | {result} | {figures} |")
