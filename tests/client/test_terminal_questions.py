"""Questions on the terminal: what a typed text means, lines that are read while they are wanted, who is asked when."""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from stepwire import ProgressTracker, errors, to_dict
from stepwire.terminal import questions
from stepwire.terminal.answers import LineReader, choice_of, value_of
from stepwire.terminal.commands import stepwire
from stepwire.terminal.live import LiveView
from stepwire.terminal.questions import QuestionWatch, question_lines
from stepwire.terminal.views import JsonView, PlainView, line_of
from stepwire.v1 import Event, Execution, InputRequested, ProvideInputResponse
from stepwire.values import to_python, to_struct, to_value

from .scripted import EXECUTION, ScriptedServer, batch, completed, event, page

WAITS = 20
"""Seconds after which a test says that something never came."""


def question(sequence: int = 1, *, step: str = "a", input_id: str = "q", **more: Any) -> Event:
    made = event(sequence, "input_requested")
    made.step_id, made.step_name, made.step_state = step, f"Step {step}", 9
    made.input_requested.CopyFrom(InputRequested(input_id=input_id, **({"prompt": "What?"} | more)))
    return made


# -- what a text means


@pytest.mark.parametrize(
    ("text", "asked", "value"),
    [
        ("yes", {}, "yes"),
        ("5", {}, 5),
        ("-2.5", {}, -2.5),
        ("true", {}, True),
        ("null", {}, None),
        ('"5"', {}, "5"),
        ('{"a": [1]}', {}, {"a": [1]}),
        ("{a", {}, "{a"),
        ("", {}, ""),
        ("NaN", {}, "NaN"),
        ("-Infinity", {}, "-Infinity"),
        ("5", {"choices": ["5", "6"]}, "5"),
        ('"5"', {"choices": ["5", "6"]}, "5"),
        ("5", {"schema": to_struct({"type": "string"})}, "5"),
        ("5", {"schema": to_struct({"type": "integer"})}, 5),
        ("5", {"schema": to_struct({"type": ["string", "integer"]})}, 5),
    ],
)
def test_what_a_text_means(text: str, asked: dict[str, Any], value: Any) -> None:
    """A text is what it is as JSON, or itself; where a text is wanted it is not taken for anything else."""
    found = value_of(text, InputRequested(**asked))
    assert (found, type(found)) == (value, type(value))
    if not asked:
        assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("1", "no"),
        ("2", "3"),
        ("3", "3"),
        ("no", "no"),
        ("4", None),
        ("0", None),
        ("-1", None),
        ("²", None),
        ("9" * 99, None),
    ],
)
def test_which_choice(text: str, choice: str | None) -> None:
    """A choice is named by its words, or else by its number."""
    assert choice_of(text, InputRequested(choices=["no", "3", "yes"])) == choice


def test_a_question_as_lines() -> None:
    """A question is shown with who asks, all its lines, its choices by number, its schema and its time."""
    asked = question(prompt="The amount\ndiffers.\n", choices=["yes", "no"])
    asked.input_requested.expire_time.FromSeconds(1_700_000_000)
    assert question_lines(asked) == [
        "Step a asks: The amount",
        "  differs.",
        "  1) yes",
        "  2) no",
        "  until 2023-11-14T22:13:20Z",
    ]
    asked = question(schema=to_struct({"type": "integer"}))
    assert question_lines(asked)[1] == '  as JSON of this schema: {"type": "integer"}'


@pytest.mark.parametrize(
    ("received", "line"),
    [
        ({"value": to_value(1)}, "answered (q)"),
        ({"value": to_value(1), "actor": "ada"}, "answered by ada (q)"),
        ({"value": to_value(1), "actor": "ada\nlovelace"}, "answered by ada lovelace (q)"),
        ({"value": to_value(1), "expired": True}, "not answered in time, the default is taken (q)"),
        ({"expired": True}, "not asked any more (q)"),
    ],
)
def test_the_line_of_an_answer(received: dict[str, Any], line: str) -> None:
    """The line of an end of a question says whether it was answered, by whom, or what is taken instead."""
    made = event(1, "input_received")
    made.input_received.input_id = "q"
    for name, value in received.items():
        if name == "value":
            made.input_received.value.CopyFrom(value)
        else:
            setattr(made.input_received, name, value)
    assert line_of(made).strip() == line


HARM = "harm\x1b]0;owned\x07\x1b[2J\x9b31m \u202eless\u2066\u200f\u061c\x7f"
HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def harmful_question() -> Event:
    """Returns a question that has control characters and marks of direction wherever a text is."""
    more = {"choices": [HARM], "schema": to_struct({HARM: HARM}), "default_value": to_value(HARM)}
    made = question(prompt=f"{HARM}\r\n{HARM}\nStep b (done)", **more)
    made.step_name = made.message = f"{HARM}\n{HARM}"
    return made


