"""Do events from far below reach the caller while their step still runs?

    python -m tests.e2e.depths

Steps say a word five calls deep, from threads, from tasks that they started and from nodes of graphs, and then wait at
a gate. A step may go on, and end, only when grpcurl has printed its word. All clocks are this machine's.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from stepwire import Client

from .serving import PATIENCE, Gate, Lines, ServerProcess, find_grpcurl

__all__ = ["WAYS", "Word", "run", "table"]

WAYS = (
    "calls",
    "thread",
    "executor",
    "bare_thread",
    "task",
    "task_of_a_task",
    "thread_of_a_task",
    "plain",
    "graph_node",
    "thread_of_a_node",
    "node_of_a_subgraph",
)
"""The operations of the app `depths`."""

_EMITTED = re.compile(r'"(\w+) emitted": ([0-9.e+]+)')


_EXECUTION = re.compile(r'"execution_?[iI]d": "([^"]+)"')


class Word(NamedTuple):
    """Times of day, in seconds."""

    emitted: float
    arrived: float
    """When the line that grpcurl printed was read."""
    ended: float
    """When the operation was about to return."""


def run(server: ServerProcess) -> dict[str, Word]:
    """Runs all steps side by side, read by grpcurl. Fails where a word does not come while its step waits."""
    arrived: dict[str, tuple[float, float]] = {}
    execution_id = ""
    with Gate() as gate, Client(server.address) as client:
        steps = [{"id": way, "operation": way, "input": {"gate": gate.port}} for way in WAYS]
        options = {"max_parallel_steps": len(WAYS)}
        request = json.dumps({"plan": {"steps": steps}, "options": options})
        process = subprocess.Popen(
            [
                find_grpcurl(),
                *("-plaintext", "-max-time", "60", "-d", request),
                *(server.address, "stepwire.v1.ExecutionService/Execute"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = Lines(process.stdout)
        try:
            while (line := lines.get()) is not None:
                if found := _EXECUTION.search(line[1]):
                    execution_id = found[1]
                if found := _EMITTED.search(line[1]):
                    arrived[found[1]] = (float(found[2]), line[0])
                    gate.release(found[1])
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
            lines.close()
        ended = _ended(client, execution_id)
    return {way: Word(*arrived[way], ended[way]) for way in WAYS}


def _ended(client: Client, execution_id: str) -> dict[str, float]:
    found = {}
    for event in client.watch(execution_id):
        if event.HasField("step_completed"):
            fields = event.step_completed.output.struct_value.fields
            found[event.step_id] = fields["ended"].number_value
    return found


def table(words: dict[str, Word]) -> str:
    """Returns the times as a Markdown table."""
    rows = [["said from", "emitted", "at grpcurl", "end of its step", "ms to grpcurl", "ms from there to the end"]]
    rows.append(["---"] * 6)
    for way, word in words.items():
        spans = [f"{1000 * span:.1f}" for span in (word.arrived - word.emitted, word.ended - word.arrived)]
        rows.append([way.replace("_", " "), *map(_clock, word), *spans])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment)) + f".{int(moment % 1 * 10_000):04}"


def main() -> None:
    """Runs it and prints the table."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), app="depths:app") as server:
        print(table(run(server)))


if __name__ == "__main__":
    main()
