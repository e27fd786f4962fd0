"""The commands of `stepwire`, and the exit codes that they end with."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

from stepwire.client import Client, Run
from stepwire.errors import ExecutionCancelled, ExecutionFailed, StepwireError, StreamBroken
from stepwire.events import execution_to_dict, has_ended, message_to_dict
from stepwire.patience import Patience
from stepwire.terminal.live import LiveView
from stepwire.terminal.outages import OutageWatch
from stepwire.terminal.output import (
    cut,
    error_text,
    print_execution,
    print_json,
    print_operations,
    print_output,
    print_plan,
    print_table,
)
from stepwire.terminal.views import JsonView, PlainView, View
from stepwire.v1.execution_pb2 import Execution

__all__ = ["CANCELLED", "FAILED", "INTERRUPTED", "REFUSED", "stepwire"]

FAILED = 1
"""The execution failed."""
CANCELLED = 3
"""The execution was cancelled."""
REFUSED = 4
"""The server can't be reached, or refused."""
INTERRUPTED = 130
"""Ctrl-C. What runs on the server goes on."""

_PATIENCE = Patience(start_failures=4)
"""A person waits: say soon that there is no server."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Server:
    """Where the server is."""

    def __init__(self, target: str, *, given: bool) -> None:
        self.target = target
        self.given = given

    @contextlib.contextmanager
    def client(self, *, poll: bool = False) -> Iterator[Client]:
        """A client whose errors end the command with a clear text."""
        try:
            with Client(self.target, patience=_PATIENCE, delivery="poll" if poll else "auto") as client:
                yield client
        except ExecutionFailed:
            sys.exit(FAILED)
        except ExecutionCancelled:
            sys.exit(CANCELLED)
        except StreamBroken as error:
            hint = self.command("watch", error.execution_id, "--after", str(error.sequence))
            _refuse(f"{error}\n  The execution may go on. Watch it again: {hint}" if error.execution_id else str(error))
        except StepwireError as error:
            _refuse(error_text(error, server=self.target))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def command(self, *words: str) -> str:
        """Returns a command line for this server."""
        server = ["--server", self.target] if self.given else []
        return shlex.join(["stepwire", *server, *words])


def _refuse(text: str) -> NoReturn:
    click.echo(f"stepwire: {text}", err=True)
    sys.exit(REFUSED)


def _pairs(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE")
        pairs[key] = value
    return pairs


def _object(_context: click.Context, _parameter: click.Parameter, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.BadParameter("must be a JSON object")
    return value


def _plan_file(context: click.Context, parameter: click.Parameter, path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        return _object(context, parameter, sys.stdin.read() if str(path) == "-" else path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error)) from None


def _address(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Checks that an address has a host and a port, unless it is of another of gRPC's forms."""
    if text is None or re.match(r"(unix|unix-abstract|vsock|dns|ipv4|ipv6|xds):", text):
        return text
    host, separator, port = text.rpartition(":")
    if "//" in text:
        raise click.BadParameter(f"{text!r} is not of the form HOST:PORT; leave out {text.split('//')[0]}//")
    if not separator or text.endswith("]"):
        raise click.BadParameter(f"{text!r} has no port; write HOST:PORT, such as {text or 'localhost'}:50051")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise click.BadParameter(f"{text!r}: an IPv6 address stands in brackets, such as [::1]:50051")
    if not host or not port.isdecimal():
        raise click.BadParameter(f"{text!r} is not of the form HOST:PORT, such as localhost:50051")
    return text


def _other_server(context: click.Context, parameter: click.Parameter, text: str | None) -> None:
    target = _address(context, parameter, text)
    if target is not None:
        context.obj = _Server(target, given=True)


