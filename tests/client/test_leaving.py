"""How runs and clients are left in the middle, where there is an event loop: nothing stays behind, and nobody hangs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.rpc import code_pb2

import stepwire
from stepwire import aio
from stepwire.patience import Patience
from stepwire.v1 import Execution, ExecutionState, GetExecutionResponse, WaitExecutionResponse
from stepwire.wire import Call as ThreadedCall
from stepwire.wire import Link, pause

from .scripted import HANG, Call, ScriptedServer, Status, batch, completed, draining, numbers, welcome


@pytest.fixture
async def client(server: ScriptedServer, hasty: Patience) -> AsyncIterator[aio.Client]:
    opened = aio.Client(server.target, patience=hasty)
    yield opened
    await asyncio.wait_for(opened.close(), 10)


async def left(call: Call) -> bool:
    return await asyncio.to_thread(call.left.wait, 10)


async def read(run: Any, seen: list[int] | None = None) -> None:
    async for event in run:
        if seen is not None:
            seen.append(event.sequence)


class Gate:
    """Holds up what opens a call, before it does."""

    def __init__(self, client: aio.Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        monkeypatch.setattr(client._wire, "_close_idle", self._wait)

    async def _wait(self) -> None:
        self.reached.set()
        await self.open.wait()


class TestClosing:
    async def test_a_run_that_opens(
        self, server: ScriptedServer, client: aio.Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run that is closed while it opens its next call ends that one too."""
        server.plays([welcome(), draining(0), HANG], [welcome(), HANG])
        run = await client.watch("e-1")
        gate = Gate(client, monkeypatch)
        reading = asyncio.create_task(read(run))
        await asyncio.wait_for(gate.reached.wait(), 10)
        await run.close()
        gate.open.set()
        with pytest.raises(stepwire.StreamBroken, match="closed"):
            await reading
        assert run._call is None
        assert [task for task in asyncio.all_tasks() if task.get_name() == "stepwire-read"] == []

    async def test_a_client_whose_run_opens(
        self, server: ScriptedServer, client: aio.Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client can be closed while a run opens its next call, and the run says that it was closed."""
        server.plays([welcome(), draining(0), HANG])
        run = await client.watch("e-1")
        gate = Gate(client, monkeypatch)
        reading = asyncio.create_task(read(run))
        await asyncio.wait_for(gate.reached.wait(), 10)
        await asyncio.wait_for(client.close(), 10)
        gate.open.set()
        with pytest.raises(stepwire.StreamBroken, match="closed"):
            await reading
        assert server.names() == ["WatchExecution"]

    async def test_a_call_under_way(self, server: ScriptedServer, client: aio.Client) -> None:
        """A call of a client that is closed says so: its task was not cancelled."""
        server.replies("GetExecution", HANG)
        asking = asyncio.create_task(client.get("e-1"))
        await asyncio.to_thread(server.call, 0)
        await client.close()
        with pytest.raises(RuntimeError, match="client is closed"):
            await asking

    async def test_a_task_that_is_cancelled(self, server: ScriptedServer, client: aio.Client) -> None:
        """A task that is cancelled while it calls is cancelled, whatever happens to the client."""
        server.replies("GetExecution", HANG)
        asking = asyncio.create_task(client.get("e-1"))
        await asyncio.to_thread(server.call, 0)
        asking.cancel()
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await asking


class TestHandlers:
    async def test_a_reader_is_cancelled_while_on_event_runs(self, server: ScriptedServer, client: aio.Client) -> None:
        """An event whose handler was cancelled with the reader has not been given, and comes again."""
        server.plays([welcome(), numbers(1, 2), batch(completed(3))])
        told: list[int] = []
        begun = asyncio.Event()

        async def handler(event: Any) -> None:
            told.append(event.sequence)
            if told == [1, 2]:
                begun.set()
                await asyncio.Event().wait()

        run = await client.watch("e-1", on_event=handler)
        assert (await anext(run)).sequence == 1
        reading = asyncio.ensure_future(anext(run))
        await asyncio.wait_for(begun.wait(), 10)
        reading.cancel()
        await asyncio.wait({reading})
        assert run.sequence == 1
        assert [event.sequence async for event in run] == [2, 3]
        assert told == [1, 2, 2, 3]
        assert run.tracker.event_count == 3


class TestLoops:
    async def test_the_task_ends_by_itself(self, server: ScriptedServer, client: aio.Client) -> None:
        """The task of a call that is left is not cancelled: gRPC would keep 100 bytes of each."""
        server.plays([welcome(), numbers(1), HANG])
        run = await client.watch("e-1")
        assert run._call is not None
        task = run._call.task
        async for _ in run:
            break
        await asyncio.wait_for(asyncio.wait({task}), 10)
        assert not task.cancelled()

    async def test_left_by_an_exception_that_is_kept(self, server: ScriptedServer, client: aio.Client) -> None:
        """A loop that an exception ends while it waits ends its call at once, whoever holds the exception."""
        server.plays([welcome(), HANG])
        run = await client.watch("e-1")
        reading = asyncio.create_task(read(run))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
        assert await left(server.calls[0])
        assert reading.cancelled()

    async def test_an_old_loop_leaves_a_new_one_alone(self, server: ScriptedServer, client: aio.Client) -> None:
        """A loop that is dropped late does not end the call that another one reads by then."""
        server.plays([welcome(), numbers(1), numbers(2), batch(completed(3)), HANG])
        run = await client.watch("e-1")
        first = aiter(run)
        assert (await anext(first)).sequence == 1
        second = aiter(run)
        assert (await anext(second)).sequence == 2
        del first
        assert (await anext(second)).sequence == 3
        assert server.names() == ["WatchExecution"]

    async def test_a_reader_that_is_interrupted_gives_up(self, server: ScriptedServer) -> None:
        """A reader that is interrupted again and again learns that the server does not answer any more."""
        server.plays([welcome(), HANG], *[[HANG]] * 100)

        async def read_on(run: aio.Run) -> None:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await read(run)

        async with aio.Client(server.target, patience=Patience(resume_seconds=0.1), delivery="stream") as client:
            run = await client.watch("e-1")
            with pytest.raises(stepwire.StreamBroken, match="Gave up: "):
                await asyncio.wait_for(read_on(run), 20)

    async def test_a_run_is_collected_in_another_thread(self, server: ScriptedServer, client: aio.Client) -> None:
        """A run that is collected in another thread than its loop's ends its call all the same."""

        class Page:
            run: aio.Run

            def seen(self, _event: Any) -> None: ...

        asyncio.get_running_loop().set_debug(True)  # says where something is done in the wrong thread
        server.plays([welcome(), HANG])
        gc.disable()
        try:
            page = Page()
            page.run = await client.watch("e-1", on_event=page.seen)
            del page
            thread = threading.Thread(target=gc.collect)
            thread.start()
            await asyncio.to_thread(thread.join, 10)
        finally:
            gc.enable()
        assert await left(server.calls[0])


def test_an_old_loop_leaves_a_new_one_alone(server: ScriptedServer, hasty: Patience) -> None:
    """With threads, too, a loop that is dropped late does not end the call that another one reads by then."""
    server.plays([welcome(), numbers(1), numbers(2), batch(completed(3)), HANG])
    with stepwire.Client(server.target, patience=hasty) as client:
        run = client.watch("e-1")
        first = iter(run)
        assert next(first).sequence == 1
        second = iter(run)
        assert next(second).sequence == 2
        del first
        assert next(second).sequence == 3
    assert server.names() == ["WatchExecution"]


def test_a_handler_is_interrupted(server: ScriptedServer, hasty: Patience) -> None:
    """With threads an event whose handler was interrupted comes again, too."""
    server.plays([welcome(), numbers(1, 2), batch(completed(3))])
    told: list[int] = []

    def handler(event: Any) -> None:
        told.append(event.sequence)
        if told == [1, 2]:
            raise KeyboardInterrupt

    with stepwire.Client(server.target, patience=hasty) as client:
        run = client.watch("e-1", on_event=handler)
        assert next(run).sequence == 1
        with pytest.raises(KeyboardInterrupt):
            next(run)
        assert [event.sequence for event in run] == [2, 3]
    assert told == [1, 2, 2, 3]


class _Silent:
    """A call in which nothing comes until it is cancelled."""

    def __init__(self) -> None:
        self._left = threading.Event()

    def __iter__(self) -> _Silent:
        return self

    def __next__(self) -> Any:
        self._left.wait(20)
        raise StopIteration

    def cancel(self) -> None:
        self._left.set()


def test_the_time_away_begins_when_a_loop_is_left(
    server: ScriptedServer, hasty: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state machine is told when the loop was left, not when somebody came back."""
    server.plays([welcome(), numbers(1), HANG], [welcome(), numbers(2), batch(completed(3))])
    with stepwire.Client(server.target, patience=hasty) as client:
        run = client.watch("e-1")
        for _ in run:
            break
        left = time.monotonic()
        told: list[float] = []
        suspend = run._resumption.suspend
        monkeypatch.setattr(run._resumption, "suspend", lambda since: [told.append(since), suspend(since)])
        assert [event.sequence for event in run] == [2, 3]
    assert told[0] <= left


def test_the_main_thread_looks_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits in the main thread looks up twice a second: a Ctrl-C that came just before does not end the wait."""
    rpc = _Silent()
    call = ThreadedCall(rpc, Link(None), release=lambda: None)  # type: ignore[arg-type]
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        call._closed = True

    monkeypatch.setattr(call._changed, "wait", wait)
    assert call.get(30) is None
    call._closed = False
    other = threading.Thread(target=call.get, args=(30,))
    other.start()
    other.join(20)
    rpc.cancel()
    call._thread.join(20)
    assert waits == [0.5, pytest.approx(30, abs=5)]


def test_the_main_thread_looks_up_between_two_tries() -> None:
    """The wait between two tries is in slices of half a second in the main thread, and ends where it is woken."""
    waits: list[float] = []

    class Woken(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waits.append(timeout)
            if len(waits) % 2 == 0:
                self.set()
            return False

    assert pause(30, Woken())
    other = threading.Thread(target=pause, args=(30, Woken()))
    other.start()
    other.join(20)
    assert waits == [0.5, 0.5, pytest.approx(30, abs=5), pytest.approx(30, abs=5)]


@pytest.mark.parametrize("kind", ["run", "call", "wait"])
def test_all_tries_wait_so(kind: str, server: ScriptedServer, hasty: Patience, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run, a call and a client's wait all use the wait that hears Ctrl-C."""
    waits: list[float] = []

    def noted(seconds: float, woken: threading.Event | None = None) -> bool:
        waits.append(seconds)
        return False

    monkeypatch.setattr("stepwire.client.pause", noted)
    monkeypatch.setattr("stepwire.reader.pause", noted)
    monkeypatch.setattr("stepwire.client.random.random", lambda: 1.0)
    away = Status(code_pb2.UNAVAILABLE)
    ended = Execution(execution_id="e-1", state=ExecutionState.EXECUTION_STATE_COMPLETED)
    server.replies("GetExecution", away, GetExecutionResponse(execution=ended))
    server.replies("WaitExecution", away, WaitExecutionResponse(execution=ended))
    server.plays([welcome(), away], [batch(completed(1))])
    with stepwire.Client(server.target, patience=hasty) as client:
        if kind == "run":
            assert [event.sequence for event in client.watch("e-1")] == [1]
        else:
            assert {"call": client.get, "wait": client.wait}[kind]("e-1") == ended
    assert waits == [pytest.approx(0.001, rel=0.9)]
