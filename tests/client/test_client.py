"""Both clients against a server that plays scripts: the same cases, once with threads and once with an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

import stepwire
from stepwire import aio, errors
from stepwire.aio_wire import Call as LoopedCall
from stepwire.patience import Patience
from stepwire.transport import End
from stepwire.v1 import (
    BuildPlanResponse,
    CancelExecutionResponse,
    EventBatch,
    Execution,
    GetExecutionResponse,
    GetServerInfoResponse,
    ListExecutionsResponse,
    ListOperationsResponse,
    PauseExecutionResponse,
    Plan,
    ProvideInputResponse,
    ResumeExecutionResponse,
    RetryExecutionResponse,
    StartExecutionResponse,
    Step,
    WaitExecutionResponse,
)
from stepwire.values import to_python
from stepwire.wire import Call as ThreadedCall

from .scripted import (
    EXECUTION,
    HANG,
    ScriptedServer,
    Status,
    batch,
    completed,
    draining,
    event,
    heartbeat,
    numbers,
    page,
    welcome,
)


class Threaded:
    """The synchronous client behind the surface of the asynchronous one: each call in a thread of its own."""

    def __init__(self, client: stepwire.Client) -> None:
        self._client = client

    async def read(self, run: Any, count: int | None = None) -> list[int]:
        def read() -> list[int]:
            seen: list[int] = []
            for read_event in run:
                seen.append(read_event.sequence)
                if len(seen) == count:
                    break
            return seen

        return await asyncio.to_thread(read)

    async def all(self, iterator: Any) -> list[Any]:
        return await asyncio.to_thread(list, iterator)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **keywords: Any) -> Any:
            return await asyncio.to_thread(getattr(self._client, name), *arguments, **keywords)

        return call

    async def on(self, run: Any, name: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(getattr(run, name), *arguments)


class Looped:
    """The asynchronous client."""

    def __init__(self, client: aio.Client) -> None:
        self._client = client

    async def read(self, run: Any, count: int | None = None) -> list[int]:
        seen: list[int] = []
        async for read_event in run:
            seen.append(read_event.sequence)
            if len(seen) == count:
                break
        return seen

    async def all(self, iterator: Any) -> list[Any]:
        return [item async for item in iterator]

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **keywords: Any) -> Any:
            answer = getattr(self._client, name)(*arguments, **keywords)
            return await answer if asyncio.iscoroutine(answer) else answer

        return call

    async def on(self, run: Any, name: str, *arguments: Any) -> Any:
        return await getattr(run, name)(*arguments)


Connect = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture(params=["threads", "loop"])
def connect(request: pytest.FixtureRequest, server: ScriptedServer, hasty: Patience) -> Connect:
    """Opens a client of either kind."""

    @asynccontextmanager
    async def open_client(target: str = server.target, **options: Any) -> AsyncIterator[Any]:
        options = {"patience": hasty, **options}
        if request.param == "loop":
            async with aio.Client(target, **options) as looped:
                yield Looped(looped)
        else:
            threaded = stepwire.Client(target, **options)
            try:
                yield Threaded(threaded)
            finally:
                await asyncio.to_thread(threaded.close)

    return open_client


@pytest.fixture
async def client(connect: Connect) -> AsyncIterator[Any]:
    async with connect() as opened:
        yield opened


async def left(call: Any) -> bool:
    return await asyncio.to_thread(call.left.wait, 10)


class TestStreams:
    async def test_execution(self, server: ScriptedServer, client: Any) -> None:
        """An execution gives its events, its id, its figures and its output."""
        server.plays([welcome(), numbers(1, 2, 3), batch(completed(4, {"a": 1}))])
        run = await client.execute("a question", session_id="web", labels={"a": "b"}, time_limit=timedelta(seconds=9))
        assert run.execution_id == EXECUTION
        assert await client.read(run) == [1, 2, 3, 4]
        assert await client.on(run, "result") == {"a": 1}
        assert run.tracker.is_completed
        assert run.tracker.percentage == 100
        assert run.sequence == 4
        sent = server.calls[0].request
        assert (sent.query, sent.session_id, dict(sent.labels)) == ("a question", "web", {"a": "b"})
        assert sent.options.time_limit.seconds == 9
        assert sent.request_id == run.request_id
        assert server.names() == ["Execute"]

    async def test_cut(self, server: ScriptedServer, client: Any) -> None:
        """A stream that is cut goes on after the last event, with WatchExecution."""
        server.plays(
            [welcome(), numbers(1, 2), Status(code_pb2.UNAVAILABLE)],
            [welcome(2), numbers(3), Status(code_pb2.INTERNAL)],
            [welcome(3), batch(completed(4))],
        )
        run = await client.execute("q")
        assert await client.read(run) == [1, 2, 3, 4]
        assert [(call.name, getattr(call.request, "after_sequence", None)) for call in server.calls] == [
            ("Execute", None),
            ("WatchExecution", 2),
            ("WatchExecution", 3),
        ]
        assert server.calls[1].request.execution_id == EXECUTION

    @pytest.mark.parametrize(
        "ending",
        [
            Status(code_pb2.UNAVAILABLE),
            Status(code_pb2.CANCELLED),
            Status(code_pb2.UNKNOWN),
            Status(code_pb2.INTERNAL),
            Status(code_pb2.DEADLINE_EXCEEDED),
            errors.Draining("going"),
            errors.JournalUnavailable("away"),
            errors.LimitWatchers("full", retry_after=timedelta(milliseconds=1)),
        ],
        ids=lambda ending: type(ending).__name__ + str(getattr(getattr(ending, "status", None), "code", "")),
    )
    async def test_passing_status(self, server: ScriptedServer, client: Any, ending: object) -> None:
        """A status that says nothing about the request is resumed."""
        server.plays([welcome(), numbers(1), ending], [ending], [welcome(1), batch(completed(2))])
        run = await client.execute("q")
        assert await client.read(run) == [1, 2]

    async def test_outage(self, server: ScriptedServer, client: Any) -> None:
        """A run tells anyone who asks that it is without a connection, and again when it is back."""
        let_in = threading.Event()
        server.plays(
            [welcome(), numbers(1), Status(code_pb2.UNAVAILABLE)],
            [let_in, welcome(1), numbers(2), HANG],
            [welcome(2), batch(completed(3))],
        )
        run = await client.execute("q")
        assert run.outage is None
        reading = asyncio.create_task(client.read(run, 2))
        await asyncio.to_thread(server.call, 1)
        assert (run.outage.draining, 0 <= time.monotonic() - run.outage.since < 10) == (False, True)
        let_in.set()
        assert await reading == [1, 2]
        assert run.outage is None
        assert await client.read(run) == [3]

    async def test_first_reply_lost(self, server: ScriptedServer, client: Any) -> None:
        """The work is sent again with the same request id until a first message has come."""
        server.plays(
            [Status(code_pb2.UNAVAILABLE)], [Status(code_pb2.UNAVAILABLE)], [welcome(), numbers(1), batch(completed(2))]
        )
        server.replies("StartExecution", Status(code_pb2.UNAVAILABLE))
        run = await client.execute("q")
        assert await client.read(run) == [1, 2]
        assert server.names() == ["Execute", "Execute", "StartExecution", "Execute"]
        assert len({call.request.request_id for call in server.calls}) == 1

    async def test_duplicates(self, server: ScriptedServer, client: Any) -> None:
        """An event that comes twice is given once."""
        server.plays([welcome(), numbers(1, 2), numbers(1, 2, 3), numbers(3), batch(completed(4))])
        assert await client.read(await client.execute("q")) == [1, 2, 3, 4]

    async def test_hole(self, server: ScriptedServer, client: Any) -> None:
        """Events that are missing are asked for again, never skipped."""
        server.plays([welcome(), numbers(1), numbers(3), HANG], [welcome(1), numbers(2, 3), batch(completed(4))])
        assert await client.read(await client.execute("q")) == [1, 2, 3, 4]
        assert server.calls[1].request.after_sequence == 1
        assert await left(server.calls[0])

    async def test_filtered(self, server: ScriptedServer, client: Any) -> None:
        """With a filter the ranges must join, not the events; and the filter is sent again when resuming."""
        server.plays(
            [welcome(), batch(event(3), after=0, to=7), Status(code_pb2.UNAVAILABLE)],
            [welcome(7), batch(event(9), after=8, to=9), HANG],
            [welcome(7), batch(completed(10), after=7)],
        )
        run = await client.execute("q", kinds=["step_progress"], step_ids=["s1"])
        assert await client.read(run) == [3, 10]
        assert [call.request.after_sequence for call in server.calls[1:]] == [7, 7]
        assert all(list(call.request.filter.kinds) == ["step_progress"] for call in server.calls)
        assert all(list(call.request.filter.step_ids) == ["s1"] for call in server.calls)

    async def test_unknown_kind(self, server: ScriptedServer, client: Any) -> None:
        """An event of a kind that this client does not know is given like any other."""
        server.plays([welcome(), batch(event(1, "")), batch(completed(2))])
        assert await client.read(await client.execute("q")) == [1, 2]

    async def test_ok_without_terminal(self, server: ScriptedServer, client: Any) -> None:
        """A stream that ends OK before the terminal event is watched again."""
        server.plays([welcome(), numbers(1)], [welcome(1), batch(completed(2))])
        assert await client.read(await client.execute("q")) == [1, 2]

    async def test_draining(self, server: ScriptedServer, client: Any) -> None:
        """A server that drains is left at once, for a new connection."""
        server.plays([welcome(), numbers(1), draining(1), HANG], [welcome(1), batch(completed(2))])
        assert await client.read(await client.execute("q")) == [1, 2]
        first, second = server.calls
        assert first.peer != second.peer
        assert await left(first)

    async def test_limit(self, server: ScriptedServer, client: Any) -> None:
        """A server that has no room for another watcher is asked for a stream again, until its refusal is raised."""
        full = errors.LimitWatchers("full", retry_after=timedelta(milliseconds=1))
        server.plays(*[[full]] * 9)
        server.replies("ListEvents", *[page(at=0)] * 9)
        with pytest.raises(errors.LimitWatchers):
            await client.watch(EXECUTION)
        assert server.names() == ["WatchExecution"] * 4

    async def test_unreadable_details(self, server: ScriptedServer, client: Any) -> None:
        """Details of a status that can't be read are none: the status itself is raised, and nothing waits for more."""
        garbled = Status(code_pb2.NOT_FOUND, "no such page", details=b"\xff\xff\xffnot a status")
        server.plays([garbled])
        server.replies("GetExecution", garbled)
        for call in (client.watch, client.get):
            with pytest.raises(errors.CallFailed, match="no such page") as caught:
                await asyncio.wait_for(call(EXECUTION), 5)
            assert caught.value.status_code == code_pb2.NOT_FOUND

    async def test_cursor_expired(self, server: ScriptedServer, client: Any) -> None:
        """An expired cursor is raised as its class, with what the server said."""
        gone = errors.CursorExpired("gone", metadata={"first_sequence": "10", "last_sequence": "20"})
        server.plays([welcome(), numbers(1), Status(code_pb2.UNAVAILABLE)], [gone])
        run = await client.execute("q")
        with pytest.raises(errors.CursorExpired) as caught:
            await client.read(run)
        assert caught.value.metadata["first_sequence"] == "10"

    @pytest.mark.parametrize(
        "error",
        [
            errors.PlanInvalid("no", violations=[errors.Violation("plan.steps[0]", "has a cycle")]),
            errors.ExecutionNotFound("none"),
            errors.CursorAhead("ahead"),
            errors.RequestIdReused("used"),
            errors.InternalError("id 17"),
            errors.LimitExecutions("full"),
        ],
        ids=lambda error: error.reason,
    )
    async def test_refused(self, server: ScriptedServer, client: Any, error: errors.StepwireError) -> None:
        """What the server refuses is raised by the call itself, as its class, and is not sent again."""
        server.plays([error])
        with pytest.raises(type(error)) as caught:
            await client.execute("q")
        assert caught.value.violations == error.violations
        assert len(server.calls) == 1

    async def test_silence(self, server: ScriptedServer, connect: Connect) -> None:
        """A stream that says nothing for its time is given up and watched again."""
        server.plays([HANG], [welcome(), numbers(1), batch(completed(2))])
        async with connect(timeout=0.1, delivery="stream") as client:
            assert await client.read(await client.execute("q")) == [1, 2]
        assert server.names() == ["Execute", "Execute"]

    async def test_heartbeat(self, server: ScriptedServer, client: Any) -> None:
        """A heartbeat is life, and no event; the interval is sent with the request."""
        server.plays([welcome(), heartbeat(0), heartbeat(0), numbers(1), heartbeat(1), batch(completed(2))])
        run = await client.execute("q", heartbeat_interval=0.1)
        assert await client.read(run) == [1, 2]
        assert server.calls[0].request.heartbeat_interval.nanos == 100_000_000

    async def test_start_budget(self, server: ScriptedServer, client: Any) -> None:
        """A server that stays unavailable is given up after the budget, with the status of the last try."""
        server.plays(*[[Status(code_pb2.UNAVAILABLE, "away")]] * 9)
        server.replies("StartExecution", Status(code_pb2.UNAVAILABLE, "away"))
        with pytest.raises(errors.CallFailed, match="away") as caught:
            await client.execute("q")
        assert len(server.calls) == 4
        assert server.calls[0].request.request_id in caught.value.__notes__[0]

    async def test_resume_budget(self, server: ScriptedServer, client: Any) -> None:
        """A stream that can't be resumed is raised with the place to go on from, and with its cause."""
        server.plays([welcome(), numbers(1, 2)], *[[Status(code_pb2.UNAVAILABLE, "away")]] * 9)
        server.replies("ListEvents", *[Status(code_pb2.UNAVAILABLE, "away")] * 9)
        run = await client.execute("q")
        with pytest.raises(stepwire.StreamBroken) as caught:
            await client.read(run)
        assert (caught.value.execution_id, caught.value.sequence) == (EXECUTION, 2)
        assert isinstance(caught.value.__cause__, errors.CallFailed)

    async def test_event_after_terminal(self, server: ScriptedServer, client: Any) -> None:
        """An event after the terminal one breaks the contract, and is raised."""
        server.plays([welcome(), batch(completed(1)), numbers(2)])
        run = await client.execute("q")
        with pytest.raises(stepwire.StreamBroken, match="after the terminal"):
            await client.read(run)

    async def test_nothing_left(self, server: ScriptedServer, client: Any) -> None:
        """A watch from the end of an ended execution gives nothing, and its outcome all the same."""
        first = welcome(5, state=6)
        first.execution.output.string_value = "kept"
        server.plays([first])
        run = await client.watch(EXECUTION, after_sequence=5)
        assert await client.read(run) == []
        assert await client.on(run, "result") == "kept"
        assert server.calls[0].request.after_sequence == 5

    async def test_failed(self, server: ScriptedServer, client: Any) -> None:
        """The result of a failed execution is an exception with its cause."""
        ending = event(1, "plan_failed")
        ending.plan_failed.error.CopyFrom(errors.status_from_error(errors.QueryNotUnderstood("say it otherwise")))
        server.plays([welcome(), batch(ending)])
        with pytest.raises(stepwire.ExecutionFailed, match="say it otherwise") as caught:
            await client.on(await client.execute("q"), "result")
        assert (caught.value.cause, caught.value.execution_id) == ("QUERY_NOT_UNDERSTOOD", EXECUTION)

    async def test_cancelled(self, server: ScriptedServer, client: Any) -> None:
        """The result of a cancelled execution is an exception with who and why."""
        ending = event(1, "plan_cancelled")
        ending.plan_cancelled.actor, ending.plan_cancelled.reason = "ada", "too late"
        server.plays([welcome(), batch(ending)])
        with pytest.raises(stepwire.ExecutionCancelled, match="by ada: too late"):
            await client.on(await client.execute("q"), "result")

    async def test_break(self, server: ScriptedServer, client: Any) -> None:
        """Leaving the loop ends the call at once, and another loop goes on after what was read."""
        server.plays([welcome(), numbers(1, 2, 3), HANG], [welcome(3), numbers(4), batch(completed(5))])
        run = await client.execute("q")
        assert await client.read(run, 2) == [1, 2]
        assert await left(server.calls[0])
        assert run.sequence == 1  # the second event was given; nobody has said that it was processed
        assert await client.read(run) == [3, 4, 5]
        assert server.calls[1].request.after_sequence == 3

    async def test_break_while_more_waits(self, server: ScriptedServer, client: Any) -> None:
        """Leaving the loop ends the call, too, when more messages wait than there is room for."""
        server.plays([welcome(), *[numbers(n) for n in range(1, 50)], HANG])
        run = await client.execute("q")
        assert await client.read(run, 1) == [1]
        assert await left(server.calls[0])

    async def test_close(self, server: ScriptedServer, client: Any) -> None:
        """A closed run ends its call, and says how to go on when it is read."""
        server.plays([welcome(), numbers(1), HANG])
        run = await client.execute("q")
        await client.on(run, "close")
        assert await left(server.calls[0])
        with pytest.raises(stepwire.StreamBroken, match="closed"):
            await client.on(run, "result")

    async def test_close_after_the_end(self, server: ScriptedServer, client: Any) -> None:
        """A run that was closed after its terminal event still has its result."""
        server.plays([welcome(), numbers(1), batch(completed(2, "kept")), HANG])
        run = await client.execute("q")
        assert await client.read(run, 2) == [1, 2]
        await client.on(run, "close")
        assert await client.on(run, "result") == "kept"

    async def test_silence_in_the_middle(self, server: ScriptedServer, client: Any) -> None:
        """A stream that falls silent is given up after two heartbeats and a second, for a new connection."""
        server.plays([welcome(), numbers(1), HANG], [welcome(1), batch(completed(2))])
        server.replies("ListEvents", page(at=1))
        assert await client.read(await client.execute("q", heartbeat_interval=0.1)) == [1, 2]
        assert server.names() == ["Execute", "ListEvents", "WatchExecution"]
        assert server.calls[0].peer != server.calls[2].peer
        assert server.calls[2].request.heartbeat_interval.nanos == 100_000_000

    async def test_client_close(self, server: ScriptedServer, connect: Connect) -> None:
        """Closing the client ends its streams, and a read that waits."""
        server.plays([welcome(), HANG])
        async with connect() as client:
            run = await client.execute("q")
            reading = asyncio.ensure_future(client.read(run))
            await asyncio.sleep(0)
        with pytest.raises(stepwire.StreamBroken, match="closed"):
            await reading
        assert await left(server.calls[0])

    async def test_run_is_dropped(self, server: ScriptedServer, client: Any) -> None:
        """A run that nobody holds any more ends its call."""
        server.plays([welcome(), HANG])
        run = await client.execute("q")
        del run
        assert await left(server.calls[0])

    async def test_on_event(self, server: ScriptedServer, client: Any, caplog: pytest.LogCaptureFixture) -> None:
        """on_event is told of each event, and may raise without breaking the run."""
        told: list[int] = []

        def tell(told_event: Any) -> None:
            told.append(told_event.sequence)
            raise RuntimeError("broken handler")

        server.plays([welcome(), numbers(1), batch(completed(2, 7))])
        run = await client.execute("q", on_event=tell)
        assert await client.on(run, "result") == 7
        assert told == [1, 2]
        assert "broken handler" in caplog.text

    async def test_slow_reader(self, server: ScriptedServer, client: Any) -> None:
        """More messages than there is room for wait, and none is lost."""
        server.plays([welcome(), *[numbers(n) for n in range(1, 200)], batch(completed(200))])
        assert await client.read(await client.execute("q")) == list(range(1, 201))


