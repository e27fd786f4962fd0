"""The command `stepwire` against a real server."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from stepwire import Client

from .serving import PATIENCE, Gate, Lines, ServerProcess, command, paced

QUERY = "Wie viel kostet ein Bauantrag in München?"
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("STEPWIRE_")}


def stepwire(server: ServerProcess, *arguments: str, code: int = 0) -> str:
    """Runs the command, expects this exit code, and returns what it printed (where it failed, on standard error)."""
    done = subprocess.run(
        [command("stepwire"), "--server", server.address, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr if code == 4 else done.stdout


def started(server: ServerProcess, plan: dict) -> str:
    """Starts an execution and returns its id."""
    with Client(server.address) as client:
        return client.start(plan=plan).execution_id


def test_run_prints_lines(assistant: ServerProcess) -> None:
    """`run` prints a line for each step's start, progress and end, then the answer, and exits 0."""
    printed = stepwire(assistant, "run", QUERY)
    assert printed.startswith("Starting: 2 steps\n")
    assert "  Step 2/2: Calculate total cost" in printed
    assert "\nCompleted: Execution completed: 2/2 steps succeeded (" in printed
    assert "# Kosten: Bauantrag in München" in printed
    assert "\x1b" not in printed


def test_run_prints_json(assistant: ServerProcess) -> None:
    """`run --json` prints each event as one line of JSON and nothing else."""
    events = [json.loads(line) for line in stepwire(assistant, "run", "--json", QUERY).splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, 11))
    assert events[-1]["type"] == "plan_completed"
    assert events[-1]["data"]["output"]["kind"] == "cost"


def test_watch_from_the_middle(assistant: ServerProcess) -> None:
    """`watch --after N` shows what follows event N, also of an execution that has ended."""
    events = [json.loads(line) for line in stepwire(assistant, "run", "--json", QUERY).splitlines()]
    watched = stepwire(assistant, "watch", events[0]["execution_id"], "--after", "7", "--json")
    assert [json.loads(line) for line in watched.splitlines()] == events[7:]


def test_ls_and_show(assistant: ServerProcess) -> None:
    """`ls` finds an execution by its label, and `show` tells its state and its output."""
    label = f"test={os.urandom(8).hex()}"
    execution_id = stepwire(assistant, "run", "--detach", "--label", label, QUERY).strip()
    stepwire(assistant, "watch", execution_id)
    listed = stepwire(assistant, "ls", "--label", label).splitlines()
    assert len(listed) == 2
    assert listed[1].startswith(execution_id)
    assert "COMPLETED" in listed[1]
    assert "100%" in listed[1]
    shown = stepwire(assistant, "show", execution_id)
    assert "COMPLETED" in shown
    assert "# Kosten: Bauantrag in München" in shown
    assert json.loads(stepwire(assistant, "show", execution_id, "--json"))["output"]["kind"] == "cost"


def test_plan_and_operations(assistant: ServerProcess) -> None:
    """`plan` shows a query's plan and runs nothing; `operations` lists what can be run."""
    label = f"test={os.urandom(8).hex()}"
    planned = stepwire(assistant, "plan", "Unterschied zwischen GmbH und AG gründen")
    assert "5. Compare GmbH vs AG [comparison] after 3, 4" in planned
    assert len(stepwire(assistant, "ls", "--label", label).splitlines()) == 1
    listed = stepwire(assistant, "operations")
    for operation in ("search", "retrieval", "analysis", "synthesis", "validation", "transformation", "calculation"):
        assert f"\n  {operation}(" in listed


