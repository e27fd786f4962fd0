"""The commands of `stepwire`."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from stepwire.events import execution_to_dict, message_to_dict
from stepwire.requests import BatchWork
from stepwire.terminal.artifacts import ArtifactFiles
from stepwire.terminal.control import actor, answer, cancel, pause, resume
from stepwire.terminal.options import (
    address_checked,
    artifacts_option,
    as_json_option,
    as_plain_option,
    json_object,
    pairs,
    plan_file,
    poll_option,
    server_option,
    works_file,
)
from stepwire.terminal.output import (
    cut,
    print_execution,
    print_json,
    print_operations,
    print_output,
    print_plan,
    print_table,
)
from stepwire.terminal.server import Server
from stepwire.terminal.showing import show_run
from stepwire.terminal.statistics import stats
from stepwire.terminal.steps import KINDS, account
from stepwire.terminal.table import KINDS as KINDS_OF_MANY
from stepwire.terminal.table import show_many, work_of
from stepwire.terminal.views import percent
from stepwire.v1.execution_pb2 import Execution

__all__ = ["stepwire"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--server",
    metavar="HOST:PORT",
    envvar="STEPWIRE_SERVER",
    default="localhost:50051",
    show_default=True,
    show_envvar=True,
    callback=address_checked,
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
    context.obj = Server(server, given=given)


@stepwire.command()
@click.argument("query", required=False)
@click.option(
    "--plan",
    callback=plan_file,
    type=click.Path(path_type=Path),
    help="Run the plan in this JSON file; - for standard input.",
)
@click.option("--call", metavar="NAME", help="Run this plan of the server's app.")
@click.option("--step", metavar="OPERATION", help="Run a plan of one step: this operation of the server's app.")
@click.option(
    "--input", "call_input", metavar="JSON", callback=json_object, help="The input of --call or --step, a JSON object."
)
@click.option("--session", default="", help="The session that it belongs to.")
@click.option("--label", "labels", metavar="KEY=VALUE", multiple=True, callback=pairs, help="A label. Can be repeated.")
@click.option("--request-id", help="Makes it safe to run the same command again: it shows the same execution.")
@click.option("--parallel", metavar="N", type=click.IntRange(min=1), help="Run at most N steps at once.")
@click.option("--simulate", is_flag=True, help="Run the plan without its operations.")
@click.option(
    "--time-limit", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True), help="End it after so long."
)
@click.option("--fail-fast", is_flag=True, help="Cancel the rest when a step fails.")
@click.option("--detach", is_flag=True, help="Start it, print its id, and leave.")
@artifacts_option
@poll_option
@as_plain_option
@as_json_option
@server_option
@click.pass_obj
def run(
    server: Server,
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
    artifacts: Path | None,
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

    On a terminal you are asked what its steps ask; elsewhere `stepwire answer` answers.

    Ctrl-C asks whether to cancel it or to leave it running, and again leaves. Without a terminal it leaves at once.
    """
    if sum(work is not None for work in (query, plan, call, step)) != 1:
        raise click.UsageError("Give one of these: a QUERY, --plan FILE, --call NAME, --step OPERATION.")
    if call_input is not None and call is None and step is None:
        raise click.UsageError("--input goes with --call or --step.")
    saved = _saved(artifacts, detach=detach)
    if step is not None:
        plan, call_input = _plan_of_one(step, call_input), None
    # An empty one would let each try be another execution.
    request_id = request_id or secrets.token_urlsafe(16)
    with server.client(poll=poll, request_id=request_id) as client:
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
        show_run(server, followed, plain=plain, as_json=as_json, artifacts=saved, begun=True)


def _saved(folder: Path | None, *, detach: bool) -> ArtifactFiles:
    if folder is not None and detach:
        raise click.UsageError("--detach leaves before there are artifacts; `stepwire watch` takes --artifacts, too.")
    return ArtifactFiles(folder)


def _plan_of_one(operation: str, step_input: Mapping[str, Any] | None) -> dict[str, Any]:
    identity = re.sub(r"[^A-Za-z0-9_-]", "-", operation)[:64] or "step"
    return {"steps": [{"id": identity, "name": operation[:200], "operation": operation, "input": step_input}]}


