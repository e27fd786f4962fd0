"""What each of the systems that Stepwire takes the place of must show: commands, and the lines that they must print."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BATCH", "ROWS", "Row"]

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
    shows: Sequence[str | frozenset[str]]
    """Regular expressions, each of a line that is printed, in this order; those of a set in any order."""
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
        name="S",
        says="the same with a model, which decides and writes code whose tests fail, then mends it",
        app="supervisor+model",
        runs=[f"run --call build --input {shlex.quote(GAP)}"],
        shows=[
            r"supervisor \(decision\): research: Nobody has read the tests yet",
            r"supervisor \(decision\): codesmith: after research",
            r"return a \+ b",
            r"supervisor \(decision\): reviewfix: after codesmith",
            r"return abs\(a - b\)",
            r'"answer": "All 3 tests pass: mended by tiny\."',
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
            frozenset({r"completed_calculate", r"failed_calculate", r"error_nowhere", r"completed_days_between"}),
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
