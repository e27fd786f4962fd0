"""The command `stepwire stats`: how long things take, how often they fail, and what holds executions up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import click
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stepwire.events import message_to_dict
from stepwire.terminal.options import as_json_option, server_option
from stepwire.terminal.output import print_json
from stepwire.terminal.screen import harmless, say
from stepwire.terminal.server import Server
from stepwire.terminal.views import span_text
from stepwire.v1.execution_service_pb2 import GetStatisticsResponse, OperationStatistics, PlanStatistics

__all__ = ["stats"]

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_OPERATION_HEAD = ("OPERATION", "STEPS", "FAILED", "RETRIES", "P50", "P95", "P99", "WAIT", "BOTTLENECK OF")
_PLAN_HEAD = ("PLAN", "RUNS", "FAILED", "RETRIES", "P50", "P95", "P99", "WAIT", "BOTTLENECK")


def _span(_context: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(f"{text!r} is no span; write a number and m, h, d or w, such as 90m, 24h, 7d, 4w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command("stats")
@click.option("--last", metavar="SPAN", callback=_span, help="Only what ended in the last 90m, 24h, 7d, 4w.")
@click.option("--since", type=click.DateTime(), help="Only what ended at this time (UTC) or later.")
@click.option("--before", type=click.DateTime(), help="Only what ended before this time (UTC).")
@click.option("--operation", "operations", metavar="NAME", multiple=True, help="Only this operation. Can be repeated.")
@click.option("--plan", "plans", metavar="NAME", multiple=True, help="Only this plan. Can be repeated.")
@as_json_option
@server_option
@click.pass_obj
def stats(
    server: Server,
    last: timedelta | None,
    since: datetime | None,
    before: datetime | None,
    operations: tuple[str, ...],
    plans: tuple[str, ...],
    as_json: bool,
) -> None:
    """Shows how long steps and executions took, how often they failed, and which operation held most of them up.

    It is about executions that have ended, in whole hours. P95 is the time that 95 of 100 did not exceed; WAIT is the
    mean time between being ready and starting. An operation is the bottleneck of those executions in which one of its
    steps took the largest share of the critical path. RUNS are those that completed or failed, and behind the plus
    those that were cancelled. A step's time leaves out what it waited for people; a plan's has everything from its
    acceptance on. Times are true to within 1 %.

    \b
      stepwire stats
      stepwire stats --last 7d
      stepwire stats --operation charge --last 24h
      stepwire stats --plan refund --since 2026-01-01 --before 2026-02-01
      stepwire stats --json | jq '.operations[] | select(.failure_rate > 0.05) | .operation'

    `stepwire-server journal stats` is about a journal's file instead: its size, and what is in it.
    """
    if last is not None and since is not None:
        raise click.UsageError("Give --last or --since, not both.")
    if last is not None:
        since = _ago(last)
    with server.client() as client:
        found = client.statistics(operations=operations, plans=plans, from_time=since, before_time=before)
    if as_json:
        print_json(message_to_dict(found))
        return
    _print(found, with_operations=bool(operations) or not plans, with_plans=bool(plans) or not operations)


def _ago(span: timedelta) -> datetime:
    try:
        return datetime.now(UTC) - span
    except OverflowError:
        raise click.UsageError("--last goes back to before the year 1.") from None


def _print(found: GetStatisticsResponse, *, with_operations: bool, with_plans: bool) -> None:
    ended = found.completed_executions + found.failed_executions + found.cancelled_executions
    span = _span_text(found)
    if found.damaged_tallies:
        # What stands on standard output is read by programs, too.
        say(
            f"stepwire: {found.damaged_tallies:,} parts of the statistics are damaged and left out; the server's "
            "`stepwire-server journal check` names them",
            err=True,
        )
    if not ended:
        say(f"No execution has ended{span or ' yet'}.")
        return
    say(
        f"{ended:,} execution{'' if ended == 1 else 's'} ended{span}: {found.completed_executions:,} completed, "
        f"{found.failed_executions:,} failed, {found.cancelled_executions:,} cancelled"
        + ("" if with_operations and with_plans else " (of all plans)")
    )
    if with_operations:
        _print_table(_OPERATION_HEAD, map(_operation_row, found.operations), none="no such operation ran")
    if with_plans:
        _print_table(_PLAN_HEAD, map(_plan_row, found.plans), none="no execution of such a plan ended")
        if found.omitted_plans:
            say(f"and {found.omitted_plans:,} plans more, of which fewer executions ended; --plan NAME shows one")


def _operation_row(found: OperationStatistics) -> Sequence[str]:
    return (
        found.operation,
        f"{found.count:,}",
        _failures(found.failed, found.failure_rate),
        f"{found.retries:,}",
        *_times(found),
        f"{found.bottleneck:,}" if found.bottleneck else "-",
    )


def _plan_row(found: PlanStatistics) -> Sequence[str]:
    share = f" ({found.bottleneck_count:,})" if found.bottleneck else ""
    return (
        found.plan or "-",
        f"{found.completed + found.failed:,}" + (f" +{found.cancelled:,}" if found.cancelled else ""),
        _failures(found.failed, found.failure_rate),
        f"{found.retries:,}",
        *_times(found),
        f"{found.bottleneck or '-'}{share}",
    )


def _failures(count: int, rate: float) -> str:
    return f"{count:,} ({rate:.1%})" if count else "-"


def _times(found: OperationStatistics | PlanStatistics) -> Sequence[str]:
    spans: Iterable[tuple[str, Duration]] = (
        ("p50", found.p50),
        ("p95", found.p95),
        ("p99", found.p99),
        ("mean_wait", found.mean_wait),
    )
    return [span_text(span) if found.HasField(name) else "-" for name, span in spans]  # type: ignore[arg-type]


def _span_text(found: GetStatisticsResponse) -> str:
    if not found.HasField("from_time") and not found.HasField("before_time"):
        return ""
    begin = f" from {_time(found.from_time)}" if found.HasField("from_time") else ""
    word = "to" if begin else "before"
    return begin + (f" {word} {_time(found.before_time)}" if found.HasField("before_time") else "") + " UTC"


def _time(time: Timestamp) -> str:
    return time.ToDatetime().strftime("%Y-%m-%d %H:%M")


def _print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, none: str) -> None:
    """Prints a table: numbers to the right. Elsewhere than on a terminal as plain lines."""
    console = Console()
    shown = [[" ".join(harmless(text).split()) for text in row] for row in rows]
    say()
    if not shown:
        say(none)
    elif console.is_terminal:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for place, name in enumerate(head):
            table.add_column(name, justify="left" if place in (0, len(head) - 1) else "right", overflow="fold")
        for row in shown:
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        widths = [max(len(row[place]) for row in [head, *shown]) for place in range(len(head))]
        for line in [head, *shown]:
            cells = [
                text.ljust(width) if place in (0, len(head) - 1) else text.rjust(width)
                for place, (text, width) in enumerate(zip(line, widths, strict=True))
            ]
            say("  ".join(cells).rstrip())