@pytest.mark.parametrize("shown", ["plain", "json", "live", "prompt", "answer", "answer --json"])
def test_a_question_does_no_harm_to_a_terminal(
    server: ScriptedServer, typed: Any, capsys: pytest.CaptureFixture[str], shown: str
) -> None:
    """Wherever a question is shown, its texts move no cursor, set no title and turn nothing round; its JSON means the
    same.
    """
    made = harmful_question()
    console = Console(file=io.StringIO(), width=100)
    if shown.startswith("answer"):
        asks(server, made)
        out = said(server, *shown.split()[1:]).output
    elif shown == "prompt":
        reader, write, _ = typed
        refused = errors.InputInvalid(HARM, violations=[errors.Violation(f"value.{HARM}", HARM)])
        run = Followed(reader, refuses=[refused, errors.CallFailed(HARM, status_code=14)])
        with run.watch:
            run.comes(made)
            run.shown.has("hold")
            write(b"1\n1\n")
            run.shown.has("release")
        out = capsys.readouterr().out
    elif shown == "live":
        with LiveView(console) as live:
            for event_ in (made, event(2, "input_received")):
                event_.input_received.actor = HARM
                live.show(event_)
        out = console.file.getvalue()  # type: ignore[attr-defined]
    else:
        view = JsonView() if shown == "json" else PlainView()
        with view:
            view.show(made)
        out = capsys.readouterr().out
    assert "harm" in out
    assert "less" in out
    assert not HARMFUL.search(out), HARMFUL.search(out)
    if "json" in shown:
        assert json.loads(out) == to_dict(made)
    else:
        assert not [line for line in out.splitlines() if line.startswith("Step b")], "it looks like the client's line"


@pytest.mark.parametrize("what", ["prompt", "lines", "choices", "schema", "default_value", "step_name"])
def test_a_large_question_leaves_the_terminal_readable(server: ScriptedServer, what: str) -> None:
    """Of a question of megabytes a bounded part is shown, and how many of its lines or choices are not."""
    large: dict[str, Any] = {
        "prompt": "x" * (1 << 20),
        "lines": "x\n" * 300_000,
        "choices": [f"{number} " + "x" * 1000 for number in range(1000)],
        "schema": to_struct({"enum": ["x" * 1000] * 1000}),
        "default_value": to_value("x" * (1 << 20)),
        "step_name": "x" * (1 << 20),
    }
    made = question(prompt=large["lines"]) if what == "lines" else question()
    if what == "step_name":
        made.step_name = large[what]
    elif what != "lines":
        made = question(**{what: large[what]})
    asks(server, made)
    shown = said(server).output
    assert len(shown) < 100_000
    assert len(shown.splitlines()) < 250
    assert ("  and 4,799 more lines\n" in shown) == (what == "lines")
    assert ("  and 800 more choices\n" in shown) == (what == "choices")
    assert len(questions._wanted(made.input_requested)) < 500
    assert len(line_of(made)) < 3000


@pytest.mark.parametrize("prompt", ["", " \n\x1c"])
def test_a_question_without_words(prompt: str) -> None:
    """A question in which nothing is asked, as another server's may be, is shown all the same."""
    assert question_lines(question(prompt=prompt, choices=["yes"])) == ["Step a asks: ", "  1) yes"]


# -- lines


@pytest.fixture
def typed() -> Iterator[tuple[LineReader, Callable[[bytes], int], Callable[[], None]]]:
    """A reader of what is written into a pipe, how to write there, and how to end it."""
    out, into = os.pipe()
    closed: list[int] = []

    def end() -> None:
        if not closed:
            closed.append(into)
            os.close(into)

    try:
        yield LineReader(out), lambda data: os.write(into, data), end
    finally:
        end()
        os.close(out)


def test_lines_come_one_by_one(typed: Any) -> None:
    """Several lines at once are read one after the other, in whatever pieces they come; the end raises EOFError."""
    reader, write, end = typed
    write(b"eins\r\nzwei\ndr")
    assert [reader.read(lambda: True) for _ in range(2)] == ["eins", "zwei"]
    write("ü\n".encode())
    assert reader.read(lambda: True) == "drü"
    end()
    with pytest.raises(EOFError):
        reader.read(lambda: True)


def test_a_line_that_is_not_wanted_any_more_is_not_waited_for(typed: Any) -> None:
    """A reader stops when nobody wants the line any more, and takes nothing then."""
    reader, write, _ = typed
    looks = iter([True, True, False])
    assert reader.read(lambda: next(looks)) is None
    write(b"later\n")
    assert reader.read(lambda: True) == "later"


