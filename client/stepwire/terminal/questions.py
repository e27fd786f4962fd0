"""Questions of a run that is being shown: who sits at the terminal is asked, and elsewhere it is said how to answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stepwire.errors import ExecutionEnded, InputInvalid, InputNotRequested, StepwireError
from stepwire.run import BaseRun
from stepwire.terminal.answers import LineReader, choice_of, value_of
from stepwire.terminal.screen import say, shortened
from stepwire.terminal.views import View
from stepwire.v1.event_pb2 import Event, InputRequested
from stepwire.values import to_python

__all__ = ["QuestionWatch", "question_lines"]

_BEFORE_ASKING = 0.3
"""Seconds that a question must have been open: of what is long past the answer comes close behind."""
_INTERVAL = 0.1

_MOST_HELD = 1000
"""Events that are kept until a person has answered. Beyond, reading waits."""

_MOST_LINES = 200
"""Lines of a question that are shown, and choices."""

_PROMPT, _SCHEMA, _CHOICE, _NAME = 10_000, 2_000, 300, 100
"""Characters of each that are shown, at most. No prompt of this release's server has more."""


class QuestionWatch:
    """Looks at a run's open questions from a thread of its own, because the one that reads the run waits for events.

    With `lines`, asks for answers there and gives them to `answer`; what happens meanwhile is shown afterwards.
    Without, or where there are no more lines, says once for each question how to answer it: `hint` returns that for an
    input id.
    """

    def __init__(
        self,
        run: BaseRun,
        view: View,
        *,
        hint: Callable[[str], str],
        answer: Callable[[str, Any], object],
        lines: LineReader | None,
    ) -> None:
        self._run = run
        self._view = view
        self._hint = hint
        self._answer = answer
        self._lines = lines
        self._done: set[int] = set()
        self._seen: dict[int, float] = {}
        self._held: list[Event] = []
        self._asking = False
        self._changed = threading.Condition()
        self._terminal = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stepwire-questions", daemon=True)

    def __enter__(self) -> QuestionWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._thread.join(2 * _BEFORE_ASKING if self._lines is not None else None)
        self._show_held()

    def show(self, event: Event) -> None:
        """Shows an event, at once or when the person has answered."""
        with self._changed:
            if not self._asking:
                self._view.show(event)
                return
            self._held.append(event)
            self._changed.wait_for(lambda: not self._asking or len(self._held) < _MOST_HELD)

    def ask_aside(self, text: str) -> str | None:
        """Asks the person something that is no step's question, and returns the line. None where nobody can be asked:
        elsewhere than on a terminal, and while a step's question is.
        """
        if self._lines is None or not self._terminal.acquire(blocking=False):
            return None
        try:
            self._lines.forget()
            with self._aside():
                say(text, nl=False)
                return self._lines.read(lambda: True)
        except EOFError:
            self._lines = None
            return None
        finally:
            self._terminal.release()

    def _watch(self) -> None:
        while not self._left.wait(_INTERVAL):
            question = self._next()
            if question is None:
                continue
            self._done.add(question.sequence)
            if self._lines is not None:
                with self._terminal:
                    self._lines.forget()
                    with self._aside():
                        self._ask(question, self._lines)
            else:
                self._tell(question)

    def _next(self) -> Event | None:
        """Returns the oldest question that has been open for long enough and that nothing was done about."""
        now = time.monotonic()
        open_ = self._run.tracker.questions
        self._seen = {question.sequence: self._seen.get(question.sequence, now) for question in open_}
        for question in open_:
            if question.sequence not in self._done and now - self._seen[question.sequence] >= _BEFORE_ASKING:
                return question
        return None

    def _tell(self, question: Event) -> None:
        self._view.notice(f"answer it: {self._hint(question.input_requested.input_id)}")

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Has the terminal for questions alone while it lasts."""
        with self._changed:
            self._asking = True
            self._view.hold()
        try:
            yield
        finally:
            with self._changed:
                self._asking = False
                self._view.release()
                self._show_held()

    def _show_held(self) -> None:
        with self._changed:
            held, self._held = self._held, []
            for event in held:
                self._view.show(event)
            self._changed.notify_all()

    def _is_open(self, question: Event) -> bool:
        input_id = question.input_requested.input_id
        return any(other.input_requested.input_id == input_id for other in self._run.tracker.questions)

    def _ask(self, question: Event, lines: LineReader) -> None:
        """Asks until there is an answer that the server takes, or the question is closed."""
        requested = question.input_requested
        say("\n".join(question_lines(question)))
        while True:
            say(_wanted(requested), nl=False)
            try:
                line = lines.read(lambda: not self._left.is_set() and self._is_open(question))
            except EOFError:
                self._lines = None
                say()
                self._tell(question)
                return
            if line is None:
                say("" if self._is_open(question) else "\n  It is not asked any more.")
                return
            try:
                value = _value(line.strip(), requested)
            except ValueError as error:
                say(f"  {error}")
                continue
            if self._give(requested.input_id, value):
                return

    def _give(self, input_id: str, value: Any) -> bool:
        """Sends an answer. Returns False where another one is needed."""
        try:
            self._answer(input_id, value)
        except InputInvalid as error:
            for field, problem in error.violations:
                say(f"  {field.removeprefix('value').removeprefix('.') or 'It'} {problem}")
            return False
        except (InputNotRequested, ExecutionEnded):
            say("  It is not asked any more.")
        except StepwireError as error:
            say(f"  {error}\n  Answer it later: {self._hint(input_id)}")
        return True


def question_lines(question: Event) -> list[str]:
    """Returns a question for a terminal: who asks what, and the choices with their numbers."""
    requested = question.input_requested
    first, *more = shortened(requested.prompt.strip(), _PROMPT).splitlines() or [""]
    lines = [f"{_short(question.step_name or question.step_id, _NAME)} asks: {first}"]
    lines += _first_of([f"  {line}" for line in more], "lines")
    choices = [f"  {number}) {_short(choice, _CHOICE)}" for number, choice in enumerate(requested.choices, 1)]
    lines += _first_of(choices, "choices")
    if requested.HasField("schema"):
        lines.append(f"  as JSON of this schema: {shortened(_json(to_python(requested.schema)), _SCHEMA)}")
    if requested.HasField("expire_time"):
        lines.append(f"  until {requested.expire_time.ToJsonString()}")
    return lines


def _wanted(requested: InputRequested) -> str:
    """Returns what stands before the place where the answer is typed."""
    default = ""
    if requested.HasField("default_value"):
        value = to_python(requested.default_value)
        default = f" (Enter: {_short(value if requested.choices else _json(value), _CHOICE)})"
    return f"1 to {len(requested.choices)}{default}: " if requested.choices else f"Answer{default}: "


def _value(line: str, requested: InputRequested) -> Any:
    """Returns what a line means as an answer. Raises ValueError, with what to do, where it is none."""
    if not line:
        if not requested.HasField("default_value"):
            raise ValueError("An answer is needed; Ctrl-C leaves, and the execution goes on.")
        return to_python(requested.default_value)
    if not requested.choices:
        return value_of(line, requested)
    choice = choice_of(line, requested)
    if choice is None:
        raise ValueError(f"Type a number from 1 to {len(requested.choices)}, or one of the choices.")
    return choice


def _first_of(lines: list[str], what: str) -> list[str]:
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"  and {more:,} more {what}"]


def _short(text: object, characters: int) -> str:
    return shortened(" ".join(str(text).split()), characters)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
