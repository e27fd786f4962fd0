"""A served process has one arena of memory, however many threads it has, and keeps none that it does not use."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.serving import APPS, ServerProcess, not_run

from stepwire import Client
from stepwire.v1 import Plan
from stepwire_server import plan_step

COUNT = "import arenas; print(arenas.arenas())"
CHOOSE = "from stepwire_server.allocator import use_one_arena; print(use_one_arena())"


@pytest.fixture(autouse=True)
def glibc() -> None:
    """Leaves these tests out where the C library is another one: there is nothing to choose."""
    if not hasattr(ctypes.CDLL(None), "malloc_info"):
        not_run("the C library is not glibc")


def run(code: str, **environment: str) -> list[str]:
    """Runs code in a fresh interpreter, in the apps' folder. Returns what it printed, by words."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=kept | environment, cwd=APPS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_served_process_has_one_arena(tmp_path: Path) -> None:
    """Threads that allocate at the same time in a served process share one arena; glibc would give each its own."""
    [alone] = run(COUNT)
    assert int(alone) > 1
    with ServerProcess(tmp_path, app="arenas:app") as server, Client(server.address) as client:
        assert client.execute(plan=Plan(steps=[plan_step("a", "arenas")])).result() == 1


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_ARENA_MAX": "3"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=3"}],
    ids=["variable", "tunable"],
)
def test_the_operator_chooses(environment: dict[str, str]) -> None:
    """Where the environment says how many arenas there are, it stays at that."""
    assert run(f"{CHOOSE}; {COUNT}", **environment) == ["False", "3"]


def test_a_tunable_of_something_else() -> None:
    """A variable that tunes something else chooses no number of arenas."""
    assert run(f"{CHOOSE}; {COUNT}", GLIBC_TUNABLES="glibc.malloc.trim_threshold=131072") == ["True", "1"]


GIVE_BACK = """
import asyncio, contextlib, holes
from stepwire_server.allocator import keep_giving_back

async def stay(seconds):
    print(holes.resident())
    if len(slept) == 2:
        raise asyncio.CancelledError
    slept.append(seconds)

slept = []
left = holes.make()
with contextlib.suppress(asyncio.CancelledError):
    asyncio.run(keep_giving_back(sleep=stay, every=60.0))
print(*slept)
"""


def test_memory_is_given_back_again_and_again() -> None:
    """What is free between blocks that are in use goes back to the system, each time that the pause is over."""
    before, after, _, *slept = run(GIVE_BACK)
    assert int(before) > 64
    assert int(after) < 48
    assert slept == ["60.0", "60.0"]
