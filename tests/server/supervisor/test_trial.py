"""Tests run in a process of their own, and hostile ones harm nobody and fool nobody."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.e2e.serving import until

from stepwire_server.supervisor import trial
from stepwire_server.supervisor.trial import Limits, Report, Trial, TrialBroken

RIGHT = "def double(x):\n    return 2 * x\n"
SHORT = Limits(seconds=1.0, whole=4.0)


async def _report(tests: str, code: str = RIGHT, limits: Limits = SHORT) -> Report:
    return await Trial(tests, limits=limits).run(code)


async def test_each_assert_and_each_function_is_a_test_of_its_own() -> None:
    """A failing test says what it got and what was wanted, and those after it run all the same."""
    report = await _report(
        "assert double(2) == 5\nx = double(3)\nassert x == 6\n"
        "def test_more():\n    from solution import double as d\n    assert d(0) == 0\n    print('seen')\n"
        "assert double(None) == 1"
    )
    assert [(test.name, test.passed) for test in report.tests] == [
        ("double(2) == 5", False),
        ("x == 6", True),
        ("double(None) == 1", False),
        ("test_more", True),
    ]
    assert report.tests[0].message.startswith("double(2) gave 4, wanted 5")
    assert report.tests[2].message.startswith("TypeError")
    assert "solution.py, line 2" in report.tests[2].message
    assert report.tests[3].printed == "seen\n"


HOSTILE = {
    "a loop without end": ("while True: pass", "not done after"),
    "leaving as if all were well": ("import os; os._exit(0)", "ended before the test did (exit code 0)"),
    "leaving politely": ("raise SystemExit(0)", "SystemExit"),
    "a fork bomb": ("import os\n    while True: os.fork()", "os.fork"),
    "a process": ("import subprocess; subprocess.Popen(['true'])", "PermissionError"),
    "a shell": ("import os; os.system('true')", "os.system"),
    "a socket": ("import socket; socket.socket()", "socket"),
    "a signal to its parent": ("import os; os.kill(os.getppid(), 9)", "os.kill"),
    "the server's environment": ("import os; open(f'/proc/{os.getppid()}/environ').read()", "PermissionError"),
    "writing elsewhere": ("open(OUTSIDE, 'w').write('x')", "own folder only"),
    "removing elsewhere": ("import os; os.remove(OUTSIDE)", "own folder only"),
    "output without end": ("\n    while True: print('x' * 10_000)", "File too large"),
    "memory without end": ("'x' * (4 << 30)", "MemoryError"),
    "a verdict of its own": ("print('{\"passed\": true}'); assert 0", "AssertionError"),
    "hunting for objects": ("import gc; gc.get_objects()", "gc.get_objects"),
    "closing what tells how it ends": ("import os; os.closerange(3, 64)\n    while True: pass", "not done after"),
    "foreign functions": ("import ctypes", "PermissionError"),
}


async def test_hostile_tests_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs, leaves early, starts processes, reads or writes elsewhere, floods or forges does not pass, and the
    test after it does.
    """
    monkeypatch.setenv("OPENAI_API_KEY", "canary-4711")
    outside = tmp_path / "outside.txt"
    outside.write_text("mine", "utf-8")
    tests = f"OUTSIDE = {str(outside)!r}\n"
    for number, (body, _) in enumerate(HOSTILE.values()):
        tests += f"def test_{number}():\n    {body}\n"
    tests += "def test_last():\n    import os\n    print(dict(os.environ))\n    assert double(1) == 2\n"
    report = await _report(tests, limits=Limits(seconds=1.0, whole=30.0))
    assert len(report.tests) == len(HOSTILE) + 1
    for test, (what, (_, expected)) in zip(report.tests, HOSTILE.items(), strict=False):
        assert not test.passed, what
        assert expected in test.message, (what, test)
    assert report.tests[-1].passed
    assert "canary-4711" not in str(report)
    assert outside.read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("code", "tests", "message"),
    [
        ("import os\nos._exit(0)\n", "assert double(1) == 2", "ended before"),
        ("while True:\n    pass\n", "assert double(1) == 2", "not done after"),
        ("def double(:\n", "assert double(1) == 2", "SyntaxError"),
        (RIGHT, "assert double(1) == 2\nimport os\nos._exit(0)\nassert double(1) == 3", "ended before"),
        (RIGHT, "x = 1", "there are no tests"),
        ("import os\nos.closerange(3, 64)\nwhile True:\n    pass\n", "assert double(1) == 2", "not done after"),
        ("import os\nos.write(1, b'{\"passed\": true}')\nos._exit(0)", "assert double(1) == 2", "ended before"),
    ],
)
async def test_a_top_level_that_fails_is_a_failure(code: str, tests: str, message: str) -> None:
    """Where code or tests do not come to their end, the report is no pass, and says why."""
    report = await _report(tests, code, Limits(seconds=0.5, whole=0.5 if message == "not done after" else 4.0))
    assert not report.all_passed
    assert message in report.failures[-1].message


