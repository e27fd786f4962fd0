"""The commands that steer an execution: cancel, pause, resume and answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from stepwire.client import Client
from stepwire.errors import InputNotRequested
from stepwire.events import execution_to_dict, has_ended, to_dict
from stepwire.progress import ProgressTracker
from stepwire.terminal.answers import choice_of, value_of
from stepwire.terminal.options import as_json_option, server_option
from stepwire.terminal.output import print_json
from stepwire.terminal.questions import question_lines
from stepwire.terminal.screen import say
from stepwire.terminal.server import Server
from stepwire.v1.event_pb2 import Event, InputRequested

__all__ = ["actor", "answer", "answer_command", "cancel", "pause", "resume"]

_ABOUT_QUESTIONS = ("input_requested", "input_received", "step_completed", "step_failed", "step_cancelled")


def actor() -> str:
    """Returns who does it: the name of the user of this machine."""
    return os.environ.get("USER", "")[:200]


def answer_command(server: Server, execution_id: str, input_id: str) -> str:
    """Returns the command line that answers a question, but for the answer."""
    return server.command("answer", execution_id, "VALUE", "--input-id", input_id)


@click.command()
@click.argument("execution_id")
@click.option("--reason", default="", help="Why. Everyone who watches sees it.")
@as_json_option
@server_option
@click.pass_obj
def cancel(server: Server, execution_id: str, reason: str, as_json: bool) -> None:
    """Asks an execution to end.

    \b
      stepwire cancel b7Qk2XvNf9TzLm4RcYh8Wd --reason "wrong city"
    """
    with server.client() as client:
        execution = client.cancel(execution_id, reason, actor=actor())
    if as_json:
        print_json(execution_to_dict(execution))
    else:
        done = "was cancelled" if has_ended(execution) else "is being cancelled"
        say(f"{execution.execution_id or execution_id} {done}.")


@click.command()
@click.argument("execution_id")
@click.option("--reason", default="", help="Why. Everyone who watches sees it.")
@as_json_option
@server_option
@click.pass_obj
def pause(server: Server, execution_id: str, reason: str, as_json: bool) -> None:
    """Lets no step of an execution start until `stepwire resume`; running ones end, or stop where they save.

    \b
      stepwire pause b7Qk2XvNf9TzLm4RcYh8Wd --reason "the bank is closed"
    """
    with server.client() as client:
        execution = client.pause(execution_id, reason, actor=actor())
    if as_json:
        print_json(execution_to_dict(execution))
    else:
        say(f"{execution_id} is paused. Go on: {server.command('resume', execution_id)}")


@click.command()
@click.argument("execution_id")
@click.option("--reason", default="", help="Why. Everyone who watches sees it.")
@as_json_option
@server_option
@click.pass_obj
def resume(server: Server, execution_id: str, reason: str, as_json: bool) -> None:
    """Lets the steps of a paused execution start again.

    \b
      stepwire resume b7Qk2XvNf9TzLm4RcYh8Wd
    """
    with server.client() as client:
        execution = client.resume(execution_id, reason, actor=actor())
    if as_json:
        print_json(execution_to_dict(execution))
    else:
        say(f"{execution_id} goes on.")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("execution_id")
@click.argument("value", required=False)
@click.option("--input-id", default="", help="Which question, where several are open.")
@as_json_option
@server_option
@click.pass_obj
def answer(server: Server, execution_id: str, value: str | None, input_id: str, as_json: bool) -> None:
    """Answers what a step of an execution asks. Without VALUE, shows what is asked.

    VALUE is JSON, or text: of a question with choices, one of them or its number.

    \b
      stepwire answer b7Qk2XvNf9TzLm4RcYh8Wd
      stepwire answer b7Qk2XvNf9TzLm4RcYh8Wd yes
      stepwire answer b7Qk2XvNf9TzLm4RcYh8Wd '{"amount": 12.5}' --input-id 4fe1b8d06c3a2975
    """
    with server.client() as client:
        asked = {question.input_requested.input_id: question for question in _open_questions(client, execution_id)}
        if value is None:
            _print_questions(server, execution_id, asked, as_json=as_json)
            return
        if not input_id and len(asked) > 1:
            raise click.UsageError(
                f"{len(asked)} questions are open; say which with --input-id. "
                f"They are shown by: {server.command('answer', execution_id)}"
            )
        if not input_id and not asked:
            raise InputNotRequested(f"no step of execution {execution_id} asks anything now")
        input_id = input_id or next(iter(asked))
        # What is not open the server refuses, and says why.
        requested = asked[input_id].input_requested if input_id in asked else None
        execution = client.answer(execution_id, input_id, _meant(value, requested), actor=actor())
    if as_json:
        print_json(execution_to_dict(execution))
    else:
        say(f"{execution_id} has the answer.")


def _meant(text: str, requested: InputRequested | None) -> Any:
    choice = None if requested is None else choice_of(text, requested)
    return value_of(text, requested) if choice is None else choice


def _open_questions(client: Client, execution_id: str) -> tuple[Event, ...]:
    tracker = ProgressTracker(history=0)
    for event in client.events(execution_id, kinds=_ABOUT_QUESTIONS):
        tracker.add_event(event)
    return tracker.questions


def _print_questions(server: Server, execution_id: str, asked: Mapping[str, Event], *, as_json: bool) -> None:
    if as_json:
        for question in asked.values():
            print_json(to_dict(question))
        return
    for input_id, question in asked.items():
        say("\n".join(question_lines(question)))
        say(f"  answer it: {answer_command(server, execution_id, input_id)}")
    if not asked:
        say(f"No step of {execution_id} asks anything now.")