def test_a_plan_of_ones_own(sample: ServerProcess, tmp_path: Path) -> None:
    """`run --plan` runs a plan that the caller wrote, and returns its output."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"steps": [{"id": "a", "operation": "say", "input": {"text": "Grüße"}}]}), "utf-8")
    assert json.loads(stepwire(sample, "run", "--json", "--plan", str(file)).splitlines()[-1])["data"] == {
        "output": {"text": "Grüße"}
    }


def test_exit_code_of_a_failure(sample: ServerProcess, tmp_path: Path) -> None:
    """A failed execution exits 1, both where it is run and where it is watched, and says what failed."""
    file = tmp_path / "plan.json"
    step = {"id": "a", "operation": "fail", "input": {"text": "out of paper"}}
    file.write_text(json.dumps({"steps": [step]}), "utf-8")
    printed = stepwire(sample, "run", "--plan", str(file), code=1)
    assert "out of paper" in printed
    execution_id = stepwire(sample, "ls").splitlines()[1].split()[0]
    assert "out of paper" in stepwire(sample, "watch", execution_id, code=1)


def test_no_id_looks_like_an_option(sample: ServerProcess) -> None:
    """No execution's id begins with a dash, so that each can be given to a command."""
    plan = {"steps": [{"id": "a", "operation": "say"}]}
    with Client(sample.address) as client:
        ids = [client.start(plan=plan).execution_id for _ in range(300)]
    assert not [execution_id for execution_id in ids if not execution_id.isalnum()]


def test_exit_code_of_a_cancel(sample: ServerProcess, gate: Gate) -> None:
    """`cancel` ends an execution with its reason; whoever watches it exits 3."""
    execution_id = started(sample, paced(gate, [1]))
    gate.arrived("a")
    with watching(sample, execution_id) as (process, lines):
        assert lines.get() is not None
        assert execution_id in stepwire(sample, "cancel", execution_id, "--reason", "wrong city")
        rest = []
        while (line := lines.get()) is not None:
            rest.append(line[1])
        assert process.wait(PATIENCE) == 3
    assert "wrong city" in rest[-1]


def test_exit_code_of_a_refusal(assistant: ServerProcess) -> None:
    """What the server refuses exits 4 with its reason on one line, and so does a server that is not there."""
    assert "no execution" in stepwire(assistant, "watch", "no-such-execution", code=4)
    assert "no execution" in stepwire(assistant, "show", "no-such-execution", code=4)
    nowhere = ServerProcess(Path())
    nowhere.address = "127.0.0.1:9"
    assert "can't be reached" in stepwire(nowhere, "ls", code=4)


def test_exit_code_of_a_query_that_is_not_understood(assistant: ServerProcess) -> None:
    """A query that the planner can't serve is an execution that failed: `run` exits 1 and says what can be asked."""
    assert "not understood" in stepwire(assistant, "run", "zzz qqq xxx", code=1)


@contextlib.contextmanager
def watching(server: ServerProcess, execution_id: str) -> Iterator[tuple[subprocess.Popen[str], Lines]]:
    """`stepwire watch` in the background, with its lines."""
    process = subprocess.Popen(
        [command("stepwire"), "--server", server.address, "watch", execution_id],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = Lines(process.stdout)
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait()
        lines.close()


_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes standard input the terminal of this session, so that Ctrl-C reaches the command, and only it."""


class Terminal:
    """A command in a pseudo-terminal of 100 columns and 30 rows."""

    def __init__(self, *arguments: str) -> None:
        self.text = ""
        """All that it has written, with its control sequences."""
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *arguments],
            env={**ENVIRONMENT, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, keys: bytes) -> None:
        """Types keys, such as b"\\x03" for Ctrl-C."""
        os.write(self._master, keys)

    def read_until(self, pattern: str) -> None:
        """Reads until the text that it wrote has this in it."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.text):
            assert self._read(deadline), f"{pattern!r} did not come: {self.text!r}"

    def listen(self, seconds: float) -> None:
        """Reads what comes within so many seconds, if anything does."""
        self._read(time.monotonic() + seconds)

    def end(self) -> int:
        """Reads to the end, and returns the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # what Linux says when the other end is closed
                raise
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)

    @property
    def plain(self) -> str:
        """What it has written, without the control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)