_server = click.option(
    "--server",
    metavar="HOST:PORT",
    expose_value=False,
    callback=_other_server,
    help="Where the server is, here or before the command.",
)
_poll = click.option(
    "--poll",
    is_flag=True,
    help="Ask for news again and again instead of opening a stream. For proxies that let no stream through; without it "
    "that is found out in some seconds.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
_as_plain = click.option("--plain", is_flag=True, help="Print plain lines, also on a terminal.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--server",
    metavar="HOST:PORT",
    envvar="STEPWIRE_SERVER",
    default="localhost:50051",
    show_default=True,
    show_envvar=True,
    callback=_address,
    help="Where the server is, here or after the command.",
)
@click.version_option(package_name="stepwire", prog_name="stepwire")
@click.pass_context
def stepwire(context: click.Context, server: str) -> None:
    """Runs plans of many steps on a Stepwire server and shows every step as it happens.

    \b
      stepwire run "Bauantrag für Einfamilienhaus in Stuttgart"
      stepwire ls --state RUNNING
      stepwire watch EXECUTION_ID

    Exit codes: 0 completed, 1 failed, 2 wrong usage, 3 cancelled, 4 the server can't be reached or refused, 130 Ctrl-C.
    """
    given = context.get_parameter_source("server") is click.core.ParameterSource.COMMANDLINE
    context.obj = _Server(server, given=given)


@stepwire.command()
@click.argument("query", required=False)
@click.option(
    "--plan",
    callback=_plan_file,
    type=click.Path(path_type=Path),
    help="Run the plan in this JSON file; - for standard input.",
)
@click.option("--call", metavar="NAME", help="Run this plan of the server's app.")
@click.option("--step", metavar="OPERATION", help="Run a plan of one step: this operation of the server's app.")
@click.option(
    "--input", "call_input", metavar="JSON", callback=_object, help="The input of --call or --step, a JSON object."
)
@click.option("--session", default="", help="The session that it belongs to.")
@click.option(
    "--label", "labels", metavar="KEY=VALUE", multiple=True, callback=_pairs, help="A label. Can be repeated."
)
@click.option("--request-id", help="Makes it safe to run the same command again: it shows the same execution.")
@click.option("--parallel", metavar="N", type=click.IntRange(min=1), help="Run at most N steps at once.")
@click.option("--simulate", is_flag=True, help="Run the plan without its operations.")
@click.option(
    "--time-limit", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True), help="End it after so long."
)
@click.option("--fail-fast", is_flag=True, help="Cancel the rest when a step fails.")
@click.option("--detach", is_flag=True, help="Start it, print its id, and leave.")
@_poll
@_as_plain
@_as_json
@_server
@click.pass_obj
def run(
    server: _Server,
    query: str | None,
    plan: Mapping[str, Any] | None,
    call: str | None,
    step: str | None,
    call_input: Mapping[str, Any] | None,
    session: str,
    labels: Mapping[str, str],
    request_id: str | None,
    parallel: int | None,
    simulate: bool,
    time_limit: float | None,
    fail_fast: bool,
    detach: bool,
    poll: bool,
    plain: bool,
    as_json: bool,
) -> None:
    """Runs a query, a plan, a named plan or a single operation, and shows it until it ends.

    \b
      stepwire run "Wie viel kostet ein Bauantrag in München?"
      stepwire run --plan release.json --label team=web --fail-fast
      stepwire run --call refund --input '{"order_id": "A-17"}' --json
      stepwire run --step charge --input '{"order_id": "A-17", "amount": 12.5}'

    `stepwire operations` lists the names for --call and --step.

    Ctrl-C leaves; the execution goes on.
    """
    if sum(work is not None for work in (query, plan, call, step)) != 1:
        raise click.UsageError("Give one of these: a QUERY, --plan FILE, --call NAME, --step OPERATION.")
    if call_input is not None and call is None and step is None:
        raise click.UsageError("--input goes with --call or --step.")
    if step is not None:
        plan, call_input = _plan_of_one(step, call_input), None
    request_id = secrets.token_urlsafe(16) if request_id is None else request_id
    with server.client(poll=poll) as client:
        work: dict[str, Any] = {
            "plan": plan,
            "call": call,
            "input": call_input,
            "request_id": request_id,
            "session_id": session,
            "labels": labels,
            "max_parallel_steps": parallel or 0,
            "time_limit": time_limit,
            "failure_policy": "fail_fast" if fail_fast else "continue",
            "simulate": simulate,
        }
        if detach:
            execution = client.start(query, **work)
            print_json(execution_to_dict(execution)) if as_json else click.echo(execution.execution_id)
            return
        try:
            followed = client.execute(query, history=0, **work)
        except KeyboardInterrupt:
            click.echo(f"\nInterrupted before the server answered. --request-id {request_id} finds it.", err=True)
            raise
        _show(server, followed, plain=plain, as_json=as_json)


def _plan_of_one(operation: str, step_input: Mapping[str, Any] | None) -> dict[str, Any]:
    identity = re.sub(r"[^A-Za-z0-9_-]", "-", operation)[:64] or "step"
    return {"steps": [{"id": identity, "name": operation[:200], "operation": operation, "input": step_input}]}


@stepwire.command()
@click.argument("execution_id")
@click.option("--after", metavar="N", type=click.IntRange(min=0), default=0, help="Begin after event N.")
@_poll
@_as_plain
@_as_json
@_server
@click.pass_obj
def watch(server: _Server, execution_id: str, after: int, poll: bool, plain: bool, as_json: bool) -> None:
    """Shows an execution from its beginning, or from after an event, until it ends.

    \b
      stepwire watch b7Qk2XvNf9TzLm4RcYh8Wd --after 120
    """
    with server.client(poll=poll) as client:
        _show(server, client.watch(execution_id, after_sequence=after, history=0), plain=plain, as_json=as_json)


