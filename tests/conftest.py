"""Lets every test import the others' parts as `tests...`, and runs the suite on another loop or another journal.

    TEST_LOOP=uvloop        the tests' own loops, and those of servers that are processes
    TEST_JOURNAL=memory     servers that are processes keep their journal in memory

What makes no sense there is left out, and says why.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
if str(_ROOT) not in sys.path:
    sys.path.append(str(_ROOT))

_FILE = "it reads the journal's file, or starts a second process on it"
_LEFT_OUT = {
    "TEST_JOURNAL=memory": {
        "tests/e2e/test_restart.py": _FILE,
        "tests/faults/test_kill_loop.py": _FILE,
        "tests/faults/test_frozen.py": _FILE,
        "tests/faults/test_duplicates.py": _FILE,
        "tests/faults/test_failpoints.py": _FILE,
        "tests/faults/test_drain.py": _FILE,
        "tests/faults/test_damage.py": _FILE,
        "tests/faults/test_storage.py": _FILE,
        "tests/faults/test_full_disk.py": _FILE,
        "tests/faults/test_probe.py": _FILE,
    },
    "TEST_LOOP=uvloop": {
        "tests/server/engine/test_machine.py": "it has a loop of its own, whose time is virtual",
    },
}


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
        why = chosen.get(item.path.relative_to(_ROOT).as_posix())
        if why:
            item.add_marker(pytest.mark.skip(reason=f"left out here: {why}"))


def pytest_configure() -> None:
    if os.environ.get("TEST_LOOP") == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
