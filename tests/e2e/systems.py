"""What each of the systems that Stepwire takes the place of must show: the command, and what it prints.

    python -m tests.e2e.systems                 all of it, as Markdown
    python -m tests.e2e.systems S2 U4           some of it

S is agents and their supervisor, P planning first, U one interface for anything that takes long. Servers, endpoints,
connections and signals are real. A row whose lines do not come, in their order, fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.server.models.endpoint import Endpoint, Request, Scripted, refuses, says

from . import depths
from .serving import APPS, PATIENCE, Gate, ServerProcess, command, until

__all__ = ["ROWS", "Row", "Servers", "show"]

SALES = """day,region,price,pieces
2026-01-05,West,10.5,3
2026-01-06,East,12.0,1
2026-02-07,West,39.66,2
2026-02-09,North,8.25,7
"""

_WIDTH = 260

GAP = json.dumps(
    {
        "task": "how far apart two numbers are",
        "tests": "assert gap(3, 5) == 2\nassert gap(9, 4) == 5\nassert gap(0, -7) == 7",
        "code": "def gap(a, b):\n    return a + b",
    }
)

TOOLS = json.dumps(
    {
        "calls": [
            {"tool": "calculate", "input": {"expression": "(2 + 3) * 4.5"}},
            {"tool": "calculate", "input": {"expression": "1 / 0"}},
            {"tool": "nowhere"},
            {"tool": "days_between", "input": {"start": "2026-01-01", "end": "2026-03-01"}},
        ]
    }
)

BATCH = json.dumps(
    [{"plan": {"steps": [{"id": name, "operation": "wait", "input": {"seconds": 0}}]}} for name in "abc"]
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One of them."""

    name: str
    says: str
    app: str
    runs: Sequence[str]
    """Arguments of `stepwire`, as in a shell. `{id}` is the execution that the one before was about; `!kill` and
    `!start` are signal and start of the server.
    """
    shows: Sequence[str]
    """Regular expressions, each of a line that is printed, in this order."""
    ends: int = 0
    """The last command's exit code."""


