"""Statistics through both clients, and `stepwire stats`, against a server that plays scripts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

import stepwire
from stepwire import aio, errors
from stepwire.terminal.commands import stepwire as terminal
from stepwire.v1 import GetStatisticsResponse, OperationStatistics, PlanStatistics

from .scripted import ScriptedServer

EMPTY = GetStatisticsResponse()
FOUND = GetStatisticsResponse(
    operations=[
        OperationStatistics(
            operation="charge",
            count=1200,
            failed=30,
            failure_rate=0.025,
            retries=7,
            p50=Duration(nanos=250_000_000),
            p95=Duration(seconds=2),
            p99=Duration(seconds=75),
            mean_wait=Duration(nanos=1_000_000),
            bottleneck=900,
        ),
        OperationStatistics(operation="wipe\x1b[2J", cancelled=1),
    ],
    plans=[
        PlanStatistics(plan="", completed=2, p50=Duration(seconds=1), p95=Duration(seconds=1), p99=Duration(seconds=1)),
        PlanStatistics(
            plan="refund", completed=1000, failed=25, cancelled=3, bottleneck="charge", bottleneck_count=900
        ),
    ],
    completed_executions=1002,
    failed_executions=25,
    cancelled_executions=3,
    from_time=Timestamp(seconds=1_700_002_800),
    before_time=Timestamp(seconds=1_700_010_000),
)


def command(server: ScriptedServer, *words: str, on_terminal: bool = False) -> Result:
    env = {"TTY_COMPATIBLE": "1", "COLUMNS": "120", "NO_COLOR": "1"} if on_terminal else {"TTY_COMPATIBLE": "0"}
    return CliRunner().invoke(terminal, ["--server", server.target, "stats", *words], env=env)


@pytest.mark.parametrize("kind", ["threads", "loop"])
async def test_both_clients(server: ScriptedServer, kind: str) -> None:
    """Both clients send names and span, and return what the server says; a refusal is raised as its class."""
    server.replies("GetStatistics", EMPTY, FOUND, errors.RequestMalformed("no"))
    span = {"from_time": datetime(2023, 11, 14), "before_time": datetime(2023, 11, 15, tzinfo=UTC)}
    names = {"operations": "charge", "plans": ["refund", ""]}
    if kind == "threads":
        with stepwire.Client(server.target) as client:
            assert client.statistics() == EMPTY
            assert client.statistics(**names, **span) == FOUND
            with pytest.raises(errors.InvalidRequest):
                client.statistics()
    else:
        async with aio.Client(server.target) as looped:
            assert await looped.statistics() == EMPTY
            assert await looped.statistics(**names, **span) == FOUND
            with pytest.raises(errors.InvalidRequest):
                await looped.statistics()
    bare, full, _ = (call.request for call in server.calls)
    assert not bare.HasField("from_time")
    assert not bare.HasField("before_time")
    assert (list(full.operations), list(full.plans)) == (["charge"], ["refund", ""])
    assert (full.from_time.seconds, full.before_time.seconds) == (1_699_920_000, 1_700_006_400)


def test_lines(server: ScriptedServer) -> None:
    """Elsewhere than on a terminal there are aligned lines, and nothing that moves a terminal's cursor."""
    server.replies("GetStatistics", FOUND)
    result = command(server)
    assert result.exit_code == 0
    assert result.stdout == (
        "1,030 executions ended from 2023-11-14 23:00 to 2023-11-15 01:00 UTC: "
        "1,002 completed, 25 failed, 3 cancelled\n"
        "\n"
        "OPERATION  STEPS     FAILED  RETRIES     P50     P95     P99    WAIT  BOTTLENECK OF\n"
        "charge     1,200  30 (2.5%)        7  0.250s  2.000s  1m 15s  0.001s  900\n"
        "wipe�[2J       0          -        0       -       -       -       -  -\n"
        "\n"
        "PLAN        RUNS     FAILED  RETRIES     P50     P95     P99  WAIT  BOTTLENECK\n"
        "-              2          -        0  1.000s  1.000s  1.000s     -  -\n"
        "refund  1,025 +3  25 (0.0%)        0       -       -       -     -  charge (900)\n"
    )


