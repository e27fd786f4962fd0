"""The benchmark's report: what it says of targets, and what makes the quick run fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .findings import Finding, Outcome, Told
from .report import as_markdown, number, write
from .rounds import Spread
from .row import Row, named


def spread(median: float) -> Spread:
    return Spread(median=median, least=median / 2, most=median * 2, rounds=5)


def row(number: str) -> Row:
    return Row(number=number, title="Flat out", what="\nWhat runs,\nbeside what.\n", run=lambda _: Outcome())


def report(*findings: Finding, told: tuple[Told, ...] = ()) -> str:
    outcomes = {"B1": Outcome(findings=list(findings), told=list(told))}
    return as_markdown(machine={"cores": "2"}, outcomes=outcomes, rows=[row("B1"), row("B2")], rounds=5)


def test_a_target_that_is_missed_says_so() -> None:
    """A figure below its target is marked as missed, with target, median and spread, and the head counts it."""
    text = report(Finding(what="events/s of ours / theirs", spread=spread(9.0), at_least=12))
    assert "0 of 1 targets are met" in text
    assert "| B1 | events/s of ours / theirs | at least 12 | 9.00 | 4.50 to 18.0 | **missed** |" in text
    assert text.count("ours / theirs") == 1


def test_a_target_that_is_met_says_so() -> None:
    """A figure at its target is marked as met."""
    text = report(
        Finding(what="ours", spread=spread(12.0), at_least=12),
        Finding(what="p99", spread=spread(10.0), unit="ms", at_most=10),
    )
    assert "2 of 2 targets are met" in text
    assert "| B1 | p99 | at most 10 ms | 10.0 ms | 5.00 to 20.0 | met |" in text


def test_ratios_without_a_target_stand_apart_from_absolute_figures() -> None:
    """What has no target is told with its row, and absolute figures say whose they are."""
    text = report(
        Finding(what="theirs / the least", spread=spread(3.9)),
        told=(Told(name="ours", spread=spread(123_456.0), unit="events/s"),),
    )
    assert "0 of 0 targets" in text
    assert "| theirs / the least | 3.90 | 1.95 to 7.80 |" in text
    assert "| ours | 123,456 events/s | 61,728 to 246,912 |" in text


def test_the_report_says_what_ran_and_on_what() -> None:
    """Each row that ran has its text, and the machine stands at the end; a row that did not run is not named."""
    text = report()
    assert "## B1: Flat out\n\nWhat runs, beside what." in text
    assert "B2" not in text
    assert "| cores | 2 |" in text


def test_the_report_is_written_for_programs_too(tmp_path: Path) -> None:
    """The JSON has the same figures as the table, with whether each target is met."""
    outcome = Outcome(
        findings=[Finding(what="ours", spread=spread(9.0), at_least=12)], plot={"times": {"a": spread(1.0)}}
    )
    write(tmp_path, machine={}, outcomes={"B1": outcome}, rows=[row("B1")], rounds=5)
    found = json.loads((tmp_path / "bench.json").read_text("utf-8"))["rows"]["B1"]
    assert found["findings"][0]["met"] is False
    assert found["findings"][0]["spread"]["median"] == 9.0
    assert found["plot"]["times"]["a"]["most"] == 2.0
    assert (tmp_path / "bench.md").read_text("utf-8").startswith("# Benchmark\n")


@pytest.mark.parametrize(
    ("finding", "collapsed"),
    [
        (Finding(what="x", spread=spread(4.0), at_least=12, collapse=5), True),
        (Finding(what="x", spread=spread(6.0), at_least=12, collapse=5), False),
        (Finding(what="x", spread=spread(9.0), at_most=2, collapse=8), True),
        (Finding(what="x", spread=spread(7.0), at_most=2, collapse=8), False),
        (Finding(what="x", spread=spread(4.0), collapse=5), True),
        (Finding(what="x", spread=spread(0.0), at_least=12), False),
    ],
    ids=["too low", "low", "too high", "high", "without a target", "without a limit"],
)
def test_a_collapse_is_beyond_the_wide_limit_on_the_targets_side(finding: Finding, collapsed: bool) -> None:
    """A ratio collapses where it is beyond its wide limit, which lies on the side of its target."""
    assert finding.collapsed is collapsed


@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")])
def test_figures_have_three_digits(value: float, text: str) -> None:
    """A figure is as exact as a noisy machine allows."""
    assert number(value) == text


def test_rows_are_chosen_by_their_number() -> None:
    """Rows are chosen in any order and case, run in the order of the table, and one that there is not is refused."""
    rows = [row("B1"), row("B2"), row("B10")]
    assert [chosen.number for chosen in named(rows, ["b10", "B1"])] == ["B1", "B10"]
    assert named(rows, []) == rows
    with pytest.raises(ValueError, match="there is no row B3; there are: B1, B2, B10"):
        named(rows, ["B3"])