ROWS = (
    Row(
        name="S1",
        says="agents think, report, decide and give results",
        app="supervisor",
        runs=[f"run --call build --input {shlex.quote(GAP)}"],
        shows=[
            r"research \(think\)",
            r"research \(progress\)",
            r"research \(result\)",
            r"architect \(decision\)",
            r"codesmith \(result\): The code passes 3 of 3 tests",
        ],
    ),
    Row(
        name="S2",
        says="a supervisor analyses, decides with a reason, and routes",
        app="supervisor",
        runs=[f"run --json --call build --input {shlex.quote(GAP)}"],
        shows=[
            r'"kind":"ANALYSIS"',
            r'"kind":"DECISION".*"reasoning":".+"',
            r'"kind":"ROUTING","next_agent":"research"',
        ],
    ),
    Row(
        name="S3",
        says="whole outputs: what was found out, the design, the code",
        app="supervisor",
        runs=[f"run --json --call build --input {shlex.quote(GAP)}"],
        shows=[
            r'"type":"artifact".*"name":"research"',
            r'"type":"artifact".*"name":"design"',
            r'"type":"artifact".*"name":"code".*return abs\(a - b\)',
        ],
    ),
    Row(
        name="S4",
        says="each session's own stream, from anywhere in the call tree and without a handle",
        app="depths",
        runs=["run --step calls --input '{\"gate\": {gate}}' --session one"],
        shows=[r"calls \(think\): from far below", r"Completed"],
    ),
    Row(
        name="S5",
        says="a graph's own updates and its agents' events in one ordered stream",
        app="depths",
        runs=["run --json --step node_of_a_subgraph --input '{\"gate\": {gate}}'"],
        shows=[r'"type":"agent".*from far below', r'"type":"stage".*"state_update"', r'"type":"plan_completed"'],
    ),
    Row(
        name="P1",
        says="the eight stages around a plan",
        app="planning",
        runs=['run "12 * 7 and then the days from 2026-01-01 to 2026-03-01" --session web'],
        shows=[
            *(rf"^      {name}: " for name in ("start", "context", "analyzing", "planning", "validation", "execution")),
            r"Growing: execution added 4 steps",
            *(rf"^      {name}: " for name in ("memory", "completion")),
            r'"text": "12 \* 7: 84\\nthe days from 2026-01-01 to 2026-03-01: 59"',
        ],
    ),
    Row(
        name="P2",
        says="an async callback (step, message, details, metadata); the end has the whole response",
        app="brought",
        runs=['run --json --step answer --input \'{"message": "hello"}\''],
        shows=[
            r'"type":"stage".*"name":"start".*"details":"5 characters".*"data":\{"of":8',
            r'"type":"stage".*"name":"completion"',
            r'"type":"step_completed".*"response":"HELLO"',
        ],
    ),
    Row(
        name="P4",
        says="plain request and response where there is no streaming",
        app="brought",
        runs=['run --poll --step answer --input \'{"message": "hello"}\''],
        shows=[r"start: Now: start", r"completion: Now: completion", r'"response": "HELLO"'],
    ),
    Row(
        name="P5",
        says="progress and memory survive a killed server; what took how long",
        app="planning",
        runs=[
            'run "add 5 to 7 and call it total" --session kept',
            "!kill",
            "!start",
            'run "what was total?" --session kept',
            "watch {id}",
            "stats",
        ],
        shows=[r'"total"', r'"text": "what was total: 12"', r"Completed", r"calculate"],
    ),
    Row(
        name="U1, U2",
        says="anything with execute(callback): progress, content, done",
        app="brought",
        runs=['run --json --step count --input \'{"text": "one two three"}\''],
        shows=[
            r'"type":"step_progress".*"stage":"counting".*"word":"one"',
            r'"type":"content".*"text":"one "',
            r'"type":"content".*"text":"three "',
            r'"type":"step_completed".*"words":3',
        ],
    ),
    Row(
        name="U3",
        says="a question becomes a chart, with the nine states",
        app="charts",
        runs=['run --json "total pieces by region"'],
        shows=[
            *(
                rf'"percentage":{share}.*"stage":"{state}"'
                for share, state in (
                    (5, "routing"),
                    (10, "planning"),
                    (20, "understanding_schema"),
                    (30, "generating_query"),
                    (50, "executing_query"),
                    (70, "validating_results"),
                    (90, "transforming_data"),
                )
            ),
            r'"name":"chart.vl.json"',
            r'"name":"chart.svg"',
            r'"name":"chart.png"',
            r'"stage":"completed"',
            r'"type":"step_completed".*"chart":"bar".*"sql":"SELECT',
        ],
    ),
    Row(
        name="U4",
        says="tools side by side; one's failure leaves the others running; totals",
        app="tools",
        runs=[f"run --json --step run_tools --input {shlex.quote(TOOLS)}"],
        shows=[
            r"executing_calculate",
            r"completed_calculate",
            r"failed_calculate",
            r"error_nowhere",
            r"completed_days_between",
            r'"totals":\{.*"asked":4.*"completed":2.*"errors":1.*"failed":1',
        ],
    ),
    Row(
        name="U5",
        says="text piece by piece, progress every ten, length and count at the end",
        app="models",
        runs=['run --step generate --input \'{"prompt": "Greet me.", "expected_length": 60}\''],
        shows=[r"429", r"10 pieces", r'"finish_reason": "stop"', r'"length": 49', r'"pieces": 12'],
    ),
    Row(
        name="U6",
        says="structured errors with what they are about, and time limits",
        app="brought",
        runs=[
            "run --step count --input '{\"words\": 3}'",
            "run --step wait --input '{\"seconds\": 60}' --time-limit 0.2",
        ],
        shows=[r"steps\[0\].input.text|input.text", r"time limit|TIME_LIMIT|took longer"],
        ends=1,
    ),
    Row(
        name="U7",
        says="cancelling, two-way communication, batches",
        app="brought",
        runs=[
            "run --detach --step wait --input '{\"seconds\": 60}'",
            "cancel {id}",
            "watch {id}",
            "run --detach --step confirm",
            "answer {id} yes",
            "watch {id}",
            "batch {folder}/batch.json",
        ],
        shows=[
            r"(is being|was) cancelled",
            r"Cancelled: ",
            r"The answer is yes",
            r"3 executions: 3 completed",
        ],
    ),
)


def greets(request: Request) -> Scripted:
    """Answers as an endpoint that has too much to do at first."""
    if request.number == 1:
        return refuses(429, "Rate limit reached", headers={"Retry-After": "0"})
    return says(*["Hello ", ", ", "dear ", "reader ", ", ", "and ", "a ", "good ", "morning ", "to ", "you ", "!"])