def test_what_was_typed_before_is_forgotten(typed: Any) -> None:
    """Lines that came before they were asked for are dropped."""
    reader, write, _ = typed
    write(b"one\ntwo\nthr")
    assert reader.read(lambda: True) == "one"
    reader.forget()
    write(b"four\n")
    assert reader.read(lambda: True) == "four"


# -- who is asked when


class Shown:
    """A view that notes what is shown, and when it was held."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.changed = threading.Condition()

    def note(self, text: str) -> None:
        with self.changed:
            self.log.append(text)
            self.changed.notify_all()

    def has(self, text: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.log, WAITS), self.log

    def show(self, event: Event) -> None:
        self.note(f"event {event.sequence}")

    def notice(self, text: str) -> None:
        self.note(text)

    def hold(self) -> None:
        self.note("hold")

    def release(self) -> None:
        self.note("release")


class Followed:
    """As much of a run as is looked at, and a watch over its questions."""

    def __init__(self, lines: LineReader | None, *, refuses: list[Exception] | None = None) -> None:
        self.tracker = ProgressTracker()
        self.shown = Shown()
        self.answers: list[tuple[str, Any]] = []
        self._refuses = refuses or []
        self.watch = QuestionWatch(
            self,  # type: ignore[arg-type]
            self.shown,  # type: ignore[arg-type]
            hint=lambda input_id: f"stepwire answer {input_id}",
            answer=self._answer,
            lines=lines,
        )

    def comes(self, made: Event) -> None:
        self.tracker.add_event(made)
        self.watch.show(made)

    def _answer(self, input_id: str, value: Any) -> None:
        if self._refuses:
            raise self._refuses.pop(0)
        self.answers.append((input_id, value))
        self.shown.note("answered")


def test_where_nobody_is_asked_it_is_told_once_how_to_answer() -> None:
    """Without lines to read each question that stays open is told once with the command that answers it, and nothing is
    held back.
    """
    run = Followed(None)
    with run.watch:
        run.comes(question(1))
        run.shown.has("answer it: stepwire answer q")
        run.comes(question(2, step="b", input_id="r"))
        run.shown.has("answer it: stepwire answer r")
        run.comes(event(3))
    assert run.shown.log.count("answer it: stepwire answer q") == 1
    assert "hold" not in run.shown.log
    assert [text for text in run.shown.log if text.startswith("event")] == ["event 1", "event 2", "event 3"]


def test_what_is_answered_close_behind_is_not_asked(typed: Any) -> None:
    """Of questions that were answered long ago, as a replay has them, nothing is said; the open one is asked."""
    reader, write, _ = typed
    run = Followed(reader)
    with run.watch:
        for number in range(1, 200, 2):
            run.comes(question(number, input_id=f"q{number}"))
            made = event(number + 1, "input_received")
            made.input_received.input_id = f"q{number}"
            run.comes(made)
        run.comes(question(500, input_id="last"))
        run.shown.has("hold")
        write(b"5\n")
        run.shown.has("release")
    assert run.answers == [("last", 5)]


def test_events_are_held_until_the_answer(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a person is asked events are held back, a bounded number of them, and shown in their order afterwards."""
    monkeypatch.setattr(questions, "_MOST_HELD", 10)
    reader, write, _ = typed
    run = Followed(reader)
    with run.watch:
        run.comes(question(1))
        run.shown.has("hold")
        reading = threading.Thread(target=lambda: [run.comes(event(number)) for number in range(2, 30)])
        reading.start()
        reading.join(0.3)
        assert reading.is_alive(), "as many events as there are were read"
        assert run.shown.log == ["event 1", "hold"]
        write(b"yes\n")
        reading.join(WAITS)
        assert not reading.is_alive()
    assert run.shown.log == ["event 1", "hold", "answered", "release", *(f"event {number}" for number in range(2, 30))]


