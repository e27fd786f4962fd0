"""Steps that ask people: over a restart, with both clients, and on the terminal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import stepwire.aio
from stepwire import Client, event_type
from stepwire.client import Run
from stepwire.errors import InputInvalid, InputNotRequested
from stepwire.terminal.commands import stepwire as stepwire_command
from stepwire.v1 import Event
from stepwire.values import to_python

from .serving import PATIENCE, Gate, ServerProcess, command, until
from .test_terminal import ENVIRONMENT, Terminal

PROMPT = "The amount differs. Go on?"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The sample app, for all tests of this module: they add executions to it, and two of them start it again."""
    flags = ["--drain-grace", str(2 * PATIENCE)]
    with ServerProcess(tmp_path_factory.mktemp("people"), app="sample:app", flags=flags) as server:
        yield server


def plan_of(*, prompt: str = PROMPT, details: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """Returns a plan of one step, `a`, that asks."""
    asks = {"prompt": prompt, "details": details or {}, **given}
    return {"steps": [{"id": "a", "name": "Charge", "operation": "ask", "input": asks}]}


def file_of(folder: Path, plan: dict[str, Any]) -> str:
    file = folder / "plan.json"
    file.write_text(json.dumps(plan), "utf-8")
    return str(file)


def asked(run: Run, *, count: int = 1) -> Event:
    """Reads a run up to the `count`th question."""
    for event in run:
        if event_type(event) == "input_requested":
            count -= 1
            if not count:
                return event
    raise AssertionError("it was not asked")


def said(server: ServerProcess, *words: str, code: int = 0) -> Result:
    """Runs `stepwire`, in this process, and expects this exit code."""
    done = CliRunner().invoke(stepwire_command, ["--server", server.address, *words], env={"USER": "ada"})
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    return done


def test_a_question_outlives_kill_9(people: ServerProcess, tmp_path: Path) -> None:
    """A server that is killed while a step waits asks again under the same id after its restart, and whoever watches
    sees the answer; what was answered before the kill is not asked again; a time to answer is not given again.
    """
    with Client(people.address) as client:
        traces, runs, questions = [tmp_path / "before", tmp_path / "after"], [], []
        for trace in traces:
            plan = plan_of(details={"choices": ["yes", "no"], "expires_in": 3600}, trace=str(trace))
            plan["steps"].append({"id": "b", "operation": "ask", "input": {"prompt": "And you?"}, "depends_on": ["a"]})
            runs.append(client.execute(plan=plan))
            questions.append(asked(runs[-1]))
        before, after = runs
        input_id = questions[0].input_requested.input_id
        client.answer(before.execution_id, input_id, "no", actor="ada")
        assert asked(before).step_id == "b"
        people.kill()
        people.start()
        again = asked(after)
        assert again.input_requested == questions[1].input_requested
        assert (again.attempt, again.step_id) == (2, "a")
        with pytest.raises(InputInvalid) as refused:
            after.answer(input_id, "maybe")
        assert refused.value.violations[0].field == "value"
        after.answer(input_id, "no", actor="ada")
        for run, attempt in ((before, 2), (after, 1)):
            second = asked(run)
            assert (second.attempt, second.step_id) == (attempt, "b")
            assert [other.step_id for other in run.tracker.questions] == ["b"]
            run.answer(second.input_requested.input_id, {"me": [1, None]})
            assert run.result()["answer"] == {"me": [1, None]}
            events = list(client.events(run.execution_id))
            with Client(people.address) as other:
                assert list(other.events(run.execution_id)) == events
            assert client.get(run.execution_id).attempt_count == 2
            answers = [event.input_received for event in events if event_type(event) == "input_received"]
            assert [(answer.input_id, answer.actor) for answer in answers] == [
                (input_id, "ada"),
                (second.input_requested.input_id, ""),
            ]
    assert [trace.read_text("utf-8") for trace in traces] == ["a 1\n", "a 1\na 2\n"]


def test_a_drain_does_not_wait_for_people(people: ServerProcess) -> None:
    """SIGTERM ends a server at once where steps only wait for people, however long its grace; the next one goes on."""
    with Client(people.address) as client:
        run = client.execute(plan=plan_of())
        asked(run)
        assert people.terminate() == 0
        people.start()
        question = asked(run)
        run.answer(question.input_requested.input_id, 5)
        assert run.result() == {"answer": 5, "attempt": 2}


async def test_the_async_client_answers(people: ServerProcess) -> None:
    """`stepwire.aio` answers and is refused as `stepwire` is; the tracker has what is open."""
    async with stepwire.aio.Client(people.address) as client, asyncio.timeout(PATIENCE):
        plan = plan_of(details={"schema": {"type": "integer", "maximum": 9}})
        plan["steps"] += [{"id": "b", "operation": "ask", "input": {"prompt": "And you?"}}]
        run = await client.execute(plan=plan)
        async for _ in run:
            if len(run.tracker.questions) == 2:
                break
        first, second = sorted(run.tracker.questions, key=lambda question: question.step_id)
        input_id = first.input_requested.input_id
        with pytest.raises(InputInvalid):
            await run.answer(input_id, 10)
        await run.answer(input_id, 9, actor="ada")
        await client.answer(run.execution_id, input_id, 9)
        with pytest.raises(InputNotRequested):
            await client.answer(run.execution_id, input_id, 8)
        await run.answer(second.input_requested.input_id, None)
        answers = [event.input_received async for event in run if event_type(event) == "input_received"]
        assert [answer.actor for answer in answers] == ["ada", ""]
        assert run.tracker.questions == ()
        assert (await run.result())["a"]["answer"] == 9


def test_answer_on_the_command_line(people: ServerProcess) -> None:
    """`answer` shows what is asked, is refused with what does not fit, answers, and says when nothing is asked."""
    with Client(people.address) as client:
        run = client.execute(plan=plan_of(details={"choices": ["yes", "no"]}))
        input_id = asked(run).input_requested.input_id
        execution_id = run.execution_id
        shown = said(people, "answer", execution_id).stdout
        assert shown.startswith(f"Charge asks: {PROMPT}\n  1) yes\n  2) no\n  answer it: stepwire --server ")
        assert f"answer {execution_id} VALUE --input-id {input_id}" in shown
        refused = said(people, "answer", execution_id, "maybe", code=4).stderr
        assert "value is none of the choices; they are 'yes', 'no'" in refused
        assert said(people, "answer", execution_id, "2").stdout == f"{execution_id} has the answer.\n"
        assert run.result()["answer"] == "no"
        assert "asks anything now" in said(people, "answer", execution_id, "1", code=4).stderr
        given, _ = client.events(execution_id, kinds=["input_received"])
    assert given.input_received.actor == "ada"


def test_lines_say_how_to_answer(people: ServerProcess, tmp_path: Path) -> None:
    """Away from a terminal `run` asks nobody: a line has the question, and standard error the command that answers."""
    process = subprocess.Popen(
        [command("stepwire"), "--server", people.address, "run", "--plan", file_of(tmp_path, plan_of())],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("stepwire: execution ")
        hint = re.fullmatch(r"stepwire: answer it: stepwire (.* VALUE .*)\n", process.stderr.readline())
        assert hint
        done = CliRunner().invoke(stepwire_command, hint[1].replace("VALUE", "yes").split())
        assert "has the answer" in done.output
        printed, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert f"): {PROMPT}\n" in printed
    assert '"answer": "yes"' in printed
    assert process.returncode == 0


def asking(server: ServerProcess, tmp_path: Path, plan: dict[str, Any], *flags: str) -> Terminal:
    """`stepwire run` of a plan in a terminal."""
    return Terminal(command("stepwire"), "--server", server.address, "run", "--plan", file_of(tmp_path, plan), *flags)


def begun(terminal: Terminal) -> str:
    """Returns the id of the execution that `stepwire run` names."""
    named = re.search(r"\bexecution (\S{22})\s", terminal.plain)
    assert named, terminal.plain
    return named[1]


def test_the_terminal_asks(people: ServerProcess, tmp_path: Path, gate: Gate) -> None:
    """On a terminal `run` asks, and again where there is no answer or it does not fit; Enter takes the default; where
    somebody else has answered a prompt goes away, and what happened meanwhile is shown, in order; bars go on.
    """
    plan = plan_of(details={"choices": ["yes", "no"], "default": "no"}, talks=3)
    plan["steps"] += [
        {"id": "b", "operation": "ask", "input": {"prompt": "How many?", "details": {"schema": {"type": "integer"}}}},
        {"id": "c", "operation": "ask", "input": {"prompt": "And you?"}, "depends_on": ["b"]},
        {"id": "d", "operation": "paced", "input": {"gate": gate.port, "bursts": [2]}},
        {"id": "e", "operation": "say", "depends_on": ["d"]},
    ]
    plan["steps"][1]["depends_on"] = ["a"]
    with asking(people, tmp_path, plan) as terminal, Client(people.address) as client:
        terminal.read_until(
            r"Charge asks: The amount differs. Go on\?\r\n  1\) yes\r\n  2\) no\r\n1 to 2 \(Enter: no\): "
        )
        assert "\x1b[?25l" not in terminal.text[terminal.text.rindex("\x1b[?25h") :], "the cursor is hidden"
        terminal.type(b"3\n")
        terminal.read_until(r"Type a number from 1 to 2, or one of the choices.\r\n1 to 2")
        terminal.type(b"\n")
        terminal.read_until(r"as JSON of this schema: \{\"type\": \"integer\"\}\r\nAnswer: ")
        terminal.type(b"\n")
        terminal.read_until(r"An answer is needed")
        terminal.type("fünf\n".encode())
        terminal.read_until(r"It 'fünf' is not of type 'integer'\r\nAnswer: ")
        terminal.type(b"5\n")
        terminal.read_until(r"c asks: And you\?\r\nAnswer: ")
        execution_id = begun(terminal)
        gate.release("d")
        until(lambda: client.get(execution_id).progress.completed_steps == 4, "only c is left")
        assert not re.search(r"done +\d/5 e", terminal.plain)
        run = client.watch(execution_id)
        question = asked(run, count=3)
        run.answer(question.input_requested.input_id, "elsewhere")
        assert terminal.end() == 0
        *events, _ = client.events(execution_id, kinds=["input_received"])
    assert "Traceback" not in terminal.text
    assert re.search(r"done +1/5 Charge", terminal.plain)
    order = [r"It is not asked any more\.", r"done +4/5 d", r"done +5/5 e", r"answered \(", r"done +3/5 c", "Completed"]
    afterwards = terminal.plain[terminal.plain.index("And you?\r\nAnswer: ") :]
    found = [re.search(pattern, afterwards) for pattern in order]
    places = [match.start() for match in found if match]
    assert (len(places), places) == (len(order), sorted(places)), terminal.plain
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
    assert [to_python(event.input_received.value) for event in events] == ["no", 5, "elsewhere"]
    assert [event.input_received.actor for event in events] == [*[os.environ.get("USER", "")] * 2, ""]


def test_to_leave_at_a_prompt(people: ServerProcess, tmp_path: Path) -> None:
    """At a prompt Ctrl-C leaves as ever, and the question stays open: `run` that is repeated with its request id shows
    the answered questions, and asks the open one alone; Ctrl-D there says how to answer later, and goes on; Ctrl-C
    leaves then, too.
    """
    plan = plan_of(prompt="First?", details={"choices": ["yes", "no"]})
    plan["steps"] += [{"id": "b", "operation": "ask", "input": {"prompt": "Second?"}, "depends_on": ["a"]}]
    flags = ("--request-id", "again")
    with asking(people, tmp_path, plan, *flags) as terminal:
        terminal.read_until(r"Charge asks: First\?\r\n  1\) yes\r\n  2\) no\r\n1 to 2: ")
        terminal.type(b"yes\n")
        terminal.read_until(r"b asks: Second\?\r\nAnswer: ")
        terminal.type(b"\x03")
        assert terminal.end() == 130
    hint = re.search(r"Watch it:\s+stepwire --server \S+ watch (\S+)", terminal.plain)
    assert hint, terminal.plain
    assert hint[1] == begun(terminal)
    assert "Traceback" not in terminal.text
    with asking(people, tmp_path, plan, *flags) as terminal:
        terminal.read_until(r"b asks: Second\?\r\nAnswer: ")
        terminal.type(b"\x04")
        terminal.read_until("answer it: stepwire")
        terminal.type(b"\x03")
        assert terminal.end() == 130
    assert "Charge asks: First?" not in terminal.plain
    assert "Traceback" not in terminal.text
    said(people, "answer", hint[1], "2")
    with Client(people.address) as client:
        answers = [event.input_received for event in client.events(hint[1], kinds=["input_received"])]
    assert [to_python(answer.value) for answer in answers if answer.input_id] == ["yes", 2]
