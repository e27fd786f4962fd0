"""Lets every test import the others' parts as `tests...`, and runs the suite on another loop or another journal.

    TEST_LOOP=uvloop        the tests' own loops, and those of servers that are processes
    TEST_JOURNAL=memory     servers that are processes keep their journal in memory

What makes no sense there is left out, and says why. The rest of tests/faults is not run with the journal in memory at
all: it kills servers, harms files or reads them; the engine's and the service's tests run on both journals anyway.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

# Machines are shared and busy: how long an example takes says nothing.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A shell has what runs in the background ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_ROOT = Path(__file__).resolve().parents[1]
if str(_ROOT) not in sys.path:
    sys.path.append(str(_ROOT))

_FILE = "it reads the journal's file, or starts a second process on it"
_LEFT_OUT = {
    "TEST_JOURNAL=memory": {
        "tests/e2e/test_asking.py::test_a_drain_does_not_wait_for_people": _FILE,
        "tests/e2e/test_asking.py::test_a_question_outlives_kill_9": _FILE,
        "tests/e2e/test_growing.py::test_a_plan_that_grows_outlives_its_server": _FILE,
        "tests/e2e/test_parts.py::test_three_deep_over_a_retry_and_kill_9": _FILE,
        "tests/e2e/test_restart.py": _FILE,
        "tests/e2e/test_retrying.py::test_a_retry_outlives_kill_9_and_its_source": _FILE,
        "tests/e2e/test_statistics.py": _FILE,
        "tests/e2e/test_watching_many.py": _FILE,
        "tests/e2e/test_fallback.py::test_the_server_dies": _FILE,
        "tests/faults/test_bad_operations.py::test_bad_operations": _FILE,
        "tests/server/bridges/test_served.py::test_killed_in_the_middle_of_a_graph": _FILE,
        "tests/server/planning/test_sessions.py": _FILE,
    },
    "TEST_LOOP=uvloop": {
        **dict.fromkeys(
            (
                "tests/server/planning/test_stages.py::test_tools_that_settings_name",
                "tests/server/supervisor/test_building.py",
                "tests/server/supervisor/test_trial.py",
                "tests/server/supervisor/test_writing.py",
                "tests/server/tools/test_commands.py",
                "tests/server/tools/test_end_to_end.py",
                "tests/server/tools/test_mcp.py",
            ),
            "it starts programs, which is not safe on uvloop: check_programs refuses it",
        ),
        "tests/server/engine/test_machine.py": "it has a loop of its own, whose time is virtual",
    },
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Spells out half characters in what a test wrote: workers can't send them to who reports."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


def _chosen() -> dict[str, str]:
    return {
        path: why
        for setting, left_out in _LEFT_OUT.items()
        if os.environ.get(setting.partition("=")[0]) == setting.partition("=")[2]
        for path, why in left_out.items()
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    chosen = _chosen()
    for item in items:
        path = item.path.relative_to(_ROOT).as_posix()
        why = chosen.get(path) or chosen.get(f"{path}::{item.name}")
        if why:
            item.add_marker(pytest.mark.skip(reason=f"left out here: {why}"))


def pytest_configure() -> None:
    if os.environ.get("TEST_LOOP") == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