def test_it_is_asked_until_the_answer_is_taken(typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What is empty, or none of the choices, is not sent, what the server refuses is asked for again; Enter takes the
    default where there is one.
    """
    reader, write, _ = typed
    refused = errors.InputInvalid("no", violations=[errors.Violation("value.a[0]", "is bad")])
    run = Followed(
        reader, refuses=[refused, errors.InputInvalid("no", violations=[errors.Violation("value", "is bad")])]
    )
    with run.watch:
        run.comes(question(1, choices=["a", "b"]))
        run.shown.has("hold")
        write(b"\n3\nc\nb\n1\nb\n")
        run.shown.has("release")
        run.comes(question(2, input_id="r", default_value=to_value({"n": 1})))
        run.shown.log.remove("release")
        with run.shown.changed:
            run.shown.changed.wait_for(lambda: run.shown.log.count("hold") == 2, WAITS)
        write(b"  \n")
        run.shown.has("release")
    assert run.answers == [("q", "b"), ("r", {"n": 1})]
    said = capsys.readouterr().out
    assert said.count("An answer is needed") == 1
    assert said.count("Type a number from 1 to 2, or one of the choices.") == 2
    assert "  a[0] is bad\n" in said
    assert "  It is bad\n" in said
    assert 'Answer (Enter: {"n": 1}): ' in said


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.InputNotRequested("gone"), "It is not asked any more."),
        (errors.ExecutionEnded("over"), "It is not asked any more."),
        (errors.CallFailed("no line", status_code=14), "no line\n  Answer it later: stepwire answer q"),
    ],
)
def test_an_answer_that_does_not_arrive(typed: Any, capsys: Any, error: Exception, text: str) -> None:
    """An answer that comes too late, or does not reach the server, is told, and the run is shown on."""
    reader, write, _ = typed
    run = Followed(reader, refuses=[error])
    with run.watch:
        run.comes(question(1))
        run.shown.has("hold")
        write(b"x\n")
        run.shown.has("release")
    assert text in capsys.readouterr().out


# -- the command


def said(server: ScriptedServer, *words: str) -> Any:
    return CliRunner().invoke(stepwire, ["--server", server.target, "answer", EXECUTION, *words], env={"USER": "ada"})


def asks(server: ScriptedServer, *asked: Event) -> None:
    server.replies("ListEvents", page(*asked), page())


def sent(server: ScriptedServer) -> Any:
    return next(call.request for call in server.calls if call.name == "ProvideInput")


@pytest.mark.parametrize(
    ("text", "asked", "value"),
    [
        ("yes", {}, "yes"),
        ("-5", {}, -5),
        ("2", {"choices": ["yes", "no"]}, "no"),
        ("no", {"choices": ["yes", "no"]}, "no"),
        ("3", {"choices": ["yes", "no"]}, "3"),
        ('{"a": 1}', {}, {"a": 1}),
    ],
)
def test_answer(server: ScriptedServer, text: str, asked: dict[str, Any], value: Any) -> None:
    """answer sends what was typed to the one open question, in the name of the user."""
    asks(server, question(1, **asked))
    server.replies("ProvideInput", ProvideInputResponse(execution=Execution(execution_id="e-1", state=3)))
    result = said(server, text)
    assert (result.exit_code, result.output) == (0, "e-1 has the answer.\n")
    assert (sent(server).input_id, sent(server).actor, to_python(sent(server).value)) == ("q", "ada", value)
    assert set(server.calls[0].request.filter.kinds) == {
        *("input_requested", "input_received", "step_completed", "step_failed", "step_cancelled")
    }


def test_answer_to_one_of_several(server: ScriptedServer) -> None:
    """--input-id says which question is meant, open or not; as JSON the execution is printed."""
    for named in ("r", "gone"):
        asks(server, question(1), question(2, step="b", input_id="r", choices=["5"]))
        server.replies("ProvideInput", ProvideInputResponse(execution=Execution(execution_id="e-1", state=3)))
        assert json.loads(said(server, "5", "--input-id", named, "--json").output)["state"] == "RUNNING"
    requests = [call.request for call in server.calls if call.name == "ProvideInput"]
    assert [(request.input_id, to_python(request.value)) for request in requests] == [("r", "5"), ("gone", 5)]


def test_answer_where_it_is_not_clear_which(server: ScriptedServer) -> None:
    """Without --input-id several open questions are wrong usage, none is refused, and nothing is sent."""
    asks(server, question(1), question(2, step="b", input_id="r"))
    result = said(server, "5")
    assert (result.exit_code, "2 questions are open" in result.stderr) == (2, True)
    server.replies("ListEvents", batch(question(1), completed(2)))
    result = said(server, "5")
    assert (result.exit_code, "no step of execution e-1 asks anything now" in result.stderr) == (4, True)
    assert "ProvideInput" not in server.names()


def test_what_is_asked(server: ScriptedServer) -> None:
    """Without an answer what is asked is shown, each with the command that answers it; as JSON, as events."""
    for _ in range(2):
        asks(server, question(1), question(2, step="b", input_id="r", choices=["x"]))
    shown = said(server).output
    assert shown.startswith(f"Step a asks: What?\n  answer it: stepwire --server {server.target} answer e-1 VALUE ")
    assert "Step b asks: What?\n  1) x\n  answer it: " in shown
    events = [json.loads(line) for line in said(server, "--json").output.splitlines()]
    assert [made["data"]["input_id"] for made in events] == ["q", "r"]
    asks(server)
    assert said(server).output == "No step of e-1 asks anything now.\n"