@stepwire.command()
@click.option("--state", "states", multiple=True, help="Only of this state, such as RUNNING. Can be repeated.")
@click.option("--session", default="", help="Only of this session.")
@click.option("--label", "labels", metavar="KEY=VALUE", multiple=True, callback=_pairs, help="Only with this label.")
@click.option("--since", type=click.DateTime(), help="Only those accepted at this time (UTC) or later.")
@click.option("--before", type=click.DateTime(), help="Only those accepted before this time (UTC).")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True, help="At most N.")
@_as_json
@_server
@click.pass_obj
def ls(
    server: _Server,
    states: tuple[str, ...],
    session: str,
    labels: Mapping[str, str],
    since: Any,
    before: Any,
    limit: int,
    as_json: bool,
) -> None:
    """Lists executions, newest first.

    \b
      stepwire ls --state RUNNING --state PAUSED
      stepwire ls --session web --label team=search --limit 10
    """
    with server.client() as client:
        try:
            found = client.list(
                states=states,
                session_id=session,
                labels=labels,
                created_from=since,
                created_before=before,
                page_size=min(limit, 500),
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        rows = [execution for execution, _ in zip(found, range(limit), strict=False)]
    if as_json:
        for execution in rows:
            print_json(execution_to_dict(execution))
        return
    print_table(
        ("EXECUTION", "STATE", "DONE", "CREATED", "QUERY"),
        [
            (
                execution.execution_id,
                execution_to_dict(execution)["state"],
                f"{execution.progress.percentage:.0f}%",
                execution.create_time.ToDatetime().isoformat(" ", "seconds"),
                _work_of(execution),
            )
            for execution in rows
        ],
    )


def _work_of(execution: Execution) -> str:
    """Returns what was asked for, in one line: a list's snapshots have the query, and of a plan nothing."""
    text = " ".join(execution.query.split()) or (f"plan: {execution.plan.name}" if execution.plan.name else "-")
    return text if Console().is_terminal else cut(text, 60)


@stepwire.command()
@click.argument("execution_id")
@_as_json
@_server
@click.pass_obj
def show(server: _Server, execution_id: str, as_json: bool) -> None:
    """Shows what is known of an execution, and its output when it has one.

    \b
      stepwire show b7Qk2XvNf9TzLm4RcYh8Wd
      stepwire show b7Qk2XvNf9TzLm4RcYh8Wd --json | jq .output
    """
    with server.client() as client:
        execution = client.get(execution_id, full=as_json)
    if as_json:
        print_json(execution_to_dict(execution))
        return
    print_execution(execution)
    if execution.HasField("output"):
        from stepwire.values import to_python

        click.echo()
        print_output(to_python(execution.output), console=Console())


@stepwire.command()
@click.argument("execution_id")
@click.option("--reason", default="", help="Why. Everyone who watches sees it.")
@_as_json
@_server
@click.pass_obj
def cancel(server: _Server, execution_id: str, reason: str, as_json: bool) -> None:
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


@stepwire.command()
@click.argument("execution_id")
@click.option("--reason", default="", help="Why. Everyone who watches sees it.")
@_as_json
@_server
@click.pass_obj
def pause(server: _Server, execution_id: str, reason: str, as_json: bool) -> None:
    """Lets an execution's running steps end and no other start, until `stepwire resume`.

    \b
      stepwire pause b7Qk2XvNf9TzLm4RcYh8Wd --reason "the bank is closed"
    """
    with server.client() as client:
        execution = client.pause(execution_id, reason, actor=os.environ.get("USER", ""))
    if as_json:
        print_json(execution_to_dict(execution))
    else:
        click.echo(f"{execution_id} is paused. Go on: {server.command('resume', execution_id)}")


@stepwire.command()
@click.argument("execution_id")
@click.option("--reason", default="", help="Why. Everyone who watches sees it.")
@_as_json
@_server
@click.pass_obj
def resume(server: _Server, execution_id: str, reason: str, as_json: bool) -> None:
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


@stepwire.command()
@click.argument("query")
@_as_json
@_server
@click.pass_obj
def plan(server: _Server, query: str, as_json: bool) -> None:
    """Shows the plan that a query becomes. Runs nothing.

    \b
      stepwire plan "Unterschied zwischen GmbH und AG gründen"
      stepwire plan "Kontakt Bauamt München" --json > plan.json
    """
    with server.client() as client:
        built = client.build_plan(query)
    if as_json:
        from google.protobuf.json_format import MessageToDict

        print_json(MessageToDict(built, preserving_proto_field_name=True))
    else:
        print_plan(built)


@stepwire.command()
@_as_json
@_server
@click.pass_obj
def operations(server: _Server, as_json: bool) -> None:
    """Lists what the server can run: operations, named plans, and whether it takes queries.

    \b
      stepwire operations
    """
    with server.client() as client:
        response = client.operations()
    if as_json:
        print_json(message_to_dict(response))
    else:
        print_operations(response)


def _show(server: _Server, followed: Run, *, plain: bool, as_json: bool) -> None:
    """Shows a run to its end, and then its output. Raises what it ended with."""
    console = Console()
    view: View
    if as_json:
        view = JsonView()
    elif console.is_terminal and not plain:
        view = LiveView(console)
    else:
        view = PlainView()
    try:
        with followed, view, OutageWatch(followed, view.notice) as outages:
            for event in followed:
                outages.look()
                view.show(event)
            ended = followed.terminal is not None
            output = followed.result()
    except KeyboardInterrupt:
        identity = followed.execution_id
        click.echo(
            f"\nThe execution goes on.\n"
            f"  Watch it:  {server.command('watch', identity, '--after', str(followed.sequence))}\n"
            f"  Cancel it: {server.command('cancel', identity)}",
            err=True,
        )
        raise
    if not as_json:
        if not ended:
            click.echo("It had ended before.")
        print_output(output, console=console)