@stepwire.command()
@click.argument("execution_id")
@click.option("--step", "step_ids", metavar="ID", multiple=True, help="Run this step, too. Can be repeated.")
@click.option("--reason", default="", help="Why. Everyone who watches sees it.")
@click.option("--request-id", help="Makes it safe to run the same command again: it shows the same execution.")
@click.option("--detach", is_flag=True, help="Start it, print its id, and leave.")
@artifacts_option
@poll_option
@as_plain_option
@as_json_option
@server_option
@click.pass_obj
def retry(
    server: Server,
    execution_id: str,
    step_ids: tuple[str, ...],
    reason: str,
    request_id: str | None,
    detach: bool,
    artifacts: Path | None,
    poll: bool,
    plain: bool,
    as_json: bool,
) -> None:
    """Runs what did not complete in an execution that has ended, and shows it until it ends.

    It is a new execution. It keeps the outputs of the steps that completed; the others run, those that --step names,
    and all that depend on them. `stepwire show` lists an execution's steps.

    \b
      stepwire retry b7Qk2XvNf9TzLm4RcYh8Wd --reason "the bank is back"
      stepwire retry b7Qk2XvNf9TzLm4RcYh8Wd --step charge --step notify

    Ctrl-C asks whether to cancel it or to leave it running, and again leaves. Without a terminal it leaves at once.
    """
    saved = _saved(artifacts, detach=detach)
    request_id = request_id or secrets.token_urlsafe(16)
    with server.client(poll=poll, request_id=request_id) as client:
        try:
            execution = client.retry_execution(
                execution_id, step_ids=step_ids, reason=reason, actor=actor(), request_id=request_id
            )
        except KeyboardInterrupt:
            click.echo(f"\nInterrupted before the server answered. --request-id {request_id} finds it.", err=True)
            raise
        if detach:
            print_json(execution_to_dict(execution)) if as_json else click.echo(execution.execution_id)
            return
        followed = client.watch(execution.execution_id, history=0)
        show_run(server, followed, plain=plain, as_json=as_json, artifacts=saved, begun=True)


@stepwire.command()
@click.argument("works", metavar="FILE", callback=works_file, type=click.Path(path_type=Path))
@click.option("--session", default="", help="The session of those that name none.")
@click.option("--detach", is_flag=True, help="Start them, print their ids, and leave.")
@as_plain_option
@as_json_option
@server_option
@click.pass_obj
def batch(server: Server, works: Sequence[BatchWork], session: str, detach: bool, plain: bool, as_json: bool) -> None:
    """Starts several executions together, all of them or none, and shows them until all have ended.

    FILE has a JSON list (- for standard input). Each entry is a query, or an object with `query`, or `plan`, or `call`
    and `input`, and what else is to be said of it: `request_id`, `session_id`, `labels`, `time_limit` in seconds and
    others, as in Python's `client.start`.

    \b
      stepwire batch orders.json
      echo '[{"call": "refund", "input": {"order_id": "A-17"}}, {"call": "refund", "input": {"order_id": "A-18"}}]' \\
        | stepwire batch - --detach

    Exits with 1 where one failed, and else with 3 where one was cancelled. Ctrl-C leaves; what runs goes on.
    """
    with server.client(poll=False) as client:
        started = client.start_batch({"session_id": session, **work} for work in works)
        if detach:
            for execution in started:
                print_json(execution_to_dict(execution)) if as_json else click.echo(execution.execution_id)
            return
        # A table begins with what stands; lines begin with what was first.
        table = Console().is_terminal and not (plain or as_json)
        many = client.watch_executions(
            execution_ids=[execution.execution_id for execution in started],
            after_position=None if table else 0,
            kinds=() if as_json else KINDS_OF_MANY,
        )
        names = [execution.execution_id for execution in started]
        totals = show_many(server, many, plain=plain, as_json=as_json, batch=names)
    if totals.failed or totals.cancelled:
        raise click.exceptions.Exit(1 if totals.failed else 3)