def test_a_table_on_a_terminal(server: ScriptedServer) -> None:
    """On a terminal there is a table with the same texts, whatever is in the names."""
    server.replies("GetStatistics", FOUND)
    shown = command(server, on_terminal=True).stdout
    for text in ("OPERATION", "charge", "30 (2.5%)", "1m 15s", "refund", "charge (900)", "1,030 executions"):
        assert text in shown
    assert "\x1b[2J" not in shown


def test_json(server: ScriptedServer) -> None:
    """--json is one line that has what the server said."""
    server.replies("GetStatistics", FOUND)
    (line,) = command(server, "--json").stdout.splitlines()
    found = json.loads(line)
    assert found["operations"][0]["operation"] == "charge"
    assert found["operations"][0]["p99"] == 75
    assert found["plans"][1]["bottleneck_count"] == 900


@pytest.mark.parametrize(
    ("words", "has", "lacks"),
    [
        ((), {"OPERATION", "PLAN"}, set()),
        (("--operation", "a"), {"OPERATION"}, {"PLAN"}),
        (("--plan", "p"), {"PLAN"}, {"STEPS"}),
    ],
)
def test_what_is_named_is_shown(server: ScriptedServer, words: tuple[str, ...], has: set[str], lacks: set[str]) -> None:
    """Who names operations or plans sees these alone."""
    server.replies("GetStatistics", FOUND)
    shown = set(command(server, *words).stdout.split())
    assert has <= shown
    assert not lacks & shown


def test_nothing_has_ended(server: ScriptedServer) -> None:
    """Where nothing has ended, that is said, with the span that was asked for; where a name is unknown too."""
    later = GetStatisticsResponse(from_time=FOUND.from_time)
    none = GetStatisticsResponse(completed_executions=1)
    server.replies("GetStatistics", EMPTY, later, GetStatisticsResponse(before_time=FOUND.from_time), none)
    assert command(server).stdout == "No execution has ended yet.\n"
    assert command(server, "--since", "2023-11-14").stdout == "No execution has ended from 2023-11-14 23:00 UTC.\n"
    assert command(server, "--before", "2023-11-14").stdout == "No execution has ended before 2023-11-14 23:00 UTC.\n"
    assert "no such operation ran" in command(server, "--operation", "x").stdout


@pytest.mark.parametrize(("text", "span"), [("90m", 90 * 60), ("24h", 86_400), ("7d", 7 * 86_400), ("2w", 14 * 86_400)])
def test_last(server: ScriptedServer, text: str, span: int) -> None:
    """--last is a span that ends now."""
    server.replies("GetStatistics", EMPTY)
    before = datetime.now(UTC)
    command(server, "--last", text)
    sent = server.calls[0].request.from_time.ToDatetime(tzinfo=UTC)
    assert timedelta(0) <= sent - (before - timedelta(seconds=span)) < timedelta(seconds=60)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--last", "7x"), "7d"),
        (("--last", "0h"), "no span"),
        (("--last", "999999w"), "before the year 1"),
        (("--last", "1d", "--since", "2023-01-01"), "not both"),
    ],
)
def test_wrong_usage(server: ScriptedServer, words: tuple[str, ...], says: str) -> None:
    """What can't be meant is refused with what would be right, before the server is asked."""
    result = command(server, *words)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not server.calls


def test_what_is_left_out_is_said(server: ScriptedServer) -> None:
    """Damaged parts, and plans that are too many, are said to be left out."""
    found = GetStatisticsResponse()
    found.CopyFrom(FOUND)
    found.damaged_tallies, found.omitted_plans = 2, 510
    server.replies("GetStatistics", found)
    result = command(server)
    assert "and 510 plans more" in result.stdout
    assert "2 parts of the statistics are damaged" in result.stderr


def test_help(server: ScriptedServer) -> None:
    """The help teaches with examples, and says where a journal's file is looked into."""
    text = command(server, "--help").stdout
    assert "stepwire stats --last 7d" in text
    assert "stepwire-server journal stats" in text
