"""Runs that nobody closes: the garbage collector finds them in any thread, or the program ends. In processes of their
own, because what goes wrong there is that everything stands still.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from .scripted import HANG, ScriptedServer, batch, completed, numbers, welcome

_ROOT = Path(__file__).resolve().parents[2]


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=_ROOT)


def finish(process: subprocess.Popen[str]) -> str:
    """Returns what a process has written once it is over."""
    try:
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    return output


# The garbage collector runs where a message is decoded: in the thread that gRPC ends every call with, and with locks
# of gRPC held.
_COLLECTED = """
    import gc, sys
    import stepwire
    from stepwire.requests import METHODS
    from stepwire.v1 import EventBatch

    class Collecting:
        @staticmethod
        def FromString(data):
            gc.collect()
            return EventBatch.FromString(data)

    class Page:
        def __init__(self, client):
            self.run = client.watch("e-1", on_event=self.seen)
            LOOP

        def seen(self, event):
            pass

    gc.disable()
    with stepwire.Client(sys.argv[1]) as client:
        Page(client)
        METHODS["WatchExecution"] = METHODS["WatchExecution"]._replace(response=Collecting)
        print([event.sequence for event in client.watch("e-1")], gc.isenabled())
"""


def test_a_run_is_collected_in_a_thread_of_grpc(server: ScriptedServer) -> None:
    """A run in a cycle can be collected in any thread, also in the one that ends calls: its call ends soon after."""
    server.plays([welcome(), HANG], [welcome(), batch(completed(1))])
    assert finish(start(_COLLECTED.replace("LOOP", ""), server.target)).split() == ["[1]", "False"]
    assert server.calls[0].left.wait(10)


def test_a_loop_is_collected_in_a_thread_of_grpc(server: ScriptedServer) -> None:
    """So can a loop over a run that was left in the middle."""
    server.plays([welcome(), numbers(1), HANG], [welcome(), batch(completed(1))])
    loop = "self.loop = iter(self.run); next(self.loop)"
    assert finish(start(_COLLECTED.replace("LOOP", loop), server.target)).split() == ["[1]", "False"]
    assert server.calls[0].left.wait(10)


def test_a_program_ends_with_a_run_open(server: ScriptedServer) -> None:
    """A program that ends with a run open ends: threads that no longer run are not waited for."""
    code = """
        import sys
        import stepwire

        client = stepwire.Client(sys.argv[1])
        run = client.watch("e-1")
    """
    server.plays(*[[welcome(), HANG]] * 8)
    # One of two did not end: it depends on what a thread was at when the others were stopped.
    processes = [start(code, server.target) for _ in range(8)]
    assert [finish(process) for process in processes] == [""] * 8