def test_live_bars(sample: ServerProcess, gate: Gate) -> None:
    """On a terminal `watch` draws bars that move, and leaves the cursor visible when it ends."""
    execution_id = started(sample, paced(gate, [50, 50]))
    with Terminal(command("stepwire"), "--server", sample.address, "watch", execution_id) as terminal:
        terminal.read_until("1/1 a")
        gate.release("a")
        terminal.read_until(r"50%")
        gate.open()
        assert terminal.end() == 0
    assert "━" in terminal.text
    assert terminal.text.count("\x1b[?25l") == terminal.text.count("\x1b[?25h") == 1
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
    assert re.search(r"done\s+1/1 a", terminal.plain)
    assert "Completed" in terminal.plain
    assert terminal.text.endswith("\n")
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize("shown", ["live", "plain"])
def test_ctrl_c_leaves_the_execution(sample: ServerProcess, gate: Gate, tmp_path: Path, shown: str) -> None:
    """Ctrl-C during `run`, on a terminal with bars once more at the question, exits 130, says how to watch on, and
    leaves the execution running; that command works.
    """
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(paced(gate, [10, 10])), "utf-8")
    flags = ["--plain"] if shown == "plain" else []
    with Terminal(command("stepwire"), "--server", sample.address, "run", "--plan", str(file), *flags) as terminal:
        terminal.read_until("1/1")
        gate.release("a")
        terminal.read_until("50%")
        terminal.type(b"\x03")
        if shown == "live":
            terminal.read_until("leaves it running: ")
            terminal.type(b"\x03")
        assert terminal.end() == 130
    assert "\x1b[?25l" not in terminal.text[terminal.text.rfind("\x1b[?25h") :]
    assert "Traceback" not in terminal.text
    hint = re.search(r"Watch it:\s+stepwire (--server \S+ watch (\S+) --after (\d+))", terminal.plain)
    assert hint, terminal.plain
    with Client(sample.address) as client:
        assert not client.get(hint[2]).HasField("end_time")
    gate.open()
    done = subprocess.run(
        [command("stepwire"), *hint[1].split(), "--json"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["sequence"] for event in events] == list(range(int(hint[3]) + 1, 25))
    assert events[-1]["type"] == "plan_completed"


@pytest.mark.parametrize("answers", [b"c", b"gc", b"\n", b"\x04"])
def test_ctrl_c_asks_what_is_to_become_of_it(sample: ServerProcess, gate: Gate, tmp_path: Path, answers: bytes) -> None:
    """At Ctrl-C during `run` on a terminal, c cancels and shows the end, g goes on, Enter and the end of the input
    leave the execution running.
    """
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(paced(gate, [10, 10])), "utf-8")
    with Terminal(command("stepwire"), "--server", sample.address, "run", "--plan", str(file)) as terminal:
        terminal.read_until("1/1")
        for number, answer in enumerate(answers, 1):
            terminal.type(b"\x03")
            terminal.read_until("(?s)" + "leaves it running: .*" * number)
            terminal.type(bytes([answer]) if answer in b"\n\x04" else bytes([answer]) + b"\n")
            if answer == ord("g"):
                gate.release("a")
                terminal.read_until("50%")
        assert terminal.end() == (3 if b"c" in answers else 130)
    with Client(sample.address) as client:
        match = re.search(r"execution (\S+)", terminal.plain)
        assert match
        found = client.get(match[1])
        assert found.HasField("end_time") == (b"c" in answers)
        if b"c" in answers:
            cancelling = next(iter(client.events(match[1], kinds=["plan_cancelling"]))).plan_cancelling
            assert (cancelling.reason, cancelling.actor) == ("Ctrl-C", os.environ.get("USER", ""))
    assert ("The execution goes on" in terminal.plain) == (b"c" not in answers)
    assert "Traceback" not in terminal.text


def test_interrupt_without_a_terminal(sample: ServerProcess, gate: Gate) -> None:
    """SIGINT without a terminal ends `watch` with 130, too."""
    execution_id = started(sample, paced(gate, [1]))
    with watching(sample, execution_id) as (process, lines):
        assert lines.get() is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