@stepwire.command()
@click.argument("execution_id", required=False)
@click.option(
    "--all", "every", is_flag=True, help="Show all executions, also those that are yet to come, until Ctrl-C."
)
@click.option("--session", default="", help="With --all: only of this session.")
@click.option(
    "--label", "labels", metavar="KEY=VALUE", multiple=True, callback=pairs, help="With --all: only with this label."
)
@click.option(
    "--after", metavar="N", type=click.IntRange(min=0), help="Begin after event N; with --all after position N."
)
@artifacts_option
@poll_option
@as_plain_option
@as_json_option
@server_option
@click.pass_obj
def watch(
    server: Server,
    execution_id: str | None,
    every: bool,
    session: str,
    labels: Mapping[str, str],
    after: int | None,
    artifacts: Path | None,
    poll: bool,
    plain: bool,
    as_json: bool,
) -> None:
    """Shows an execution from its beginning, or from after an event, until it ends; or all executions at once.

    \b
      stepwire watch b7Qk2XvNf9TzLm4RcYh8Wd --after 120
      stepwire watch --all --session web
    """
    if every == (execution_id is not None):
        raise click.UsageError("Give an EXECUTION_ID, or --all.")
    if not every and (session or labels):
        raise click.UsageError("--session and --label go with --all.")
    if every and poll:
        raise click.UsageError("--all needs a stream: it can't be polled.")
    if every and artifacts is not None:
        raise click.UsageError("--artifacts goes with an EXECUTION_ID.")
    saved = ArtifactFiles(artifacts)
    with server.client(poll=poll) as client:
        if execution_id is None:
            kinds = () if as_json else KINDS_OF_MANY
            many = client.watch_executions(session_id=session, labels=labels, after_position=after, kinds=kinds)
            show_many(server, many, plain=plain, as_json=as_json, session=session, labels=labels)
            return
        followed = client.watch(execution_id, after_sequence=after or 0, history=0)
        show_run(server, followed, plain=plain, as_json=as_json, artifacts=saved)


@stepwire.command()
@click.option("--state", "states", multiple=True, help="Only of this state, such as RUNNING. Can be repeated.")
@click.option("--session", default="", help="Only of this session.")
@click.option("--label", "labels", metavar="KEY=VALUE", multiple=True, callback=pairs, help="Only with this label.")
@click.option("--since", type=click.DateTime(), help="Only those accepted at this time (UTC) or later.")
@click.option("--before", type=click.DateTime(), help="Only those accepted before this time (UTC).")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True, help="At most N.")
@as_json_option
@server_option
@click.pass_obj
def ls(
    server: Server,
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
        rows = list(itertools.islice(found, limit))
    if as_json:
        for execution in rows:
            print_json(execution_to_dict(execution))
        return
    print_table(
        ("EXECUTION", "STATE", "DONE", "CREATED", "QUERY OR PLAN"),
        [
            (
                execution.execution_id,
                _state_of(execution),
                percent(execution.progress.percentage),
                execution.create_time.ToDatetime().isoformat(" ", "seconds"),
                _work_of(execution),
            )
            for execution in rows
        ],
    )


def _state_of(execution: Execution) -> str:
    state: str = execution_to_dict(execution)["state"]
    return f"{state}, asks" if execution.open_questions else state


def _work_of(execution: Execution) -> str:
    """Returns what was asked for, in one line."""
    text = work_of(execution) or "-"
    return text if Console().is_terminal else cut(text, 60)


@stepwire.command()
@click.argument("execution_id")
@as_json_option
@server_option
@click.pass_obj
def show(server: Server, execution_id: str, as_json: bool) -> None:
    """Shows what is known of an execution, and its output when it has one.

    \b
      stepwire show b7Qk2XvNf9TzLm4RcYh8Wd
      stepwire show b7Qk2XvNf9TzLm4RcYh8Wd --json | jq .output
    """
    with server.client() as client:
        execution = client.get(execution_id, full=True)
        if as_json:
            print_json(execution_to_dict(execution))
            return
        gathered = account(execution.plan, client.events(execution_id, kinds=KINDS))
    print_execution(execution, gathered)
    if execution.HasField("output"):
        from stepwire.values import to_python

        click.echo()
        print_output(to_python(execution.output), console=Console())


@stepwire.command()
@click.argument("query")
@as_json_option
@server_option
@click.pass_obj
def plan(server: Server, query: str, as_json: bool) -> None:
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
@as_json_option
@server_option
@click.pass_obj
def operations(server: Server, as_json: bool) -> None:
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


for _command in (answer, cancel, pause, resume, stats):
    stepwire.add_command(_command)