class TestCalls:
    async def test_start(self, server: ScriptedServer, client: Any) -> None:
        """start sends the same work as execute, with a request id."""
        server.replies("StartExecution", StartExecutionResponse(execution=Execution(execution_id=EXECUTION)))
        started = await client.start(call="refund", input={"order": 7}, simulate=True, failure_policy="fail_fast")
        assert started.execution_id == EXECUTION
        sent = server.calls[0].request
        assert sent.call.plan == "refund"
        assert sent.call.input.fields["order"].number_value == 7
        assert sent.options.simulate
        assert sent.options.failure_policy == 2
        assert len(sent.request_id) >= 20

    async def test_empty_request_id(self, server: ScriptedServer, client: Any) -> None:
        """An empty request id is none: the work gets one, so that it can be sent again without running twice."""
        server.plays([Status(code_pb2.UNAVAILABLE)], [welcome(), batch(completed(1))])
        server.replies("StartExecution", Status(code_pb2.UNAVAILABLE), StartExecutionResponse())
        assert await client.read(await client.execute("q", request_id="")) == [1]
        await client.start("q", request_id="")
        executed, again, started, restarted = [call.request.request_id for call in server.calls]
        assert executed == again != ""
        assert started == restarted not in ("", executed)

    async def test_plan(self, server: ScriptedServer, client: Any) -> None:
        """A plan is given as a message or as it stands in JSON."""
        server.replies("StartExecution", *[StartExecutionResponse()] * 2)
        await client.start(plan=Plan(steps=[Step(id="a", operation="x")]))
        await client.start(plan={"steps": [{"id": "a", "operation": "x", "depends_on": ["b"], "timeout": "3s"}]})
        assert server.calls[0].request.plan.steps[0].id == "a"
        assert server.calls[1].request.plan.steps[0].timeout.seconds == 3

    async def test_unary_retry(self, server: ScriptedServer, client: Any) -> None:
        """A unary call is sent again while the server is unavailable."""
        server.replies(
            "GetExecution",
            Status(code_pb2.UNAVAILABLE),
            errors.Draining("going"),
            GetExecutionResponse(execution=Execution(execution_id=EXECUTION)),
        )
        assert (await client.get(EXECUTION, full=True)).execution_id == EXECUTION
        assert len(server.calls) == 3
        assert server.calls[0].request.view == 2

    async def test_unary_draining(self, server: ScriptedServer, client: Any) -> None:
        """A server that is going is left for a new connection by unary calls, too, and by all calls that follow."""
        server.replies("GetServerInfo", errors.Draining("going"), *[GetServerInfoResponse()] * 2)
        await client.server_info()
        await client.server_info()
        first, second, third = [call.peer for call in server.calls]
        assert first != second == third

    async def test_unary_error(self, server: ScriptedServer, client: Any) -> None:
        """What a unary call is refused with is raised as its class, at once."""
        server.replies("GetExecution", errors.ExecutionNotFound("none"))
        with pytest.raises(errors.ExecutionNotFound):
            await client.get("x")
        assert len(server.calls) == 1

    async def test_unary_deadline(self, server: ScriptedServer, connect: Connect) -> None:
        """A unary call ends at its deadline."""
        server.replies("GetExecution", HANG)
        async with connect(timeout=0.1) as client:
            with pytest.raises(errors.CallFailed) as caught:
                await client.get("x")
        assert caught.value.status_code == code_pb2.DEADLINE_EXCEEDED

    async def test_wait(self, server: ScriptedServer, client: Any) -> None:
        """wait asks again until the execution has ended."""
        going = WaitExecutionResponse(execution=Execution(execution_id=EXECUTION, state=3))
        ended = WaitExecutionResponse(execution=Execution(execution_id=EXECUTION, state=6))
        server.replies("WaitExecution", going, going, ended)
        assert (await client.wait(EXECUTION)).state == 6
        assert len(server.calls) == 3

    async def test_wait_timeout(self, server: ScriptedServer, client: Any) -> None:
        """wait returns the snapshot so far when its time is over."""
        server.replies("WaitExecution", WaitExecutionResponse(execution=Execution(execution_id=EXECUTION, state=3)))
        assert (await client.wait(EXECUTION, timeout=0)).state == 3

    async def test_wait_while_the_server_is_away(self, server: ScriptedServer, connect: Connect) -> None:
        """wait has the patience with which a stream is resumed, not that of a single call."""
        going = WaitExecutionResponse(execution=Execution(execution_id=EXECUTION, state=3))
        ended = WaitExecutionResponse(execution=Execution(execution_id=EXECUTION, state=6))
        server.replies("WaitExecution", going, *[Status(code_pb2.UNAVAILABLE)] * 6, ended)
        patience = Patience(start_failures=2, initial_delay=0.001, max_delay=0.01)
        async with connect(patience=patience) as client:
            assert (await client.wait(EXECUTION)).state == 6
        assert len(server.calls) == 8

    async def test_wait_refused(self, server: ScriptedServer, client: Any) -> None:
        """wait raises what the server refuses, at once."""
        server.replies("WaitExecution", errors.ExecutionNotFound("none"))
        with pytest.raises(errors.ExecutionNotFound):
            await client.wait("x")
        assert len(server.calls) == 1

    async def test_list(self, server: ScriptedServer, client: Any) -> None:
        """list gives all pages, by the filter that it was asked with."""
        server.replies(
            "ListExecutions",
            ListExecutionsResponse(executions=[Execution(execution_id="a")], next_page_token="2"),
            ListExecutionsResponse(executions=[Execution(execution_id="b")]),
        )
        found = await client.all(await client.list(states=["running"], session_id="web", labels={"a": "b"}))
        assert [execution.execution_id for execution in found] == ["a", "b"]
        assert server.calls[1].request.page_token == "2"
        assert list(server.calls[1].request.filter.states) == [3]

    async def test_list_is_lazy(self, server: ScriptedServer, client: Any) -> None:
        """list asks for nothing before it is read."""
        await client.list()
        assert server.calls == []

    async def test_unknown_state(self, client: Any) -> None:
        """A state that does not exist is refused with those that do."""
        with pytest.raises(ValueError, match="RUNNING"):
            await client.list(states=["sleeping"])

    async def test_events(self, server: ScriptedServer, client: Any) -> None:
        """events reads page after page, and ends where there is no more."""
        server.replies("ListEvents", numbers(1, 2), numbers(3), EventBatch(after_sequence=3, sequence=3))
        found = await client.all(await client.events(EXECUTION))
        assert [found_event.sequence for found_event in found] == [1, 2, 3]
        assert [call.request.after_sequence for call in server.calls] == [0, 2, 3]

    async def test_events_hole(self, server: ScriptedServer, client: Any) -> None:
        """A page that does not begin where the one before ended is refused."""
        server.replies("ListEvents", numbers(1, 2), numbers(4))
        with pytest.raises(stepwire.StreamBroken, match="3 to 3 are missing"):
            await client.all(await client.events(EXECUTION))

    async def test_events_end(self, server: ScriptedServer, client: Any) -> None:
        """After the terminal event no further page is asked for."""
        server.replies("ListEvents", batch(event(1), completed(2)))
        assert len(await client.all(await client.events(EXECUTION))) == 2
        assert len(server.calls) == 1

    async def test_answer(self, server: ScriptedServer, client: Any) -> None:
        """answer, of the client and of a run, sends the answer with who gives it; what can't be sent is not sent."""
        server.replies("ProvideInput", *[ProvideInputResponse(execution=Execution(state=3))] * 2)
        assert (await client.answer(EXECUTION, "q-1", {"n": [1, None]}, actor="ada")).state == 3
        server.plays([welcome(), HANG])
        run = await client.execute("q")
        assert (await client.on(run, "answer", "q-2", "yes")).state == 3
        sent = [call.request for call in server.calls if call.name == "ProvideInput"]
        assert [(request.execution_id, request.input_id, request.actor) for request in sent] == [
            (EXECUTION, "q-1", "ada"),
            (EXECUTION, "q-2", ""),
        ]
        assert [to_python(request.value) for request in sent] == [{"n": [1, None]}, "yes"]
        with pytest.raises(stepwire.errors.InputInvalid):
            await client.answer(EXECUTION, "q-1", float("nan"))
        assert len(server.calls) == 3

    async def test_retry_execution(self, server: ScriptedServer, client: Any) -> None:
        """retry_execution sends what is named, why and who, and a request id of its own unless one is given, and gives
        the new execution; a single name is one name.
        """
        reply = RetryExecutionResponse(execution=Execution(execution_id="e-2", state=3))
        server.replies("RetryExecution", *[reply] * 3)
        found = await client.retry_execution(
            EXECUTION, step_ids=["a", "b"], reason="again", actor="ada", request_id="r-1"
        )
        assert (found.execution_id, found.state) == ("e-2", 3)
        await client.retry_execution(EXECUTION, step_ids="charge")
        await client.retry_execution(EXECUTION)
        first, second, third = (call.request for call in server.calls)
        assert (first.execution_id, list(first.step_ids)) == (EXECUTION, ["a", "b"])
        assert (first.reason, first.actor, first.request_id) == ("again", "ada", "r-1")
        assert (list(second.step_ids), list(third.step_ids)) == (["charge"], [])
        assert len({"r-1", second.request_id, third.request_id}) == 3

    async def test_retry_execution_is_sent_again(self, server: ScriptedServer, client: Any) -> None:
        """A retry whose answer was lost is sent again under the same request id; what is refused is raised."""
        reply = RetryExecutionResponse(execution=Execution(execution_id="e-2"))
        server.replies("RetryExecution", Status(code_pb2.UNAVAILABLE), reply, errors.AtMostOnce("name it"))
        assert (await client.retry_execution(EXECUTION)).execution_id == "e-2"
        assert server.calls[0].request == server.calls[1].request
        assert server.calls[0].request.request_id
        with pytest.raises(errors.AtMostOnce):
            await client.retry_execution(EXECUTION)

    async def test_others(self, server: ScriptedServer, client: Any) -> None:
        """cancel, pause, resume, build_plan, operations and server_info give what the server says."""
        server.replies("CancelExecution", CancelExecutionResponse(execution=Execution(state=5)))
        server.replies("BuildPlan", BuildPlanResponse(plan=Plan(name="p")))
        server.replies("ListOperations", ListOperationsResponse(has_planner=True))
        server.replies("GetServerInfo", GetServerInfoResponse(version="1"))
        assert (await client.cancel(EXECUTION, "late", actor="ada")).state == 5
        assert (server.calls[0].request.reason, server.calls[0].request.actor) == ("late", "ada")
        server.replies("PauseExecution", PauseExecutionResponse(execution=Execution(state=4)))
        server.replies("ResumeExecution", ResumeExecutionResponse(execution=Execution(state=3)))
        assert (await client.pause(EXECUTION, "lunch", actor="ada")).state == 4
        assert (await client.resume(EXECUTION, "back", actor="ada")).state == 3
        assert [call.request.reason for call in server.calls[1:3]] == ["lunch", "back"]
        assert {call.request.actor for call in server.calls[1:3]} == {"ada"}
        assert (await client.build_plan("q")).name == "p"
        assert (await client.operations()).has_planner
        assert (await client.server_info()).version == "1"

    @pytest.mark.parametrize(
        ("act", "reply"),
        [
            ("cancel", CancelExecutionResponse(execution=Execution(state=5))),
            ("pause", PauseExecutionResponse(execution=Execution(state=4))),
            ("resume", ResumeExecutionResponse(execution=Execution(state=3))),
        ],
        ids=["cancel", "pause", "resume"],
    )
    async def test_run_control(self, server: ScriptedServer, client: Any, act: str, reply: Any) -> None:
        """A run cancels, pauses and resumes its own execution."""
        server.plays([welcome(), HANG])
        server.replies(f"{act.title()}Execution", reply)
        run = await client.execute("q")
        assert (await client.on(run, act, "enough")).state == reply.execution.state
        assert server.calls[1].request.execution_id == EXECUTION
        assert server.calls[1].request.reason == "enough"

    @pytest.mark.parametrize("work", [{}, {"query": "q", "call": "c"}, {"query": "q", "input": {}}])
    async def test_wrong_work(self, client: Any, work: dict[str, Any]) -> None:
        """Exactly one kind of work is given, and input goes with call."""
        with pytest.raises(TypeError):
            await client.start(**work)

    async def test_a_plan_is_no_query(self, client: Any) -> None:
        """A plan that is given as the query is refused with how to give it."""
        with pytest.raises(TypeError, match=r"plan=\.\.\."):
            await client.start(Plan(steps=[Step(id="a", operation="b")]))