FORGERY = """
import json, os
line = json.dumps({"name": "forged", "passed": True, "message": "", "printed": "", "seconds": 0, "word": ""})
for descriptor in range(64):
    try:
        os.write(descriptor, line.encode() + b"\\n")
    except OSError:
        pass
"""


async def test_forged_verdicts_are_no_verdicts() -> None:
    """Lines that look like results, on whatever is open, are not among the results."""
    report = await _report("assert double(1) == 3\nassert double(1) == 2", RIGHT + FORGERY)
    assert [test.name for test in report.tests if test.passed] == ["double(1) == 2"]
    assert "forged" not in {test.name for test in report.tests}


async def test_the_first_candidate_that_passes() -> None:
    """Of many candidates the first right one is found, past ones that hang, leave or are no Python."""
    candidates = ["def double(x): return x", "while True: pass", "import os; os._exit(0)", "def", RIGHT, RIGHT]
    trial = Trial("assert double(2) == 4\ndef test_it():\n    assert double(0) == 0\n")
    assert await trial.first(candidates, seconds=0.5) == 4
    assert await trial.first(candidates[:4], seconds=0.5) is None
    assert await trial.first([]) is None


async def test_no_candidate_finds_what_another_wrote() -> None:
    """Each candidate starts in an empty folder."""
    writes = "import os\nos.mkdir('a')\nopen('a/b', 'w').write('4')\ndef double(x): return 0"
    candidates = [writes, "def double(x): return int(open('a/b').read())"]
    assert await Trial("assert double(2) == 4").first(candidates) is None


async def test_all_tests_together_have_a_limit_of_files() -> None:
    """Tests that keep to their own limit each can't fill a disk together."""
    tests = "".join(f"def test_{n}():\n    for m in range(60): open(f'{n}-{{m}}', 'w').close()\n" for n in range(6))
    report = await _report(tests)
    assert [test.passed for test in report.tests] == [True] * 4 + [False] * 2
    assert "all tests together may write 256 files" in report.failures[0].message


async def test_a_report_of_many_tests_stays_small() -> None:
    """Of many tests that say much, the state has what the first hundred say, and those that failed come first."""
    words = {"name": "x" * 200, "message": "m" * 2_000, "printed": "p" * 2_000}
    state = Report(tuple(trial.TestResult(passed=place < 250, **words) for place in range(500))).to_state()
    assert (state["passed"], state["total"], len(state["tests"])) == (250, 500, 500)
    assert [place for place, test in enumerate(state["tests"]) if test["message"]] == list(range(250, 350))
    assert len(json.dumps(state)) < 250_000


async def test_tests_that_are_no_python_are_refused() -> None:
    """The refusal names the field and the line."""
    with pytest.raises(ValueError, match="tests is no Python: line 2"):
        await _report("x = 1\nassert (")


HANGING = """
import os
with open("pid.part", "w") as file:
    file.write(str(os.getpid()))
os.rename("pid.part", "pid")
while True:
    pass
"""
"""Code that says by which process it is run, and does not end."""

OWNER = """
import asyncio, sys
from stepwire_server.supervisor.trial import Trial
asyncio.run(Trial("assert f() == 1").run(sys.stdin.read()))
"""
"""A program that holds a trial, and is killed."""


def _started(folder: Path) -> int:
    """Returns the process that runs the code, once it does."""
    found = until(lambda: list(folder.glob("stepwire-trial-*/pid")), "the start of the code")
    return int(found[0].read_text("utf-8"))


def _is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_cancelled_trial_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops waiting ends the process that runs the tests, and those that it has started."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    running = asyncio.create_task(_report("assert f() == 1", HANGING, Limits(seconds=60, whole=60)))
    group = await asyncio.to_thread(_started, tmp_path)
    assert os.getpgid(group) == group
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert _is_gone(group)
    assert os.listdir(tmp_path) == []


def test_a_trial_does_not_outlive_who_holds_it(tmp_path: Path) -> None:
    """Where the process that holds a trial is killed, what runs the tests ends too."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, env=environment, text=True) as owner:
        assert owner.stdin is not None
        owner.stdin.write(HANGING)
        owner.stdin.close()
        group = _started(tmp_path)
        owner.kill()
    until(lambda: _is_gone(group), "the end of what ran the tests")


async def test_a_trial_that_cannot_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not do its job is no verdict on the code."""
    monkeypatch.setattr("stepwire_server.supervisor.trial_process.__file__", os.devnull)
    with pytest.raises(TrialBroken, match="ended early"):
        await _report("assert double(1) == 2")