@dataclass
class Servers:
    """Starts what rows need, each app once, in a folder of its own."""

    folder: Path
    running: dict[str, ServerProcess] = field(default_factory=dict)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    flags: dict[str, list[str]] = field(default_factory=dict)

    def of(self, app: str) -> ServerProcess:
        """Returns the app's server, which runs."""
        if app not in self.running:
            own = self.folder / app
            own.mkdir(exist_ok=True)
            flags, name, cwd = [], f"stepwire_server.{app}:app", own
            match app:
                case "charts":
                    (own / "sales.csv").write_text(SALES, "utf-8")
                    flags = ["--set", "data=sales.csv"]
                case "models":
                    endpoint = self.stack.enter_context(Endpoint(greets))
                    flags = ["--set", "model=tiny", "--set", f"model-url={endpoint.url}"]
                case "brought" | "depths":
                    name, cwd = f"{app}:app", APPS
            (own / "batch.json").write_text(BATCH, "utf-8")
            self.flags[app] = [name, *flags]
            self.running[app] = self.stack.enter_context(ServerProcess(own, app=name, cwd=cwd, flags=flags))
        return self.running[app]


def show(row: Row, servers: Servers, *, given: Mapping[str, object]) -> Iterator[str]:
    """Gives the lines of one row: its commands, and what they printed of what it must show. Raises AssertionError where
    a line does not come.
    """
    server = servers.of(row.app)
    yield f"$ stepwire-server serve {shlex.join(servers.flags[row.app])}"
    missing = list(row.shows)
    execution_id, printed = "", ""
    code = 0
    for run in row.runs:
        match run:
            case "!kill":
                yield "$ kill -9 ..."
                server.kill()
                continue
            case "!start":
                server.start()
                continue
        for name, value in {"id": execution_id, "folder": servers.folder / row.app, **given}.items():
            run = run.replace(f"{{{name}}}", str(value))
        yield f"$ stepwire {run}"
        done = _answered(server, run) if run.startswith("answer") else _run(server, run)
        code = done.returncode
        printed += done.stdout
        found = re.search(r"execution (\w{22})|^(\w{22})$|\"execution_id\":\"(\w{22})\"", done.stdout, re.MULTILINE)
        execution_id = next(filter(None, found.groups()), "") if found else execution_id
        for line in done.stdout.splitlines():
            if missing and re.search(missing[0], line):
                del missing[0]
                yield line
    told = "\n".join(map(_abridged, printed.splitlines()))
    assert not missing, f"{row.name}: nothing like {missing[0]!r} came next of\n{told}"
    assert code == row.ends, f"{row.name}: exit code {code}\n{told}"


def _answered(server: ServerProcess, arguments: str) -> subprocess.CompletedProcess[str]:
    """Answers once something is asked: it may not be yet."""

    def answer() -> subprocess.CompletedProcess[str] | None:
        done = _run(server, arguments)
        return None if done.returncode else done

    found: subprocess.CompletedProcess[str] = until(answer, "a question")
    return found


def _run(server: ServerProcess, arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("stepwire"), "--server", server.address, *shlex.split(arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )


def _abridged(line: str) -> str:
    """Returns a line without what all events have, and not longer than a reader wants."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            told = {
                name: event[name] for name in ("type", "step_id", "percentage", "message", "data") if event.get(name)
            }
            line = json.dumps(told or event, ensure_ascii=False)
    return line if len(line) <= _WIDTH else line[:_WIDTH] + " ..."


def main() -> int:
    """Shows all rows, or those that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="rows, such as S2")
    names = parser.parse_args().names
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        servers = Servers(Path(folder))
        with servers.stack, Gate() as gate:
            gate.open()
            for row in ROWS:
                if names and not set(names) & set(row.name.split(", ")):
                    continue
                print(f"\n### {row.name}: {row.says}\n\n```text")
                try:
                    for line in show(row, servers, given={"gate": gate.port}):
                        print(_abridged(line))
                except AssertionError as error:
                    failed += 1
                    print(f"NOT SHOWN: {error}")
                print("```")
            if not names or {"S6", "P3"} & set(names):
                print("\n### S6, P3: what is said far below, in threads and in tasks, comes while its step runs\n")
                print(depths.table(depths.run(servers.of("depths"))))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