class TestServerGoes:
    async def test_restart(self, server: ScriptedServer, connect: Connect) -> None:
        """A server that stops and comes back at the same place is found again."""
        server.plays([welcome(), numbers(1), HANG])
        patience = Patience(initial_delay=0.02, max_delay=0.1)
        async with connect(patience=patience) as client:
            run = await client.execute("q")
            assert await client.read(run, 1) == [1]
            await asyncio.to_thread(server.stop)
            reading = asyncio.ensure_future(client.read(run))
            await asyncio.sleep(0)
            again = ScriptedServer(port=server.port)
            again.plays([welcome(1), batch(completed(2))])
            assert await reading == [2]
            again.stop()

    async def test_nobody_there(self, server: ScriptedServer, connect: Connect) -> None:
        """Where there is no server, the call says so after its budget."""
        await asyncio.to_thread(server.stop)
        async with connect() as client:
            with pytest.raises(errors.CallFailed) as caught:
                await client.execute("q")
            assert caught.value.status_code == code_pb2.UNAVAILABLE
            with pytest.raises(errors.CallFailed):
                await client.get("x")

    async def test_credentials(self, connect: Connect) -> None:
        """A client with credentials speaks to a server that wants them."""
        guarded = ScriptedServer(credentials=grpc.local_server_credentials())
        guarded.plays([welcome(), batch(completed(1))])
        async with connect(guarded.target, credentials=grpc.local_channel_credentials()) as client:
            assert await client.read(await client.execute("q")) == [1]
        guarded.stop()

    async def test_close_while_waiting_to_resume(self, server: ScriptedServer, connect: Connect) -> None:
        """Closing ends a wait before the next try, too."""
        server.plays([welcome(), Status(code_pb2.UNAVAILABLE)])
        async with connect(patience=Patience(initial_delay=1000, max_delay=1000, resume_seconds=10_000)) as client:
            run = await client.execute("q")
            reading = asyncio.ensure_future(client.read(run))
            assert await left(server.calls[0])
        with pytest.raises(stepwire.StreamBroken, match="closed"):
            await reading


