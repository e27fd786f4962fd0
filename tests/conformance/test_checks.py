"""What the kit finds wrong, and how it says so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.adapters.lines import describe
from tests.conformance.case import Case, execute, watch
from tests.conformance.catching import Catch
from tests.conformance.checks import Seen, check_seen
from tests.conformance.clients import CLIENTS, Client
from tests.conformance.report import Report
from tests.conformance.script import OK, batch, completed, executed, pieces, welcome
from tests.conformance.suite import build_all
from tests.conformance.trial import Result, try_case

CASE = Case(
    name="example",
    rule="Events are given.",
    command=execute(),
    calls=[executed(welcome(), pieces(1, 2), batch(completed(3)), OK)],
    sees=[1, 2, 3],
    outcome="completed",
)

EVENTS = [describe(event) for event in [*pieces(1, 2).events, completed(3)]]
PROGRESS = {"percentage": 100.0, "completed_steps": 2, "total_steps": 2, "events": 3}
END = {"outcome": "completed", "sequence": 3}


def _seen(**changes: Any) -> Seen:
    seen = Seen(events=list(EVENTS), progress=dict(PROGRESS), end=dict(END))
    return dataclasses.replace(seen, **changes)


def test_nothing_is_wrong() -> None:
    """What a case says is not wrong."""
    assert list(check_seen(CASE, _seen())) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"events": EVENTS[:2]}, "events: expected 1, 2, 3; seen 1, 2"),
        ({"events": [EVENTS[1], EVENTS[0], EVENTS[2]]}, "events: expected 1, 2, 3; seen 2, 1, 3"),
        ({"events": [{**EVENTS[0], "sha256": "00"}, *EVENTS[1:]]}, "event 1: expected"),
        ({"progress": {**PROGRESS, "events": 2}}, "progress.events: expected 3; seen 2"),
        ({"progress": None}, "progress.percentage: expected 100.0; seen None"),
        ({"end": {**END, "sequence": 2}}, "cursor at the end: expected 3; seen 2"),
        ({"end": {**END, "outcome": "failed"}}, "end.outcome: expected 'completed'; seen 'failed'"),
        ({"end": {"error": {"kind": "broken"}, "sequence": 3}}, "end.outcome: expected 'completed'; seen None in {"),
        ({"end": None}, "the adapter wrote no end"),
        ({"strange": ["hello"]}, "the adapter wrote a line that must not be there: hello"),
    ],
)
def test_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    """Whatever an adapter gets wrong is said, with what was expected and what was seen."""
    assert any(said in wrong for wrong in check_seen(CASE, _seen(**changes)))


def test_an_error_that_did_not_come() -> None:
    """Where an error must end it, anything else is wrong."""
    case = dataclasses.replace(CASE, outcome="", error={"kind": "broken"})
    assert any("error.kind: expected 'broken'; seen None in {" in wrong for wrong in check_seen(case, _seen()))


def _adapter(name: str, code: str) -> Client:
    """Returns an adapter that is a few lines of Python."""
    return dataclasses.replace(CLIENTS[0], name=name, run=[CLIENTS[0].run[0], "-c", code])


async def test_an_adapter_that_says_nothing(tmp_path: Path) -> None:
    """An adapter that ends without a word is wrong, and what it wrote to standard error is kept."""
    client = _adapter("mute", "import sys; sys.exit('I am lost')")
    result = await try_case(CASE, client, tmp_path)
    assert result.wrong[0] == "the adapter ended with exit code 1"
    assert "the adapter wrote no end" in result.wrong
    assert "calls: expected Execute; came none" in result.wrong
    assert "I am lost" in result.errors


async def test_an_adapter_that_hangs(tmp_path: Path) -> None:
    """An adapter that does not end in time is ended, and is wrong."""
    case = dataclasses.replace(CASE, seconds=0.5)
    client = _adapter("patient", "import threading; threading.Event().wait()")
    result = await try_case(case, client, tmp_path)
    assert result.wrong[0] == "it did not end within 0.5 s"
    assert result.exit_code is None


async def test_an_adapter_that_babbles(tmp_path: Path) -> None:
    """A line that is no JSON is said to be one too many."""
    result = await try_case(CASE, _adapter("babbler", "print('Hello'); print('[1]')"), tmp_path)
    assert "the adapter wrote a line that must not be there: : Hello" in result.wrong


def _result(client: str, *wrong: str) -> Result:
    return Result(case="example", client=client, seconds=0.1, wrong=wrong, errors="Trace\n", exit_code=0)


def test_the_report_says_what_to_do(tmp_path: Path) -> None:
    """A failure has the rule, what was wrong, standard error, and the command that shows it again."""
    report = Report([CASE], ["go", "java"], not_run={}, catching=False)
    report.add(_result("go"))
    report.add(_result("java", "events: expected 1; seen 2"))
    assert not report.passed
    assert report.table()[1:] == [("example", "ok", "WRONG"), ("good", "1 of 1", "0 of 1")]
    [failure] = report.failures()
    for said in (
        "java, example: Events are given.",
        "events: expected 1; seen 2",
        "Trace",
        "CLIENTS=java CASES=example",
    ):
        assert said in failure
    report.write(tmp_path)
    assert "| example | ok | WRONG |" in (tmp_path / "conformance.md").read_text()
    assert json.loads((tmp_path / "conformance.json").read_text())["passed"] is False


def test_what_did_not_run_is_no_pass() -> None:
    """A client that could not be tried is NOT RUN, and the whole did not pass."""
    report = Report([CASE], ["go", "java"], not_run={"java": "missing: mvn"}, catching=False)
    report.add(_result("go"))
    assert not report.passed
    assert report.table()[1] == ("example", "ok", "NOT RUN")
    assert report.failures() == ["java: NOT RUN: missing: mvn"]


@pytest.mark.parametrize(
    ("wrong", "exit_code", "sound", "caught"),
    [
        (["events"], 0, [], True),
        ([], 0, [], False),
        (["events"], 1, [], False),
        (["events"], 0, ["events"], False),
    ],
    ids=["caught", "passed", "crashed", "a ruin"],
)
def test_what_counts_as_caught(wrong: list[str], exit_code: int, sound: list[str], caught: bool) -> None:
    """A wrong client is caught where it ran to its end, failed its case, and passed the plain one."""
    result = dataclasses.replace(_result("wrong", *wrong), exit_code=exit_code)
    catch = Catch(case="example", fault="It forgets.", result=result, sound=_result("wrong", *sound))
    report = Report([CASE], [], not_run={}, catching=True)
    report.add(catch)
    assert (catch.caught, report.passed, not report.failures()) == (caught, caught, caught)


def test_a_client_that_can_not_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose tools are missing, whose build fails or that is not built can't be run, and it is said why."""
    monkeypatch.setattr("tests.conformance.suite.FOLDER", tmp_path)
    missing = dataclasses.replace(CLIENTS[0], name="a", needs=["no-such-program"])
    failing = dataclasses.replace(CLIENTS[0], name="b", build=[[CLIENTS[0].run[0], "-c", "raise SystemExit('Oh no')"]])
    absent = dataclasses.replace(CLIENTS[0], name="c", run=[str(tmp_path / "adapter")])
    not_run = build_all([missing, failing, CLIENTS[0]], only_look=False)
    assert list(not_run) == ["a", "b"]
    assert not_run["a"] == "missing: no-such-program"
    assert "Oh no" in not_run["b"]
    assert build_all([absent], only_look=True) == {"c": "it is not built: make clients"}


def test_a_cursor_that_stays() -> None:
    """Where nothing is seen the cursor is the one that was asked for."""
    case = Case(name="over", rule="It is over.", command=watch(after=7), outcome="over")
    progress = {"percentage": 0.0, "completed_steps": 0, "total_steps": 0, "events": 0}
    assert list(check_seen(case, Seen(progress=progress, end={"outcome": "over", "sequence": 7}))) == []
