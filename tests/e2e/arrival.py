"""Does an event reach the caller while its step still runs? When was each emitted, and when did it arrive?

    python -m tests.e2e.arrival

A step works for 2 s, reports ten times, and writes the time of day into each report. grpcurl and the Python client read
it at once, and note the time at which each report is there. All clocks are this machine's.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from stepwire import Client, Run, to_dict

from .serving import PATIENCE, Gate, Lines, ServerProcess, find_grpcurl

__all__ = ["Outcome", "run"]

_EMITTED = re.compile(r'"emitted": ([0-9.e+]+)')


@dataclass(kw_only=True)
class Outcome:
    """Times of day, in seconds."""

    emitted: list[float] = field(default_factory=list)
    """When the operation reported."""
    at_grpcurl: list[float] = field(default_factory=list)
    """When the line that grpcurl printed was read."""
    at_client: list[float] = field(default_factory=list)
    """When the client's loop had the event."""
    ended: float = 0.0
    """When the operation returned."""

    def lateness(self, arrived: list[float]) -> list[float]:
        """Returns the milliseconds from each report to its arrival."""
        return [1000 * (there - emitted) for emitted, there in zip(self.emitted, arrived, strict=True)]

    def waited(self, arrived: list[float]) -> list[int]:
        """Returns the numbers of the reports that arrived only after the next one, or the end, had come."""
        following = [*self.emitted[1:], self.ended]
        return [number for number, (there, then) in enumerate(zip(arrived, following, strict=True), 1) if there >= then]

    @property
    def maximum(self) -> float:
        """The largest lateness of both, in ms."""
        return max(self.lateness(self.at_grpcurl) + self.lateness(self.at_client))

    @property
    def median(self) -> float:
        """The median lateness of both, in ms."""
        return statistics.median(self.lateness(self.at_grpcurl) + self.lateness(self.at_client))


def run(server: ServerProcess, *, reports: int = 10, seconds: float = 2.0) -> Outcome:
    """Runs the step and reads it twice."""
    outcome = Outcome()
    with Gate() as gate, Client(server.address) as client:
        step = {"id": "a", "operation": "reporting"}
        step["input"] = {"gate": gate.port, "reports": reports, "seconds": seconds}
        run = client.execute(plan={"steps": [step]})
        request = json.dumps({"execution_id": run.execution_id})
        process = subprocess.Popen(
            [
                find_grpcurl(),
                *("-plaintext", "-max-time", "60", "-d", request),
                *(server.address, "stepwire.v1.ExecutionService/WatchExecution"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = Lines(process.stdout)
        reader = threading.Thread(target=_read_client, args=(run, outcome), daemon=True)
        try:
            reader.start()
            # In the plan, and where the step starts: then both have all that there is.
            _await_line(lines, '"operation": "reporting"', times=2)
            gate.release("a")
            while (line := lines.get()) is not None:
                if _EMITTED.search(line[1]):
                    outcome.at_grpcurl.append(line[0])
            assert process.wait(PATIENCE) == 0
            reader.join(PATIENCE)
        finally:
            process.kill()
            process.wait()
            lines.close()
    return outcome


def _read_client(run: Run, outcome: Outcome) -> None:
    for event in run:
        now = time.time()
        match event.WhichOneof("kind"):
            case "step_progress":
                outcome.at_client.append(now)
                outcome.emitted.append(to_dict(event)["data"]["data"]["emitted"])
            case "step_completed":
                outcome.ended = to_dict(event)["data"]["output"]["ended"]


def _await_line(lines: Lines, text: str, *, times: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (line := lines.get(seconds=deadline - time.monotonic())) is not None:
        times -= text in line[1]
        if not times:
            return
    raise AssertionError(f"grpcurl ended without {text}")


def table(outcome: Outcome) -> str:
    """Returns the times as a Markdown table."""
    rows = [
        ["report", "emitted", "at grpcurl", "at the client", "grpcurl, ms later", "client, ms later"],
        ["---"] * 6,
    ]
    for number, (emitted, at_grpcurl, at_client) in enumerate(
        zip(outcome.emitted, outcome.at_grpcurl, outcome.at_client, strict=True), 1
    ):
        late = [f"{1000 * (there - emitted):.1f}" for there in (at_grpcurl, at_client)]
        rows.append([str(number), _clock(emitted), _clock(at_grpcurl), _clock(at_client), *late])
    lines = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    summary = f"Latest: {outcome.maximum:.1f} ms. Median: {outcome.median:.1f} ms."
    return f"{lines}\n\nThe step ended at {_clock(outcome.ended)}. {summary}"


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment)) + f".{int(moment % 1 * 10_000):04}"


def main() -> None:
    """Runs it and prints the table. Exits 1 where a report waited for the next one."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), app="sample:app") as server:
        outcome = run(server)
    print(table(outcome))
    sys.exit(1 if outcome.waited(outcome.at_grpcurl) or outcome.waited(outcome.at_client) else 0)


if __name__ == "__main__":
    main()