class TestThreads:
    def test_exception_in_loop(self, server: ScriptedServer, hasty: Patience) -> None:
        """An exception in the loop ends the call at once, while the run still exists."""
        server.plays([welcome(), numbers(1), HANG])
        with stepwire.Client(server.target, patience=hasty) as client:
            run = client.execute("q")

            def read() -> None:
                for _ in run:
                    raise KeyError

            with pytest.raises(KeyError):
                read()
            assert server.calls[0].left.wait(10)

    def test_next(self, server: ScriptedServer, hasty: Patience) -> None:
        """A run is an iterator: next gives one event, and moves the cursor over the one before."""
        server.plays([welcome(), numbers(1, 2), batch(completed(3))])
        with stepwire.Client(server.target, patience=hasty) as client, client.execute("q") as run:
            assert next(run).sequence == 1
            assert run.sequence == 0
            assert next(run).sequence == 2
            assert run.sequence == 1
            assert next(run).sequence == 3
            with pytest.raises(StopIteration):
                next(run)

    def test_coroutine_handler(self, server: ScriptedServer, hasty: Patience) -> None:
        """A coroutine function as handler is refused where there is no event loop."""

        async def handler(_event: Any) -> None: ...

        with stepwire.Client(server.target, patience=hasty) as client, pytest.raises(TypeError, match="aio"):
            client.execute("q", on_event=handler)
        assert server.calls == []

    def test_client_in_many_threads(self, server: ScriptedServer, hasty: Patience) -> None:
        """One client serves many threads at once."""
        server.plays(*[[welcome(), numbers(1, 2), batch(completed(3))]] * 8)
        seen: list[list[int]] = []
        with stepwire.Client(server.target, patience=hasty) as client:

            def follow() -> None:
                seen.append([read.sequence for read in client.execute("q")])

            threads = [threading.Thread(target=follow) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert seen == [[1, 2, 3]] * 8

    def test_close_while_the_box_is_full(self) -> None:
        """A call whose thread waits for room ends all the same."""
        full = threading.Event()
        cancelled = threading.Event()

        class Endless:
            def __iter__(self) -> Iterator[EventBatch]:
                yield from [EventBatch()] * 4
                full.set()
                yield EventBatch()

            def cancel(self) -> None:
                cancelled.set()

        call = ThreadedCall(Endless(), None, release=lambda: None)
        assert full.wait(10)
        call.close()
        assert cancelled.is_set()

    def test_closed_client(self, server: ScriptedServer) -> None:
        """A closed client says so."""
        client = stepwire.Client(server.target)
        client.close()
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.get("x")


class TestLoop:
    async def test_next(self, server: ScriptedServer, hasty: Patience) -> None:
        """A run is an async iterator: anext gives one event, and moves the cursor over the one before."""
        server.plays([welcome(), numbers(1), batch(completed(2))])
        async with aio.Client(server.target, patience=hasty) as client, await client.execute("q") as run:
            assert (await anext(run)).sequence == 1
            assert run.sequence == 0
            assert (await anext(run)).sequence == 2
            with pytest.raises(StopAsyncIteration):
                await anext(run)

    async def test_close_while_the_queue_is_full(self) -> None:
        """A call whose task waits for room, not for the call, is cancelled too."""
        full = asyncio.Event()
        cancelled = asyncio.Event()
        reads = iter(range(100))

        class Endless:
            async def read(self) -> EventBatch:
                if next(reads) == 4:
                    full.set()
                return EventBatch()

            def cancel(self) -> None:
                cancelled.set()

        call = LoopedCall(Endless(), None, release=lambda: None)
        await full.wait()
        await call.close()
        assert cancelled.is_set()

    async def test_garbled_message(self) -> None:
        """A message that can't be read ends the call, as with threads, instead of leaving its reader to wait."""

        class Garbled:
            async def read(self) -> EventBatch:
                return EventBatch.FromString(b"\xff\xff\xff")

            def cancel(self) -> None: ...

        call = LoopedCall(Garbled(), None, release=lambda: None)
        end = await call.get(10)
        assert isinstance(end, End)
        assert isinstance(end.error, errors.CallFailed)
        assert end.error.status_code == code_pb2.INTERNAL
        await call.close()

    async def test_closed_client(self, server: ScriptedServer) -> None:
        """A closed client says so."""
        client = aio.Client(server.target)
        await client.close()
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await client.execute("q")

    async def test_no_task_is_left(self, server: ScriptedServer, hasty: Patience) -> None:
        """A loop that is left leaves no task behind."""
        server.plays([welcome(), *[numbers(n) for n in range(1, 50)], HANG])
        async with aio.Client(server.target, patience=hasty) as client:
            async for _ in await client.execute("q"):
                break
        assert [task for task in asyncio.all_tasks() if task.get_name() == "stepwire-read"] == []

    async def test_exception_in_loop(self, server: ScriptedServer, hasty: Patience) -> None:
        """An exception in the loop ends the call at once, while the run still exists."""
        server.plays([welcome(), numbers(1), HANG])
        async with aio.Client(server.target, patience=hasty) as client:
            run = await client.execute("q")

            async def read() -> None:
                async for _ in run:
                    raise KeyError

            with pytest.raises(KeyError):
                await read()
            assert await left(server.calls[0])

    async def test_cancelled_task(self, server: ScriptedServer, hasty: Patience) -> None:
        """A task that is cancelled while it waits for an event ends its call."""
        server.plays([welcome(), HANG])
        async with aio.Client(server.target, patience=hasty) as client:
            run = await client.execute("q")

            async def read() -> None:
                async for _ in run:
                    pass

            task = asyncio.create_task(read())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await left(server.calls[0])

    async def test_coroutine_handler(self, server: ScriptedServer, hasty: Patience) -> None:
        """A coroutine function as handler is awaited."""
        told: list[int] = []

        async def handler(told_event: Any) -> None:
            await asyncio.sleep(0)
            told.append(told_event.sequence)

        server.plays([welcome(), numbers(1), batch(completed(2))])
        async with aio.Client(server.target, patience=hasty) as client:
            await (await client.execute("q", on_event=handler)).result()
        assert told == [1, 2]


class TestPolling:
    async def test_streams_refused(self, server: ScriptedServer, client: Any) -> None:
        """Where streams are refused on the way, the same events come by pages, and the run says that it polls."""
        server.plays([Status(code_pb2.UNIMPLEMENTED)])
        started = StartExecutionResponse(execution=Execution(execution_id=EXECUTION))
        server.replies("StartExecution", started)
        server.replies("ListEvents", page(event(1), event(2)), page(event(3), completed(4, "kept")))
        server.replies("WaitExecution", WaitExecutionResponse(execution=Execution(state=6, as_of_sequence=4)))
        run = await client.execute("q", labels={"a": "b"}, kinds=["step_progress"])
        assert await client.read(run, 1) == [1]
        assert run.outage.polling
        assert await client.read(run) == [2, 3, 4]
        assert await client.on(run, "result") == "kept"
        assert server.names() == ["Execute", "StartExecution", "ListEvents", "WaitExecution", "ListEvents"]
        first, second, *_ = [call.request for call in server.calls]
        assert (first.request_id, dict(first.labels)) == (second.request_id, dict(second.labels))
        pages = [call.request for call in server.calls if call.name == "ListEvents"]
        assert [request.after_sequence for request in pages] == [0, 2]
        assert all(list(request.filter.kinds) == ["step_progress"] for request in pages)

    async def test_chosen(self, server: ScriptedServer, connect: Connect) -> None:
        """With delivery="poll" no stream is opened, and nothing is told as an outage."""
        server.replies("ListEvents", page(event(1)), page(completed(2)))
        server.replies("WaitExecution", WaitExecutionResponse(execution=Execution(state=6, as_of_sequence=2)))
        async with connect(delivery="poll") as client:
            run = await client.watch(EXECUTION)
            assert await client.read(run) == [1, 2]
            assert run.outage is None
        assert server.names() == ["ListEvents", "WaitExecution", "ListEvents"]

    async def test_page_that_does_not_come(self, server: ScriptedServer, connect: Connect) -> None:
        """A page that does not come in time is asked for again with fewer events in it."""
        server.replies("ListEvents", HANG, page(completed(1)))
        async with connect(delivery="poll", timeout=0.3) as client:
            assert await client.read(await client.watch(EXECUTION)) == [1]
        assert [call.request.page_size for call in server.calls] == [0, 128]

    async def test_closed_while_it_asks(self, server: ScriptedServer, connect: Connect) -> None:
        """Closing a run ends the question that it waits for."""
        server.replies("ListEvents", page(event(1)))
        server.replies("WaitExecution", HANG)
        async with connect(delivery="poll") as client:
            run = await client.watch(EXECUTION)
            reading = asyncio.ensure_future(client.read(run))
            asked = await asyncio.to_thread(server.call, 1)
            await client.on(run, "close")
            assert await left(asked)
            with pytest.raises(stepwire.StreamBroken, match="closed"):
                await reading

    async def test_unknown_delivery(self, connect: Connect) -> None:
        """A delivery that does not exist is refused with those that do."""
        with pytest.raises(ValueError, match="auto, stream, poll"):
            async with connect(delivery="pigeon"):
                pass


class TestTransport:
    """What grpc needs to be told, and what must not be asked of it."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 131_072),
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.http2.ping_timeout_ms", 5_000),
            ("grpc.http2.max_pings_without_data", 0),
        ],
    )
    @pytest.mark.parametrize("kind", ["threads", "loop"])
    async def test_channel(
        self, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, value: int
    ) -> None:
        """Every channel is made with the arguments that gRPC's defaults are wrong for, and without an interceptor."""
        module = grpc if kind == "threads" else grpc.aio
        made, make = [], module.insecure_channel

        def noting(target: str, options: Any = None, **more: Any) -> Any:
            made.append((dict(options), more))
            return make(target, options=options, **more)

        monkeypatch.setattr(module, "insecure_channel", noting)
        if kind == "threads":
            threaded = stepwire.Client(server.target)
            with pytest.raises(errors.CallFailed):
                await asyncio.to_thread(threaded.get, "x")
            await asyncio.to_thread(threaded.close)
        else:
            async with aio.Client(server.target) as looped:
                with pytest.raises(errors.CallFailed):
                    await looped.get("x")
        assert [(options[name], more) for options, more in made] == [(value, {})]

    async def test_a_call_that_waits_too_long_for_a_message(self, server: ScriptedServer, connect: Connect) -> None:
        """Waiting for a message can end without ending the call: what comes after the wait is still given."""
        let_on = threading.Event()
        server.plays([welcome(), let_on, numbers(1), batch(completed(2))])
        async with connect() as client:
            run = await client.execute("q")
            waited = await asyncio.to_thread(run._call.get, 0.05) if hasattr(run, "__next__") else None
            if not hasattr(run, "__next__"):
                waited = await run._call.get(0.05)
            assert waited is None
            let_on.set()
            assert await client.read(run) == [1, 2]
        assert server.names() == ["Execute"]

    async def test_resuming_waits_for_the_connection(self, server: ScriptedServer, connect: Connect) -> None:
        """A stream that is resumed waits for the connection within its deadline, instead of failing again and again."""
        server.plays([welcome(), numbers(1), HANG])
        async with connect(patience=Patience(resume_failures=3, initial_delay=0.01, max_delay=0.01)) as client:
            run = await client.execute("q")
            assert await client.read(run, 1) == [1]
            reading = asyncio.ensure_future(client.read(run))
            await asyncio.to_thread(server.stop)
            # Three calls that fail at once would have spent the patience long before.
            done, _ = await asyncio.wait([reading], timeout=0.5)
            assert not done
            again = ScriptedServer(port=server.port)
            again.plays([welcome(1), batch(completed(2))])
            assert await reading == [2]
            again.stop()
