"""Runs tests on code in a process of their own, and says what became of each test."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwire_server.supervisor import trial_process

__all__ = ["Limits", "Report", "TestResult", "Trial", "TrialBroken", "check_source"]


_TOLD = 300
"""Characters of each message that go into the state, which all later steps are given."""

_TELLING = 100
"""Tests whose messages go into it; those that failed come first."""

_GRACE = 2.0
"""Seconds that a process which nobody waits for any more may take to end."""


class TrialBroken(Exception):
    """The process that runs tests did not do so; nothing is known of the code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What tests may take."""

    seconds: float = 5.0
    """For one test."""
    whole: float = 30.0
    """For all tests of one candidate."""
    memory: int = 512 << 20
    """Bytes of address space."""
    output: int = 1 << 20
    """Bytes of each file that is written, and of what a test prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """What became of one test."""

    name: str
    """The function's name, or what is asserted."""
    passed: bool
    message: str = ""
    """Why it did not pass."""
    printed: str = ""
    """What it printed, cut."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What became of all tests of one candidate, in their order."""

    tests: tuple[TestResult, ...]

    @property
    def passed(self) -> int:
        """How many passed."""
        return sum(test.passed for test in self.tests)

    @property
    def all_passed(self) -> bool:
        """Whether there are tests, and all passed."""
        return bool(self.tests) and self.passed == len(self.tests)

    @property
    def failures(self) -> list[TestResult]:
        """Those that did not pass."""
        return [test for test in self.tests if not test.passed]

    def to_state(self) -> dict[str, Any]:
        """Returns it as the state has it: of many tests that say something, the rest without what they say."""
        told = set(sorted(range(len(self.tests)), key=lambda place: self.tests[place].passed)[:_TELLING])
        return {
            "passed": self.passed,
            "total": len(self.tests),
            "tests": [
                {
                    "name": test.name,
                    "passed": test.passed,
                    "message": test.message[:_TOLD] if place in told else "",
                    "printed": test.printed[:_TOLD] if place in told else "",
                }
                for place, test in enumerate(self.tests)
            ],
        }


class Trial:
    """Runs one set of tests, on as much code as is wanted.

    report = await Trial("assert double(2) == 4").run("def double(x):\\n    return 2 * x\\n")
    """

    def __init__(self, tests: str, *, limits: Limits | None = None) -> None:
        self._tests = tests
        self._limits = limits or Limits()

    async def run(self, code: str) -> Report:
        """Runs each test in a process of its own. Raises TrialBroken, and ValueError for tests that are no Python."""
        (lines,) = await self._job([code], quick=False, seconds=self._limits.seconds)
        return Report(tuple(TestResult(**test) for test in lines))

    async def first(self, candidates: Sequence[str], *, seconds: float = 1.0) -> int | None:
        """Returns the place of the first candidate that passes all tests; None where none does. Each has `seconds` for
        all tests together, which run in one process: what this finds is to be confirmed by `run`.
        """
        if not candidates:
            return None
        lines = await self._job(candidates, quick=True, seconds=seconds)
        passing = [place for place, tests in enumerate(lines) if all(test["passed"] for test in tests)]
        return passing[0] if passing else None

    async def _job(self, candidates: Sequence[str], *, quick: bool, seconds: float) -> list[list[dict[str, Any]]]:
        check_source(self._tests, "tests")
        limits = self._limits
        patience = 10.0 + (seconds + 0.1) * len(candidates) if quick else limits.whole + 10.0
        with tempfile.TemporaryDirectory(prefix="stepwire-trial-", ignore_cleanup_errors=True) as folder:
            job = {
                "tests": self._tests,
                "candidates": list(candidates),
                "folder": folder,
                "quick": quick,
                "seconds": seconds,
                "whole": limits.whole,
                "limits": {"memory": limits.memory, "output": limits.output, "processor": int(limits.whole) + 1},
            }
            text = await _run(json.dumps(job).encode(), folder, patience)
        try:
            found = [json.loads(line)["tests"] for line in text.splitlines()]
        except (ValueError, KeyError) as error:
            raise TrialBroken(f"the process that runs the tests wrote something else: {error}") from None
        if not found or (not quick and len(found) != len(candidates)):
            raise TrialBroken(
                "the process that runs the tests ended early; is the machine short of memory or processes?"
            )
        return found


def check_source(text: str, field: str) -> ast.Module:
    """Returns Python source as a tree. Raises ValueError, which names field and line, for what is none."""
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{field} is no Python: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{field} is no Python: {error}") from None


async def _run(job: bytes, folder: str, patience: float) -> bytes:
    """Gives a job to a new process, in a group and a folder of its own, and returns what it wrote. The job's pipe stays
    open as long as somebody waits: the process ends with it, also where the server is killed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-B", str(Path(trial_process.__file__))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
        # Nothing of the server's: keys stand there.
        env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(patience):
            process.stdin.write(job + b"\n")
            return await process.stdout.read()
    except TimeoutError:
        raise TrialBroken(f"the process that runs the tests was not done after {patience:g} s") from None
    finally:
        process.stdin.close()
        await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Waits for the end of a process whose pipe was closed: its children are its to end, so it has a while for it."""
    waiting = asyncio.ensure_future(process.wait())
    cancelled: asyncio.CancelledError | None = None
    try:
        await asyncio.wait([waiting], timeout=_GRACE)
    except asyncio.CancelledError as error:
        cancelled = error
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await waiting
    if cancelled is not None:
        raise cancelled
