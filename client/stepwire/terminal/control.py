"""The commands that steer an execution: cancel, pause and resume."""

from __future__ import annotations

import os

import click

from stepwire.events import execution_to_dict, has_ended
from stepwire.terminal.options import as_json_option, server_option
from stepwire.terminal.output import print_json
from stepwire.terminal.server import Server

__all__ = ["cancel", "pause", "resume"]


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
        execution = client.cancel(execution_id, reason, actor=os.environ.get("USER", ""))
    if as_json:
        print_json(execution_to_dict(execution))
    else:
        done = "was cancelled" if has_ended(execution) else "is being cancelled"
        click.echo(f"{execution.execution_id or execution_id} {done}.")


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
        execution = client.pause(execution_id, reason, actor=os.environ.get("USER", ""))
    if as_json:
        print_json(execution_to_dict(execution))
    else:
        click.echo(f"{execution_id} is paused. Go on: {server.command('resume', execution_id)}")


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
        execution = client.resume(execution_id, reason, actor=os.environ.get("USER", ""))
    if as_json:
        print_json(execution_to_dict(execution))
    else:
        click.echo(f"{execution_id} goes on.")
