"""Everybody who calls the server of the soak: each session is one kind of caller, and notes what it saw.

What a session expects of the server is in its code: a status that it does not expect goes into `odd`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
from google.protobuf.message import Message
from tests.e2e.proxy import Proxy

import stepwire
import stepwire.aio
from stepwire.errors import StepwireError
from stepwire.requests import METHODS
from stepwire.resume import Patience
from stepwire.transport import channel_options, error_from_call
from stepwire.v1 import (
    BuildPlanRequest,
    CancelExecutionRequest,
    ExecuteRequest,
    Execution,
    GetExecutionRequest,
    GetServerInfoRequest,
    ListEventsRequest,
    ListExecutionsRequest,
    Plan,
    Retry,
    StartExecutionRequest,
    WaitExecutionRequest,
    WatchExecutionRequest,
)
from stepwire_server import plan_step

from .history import History, Reading, Reply
from .kill_loop import random_plan

__all__ = ["Callers"]

_THREADS = 4
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
_OLD = 4_000
"""Executions whose ids are remembered, to ask for them when they are long gone."""

Session = Callable[[random.Random, History], Awaitable[None]]


class Callers:
    """The sessions, and the connections that they share. Lives in one event loop."""

    def __init__(self, address: str) -> None:
        self.statuses: Counter[str] = Counter()
        """What calls and streams ended with."""
        self.odd: Counter[str] = Counter()
        """What was not expected."""
        self._address = address
        self._channel = self._connect()
        patience = Patience(resume_failures=100, max_delay=0.2)
        self._patience = patience
        self._client = stepwire.aio.Client(address, patience=patience)
        self._blocking = stepwire.Client(address, patience=patience)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="blocking")
        self._old: deque[str] = deque(maxlen=_OLD)
        self.mix: Mapping[str, tuple[int, Session]] = {
            "executes, to the end": (6, self._executes),
            "client of ours, to the end": (5, self._reads),
            "client of ours, left in mid-stream": (6, self._leaves),
            "blocking client": (4, self._blocks),
            "call cancelled in mid-stream": (6, self._drops),
            "channel closed in mid-stream": (3, self._closes),
            "connection reset in mid-stream": (3, self._is_reset),
            "deadline": (6, self._runs_late),
            "duplicates": (4, self._repeats),
            "cancels": (5, self._cancels),
            "steps that hang and fail": (4, self._hangs),
            "bad input": (8, self._errs),
            "unary calls": (5, self._asks),
            "unwatched": (3, self._abandons),
            "purged ones": (4, self._digs),
            "stalled": (2, self._stalls),
            "half a connection": (4, self._knocks),
        }
        """Each kind of session with its weight."""

    async def close(self) -> None:
        await self._client.close()
        await self._channel.close()
        self._blocking.close()
        await asyncio.to_thread(self._threads.shutdown)

    # -- to the end

    async def _executes(self, chance: random.Random, history: History) -> None:
        execution_id = await self._stream(history, "raw", request=_request(chance))
        await self._read_again(chance, history, execution_id)

    async def _reads(self, chance: random.Random, history: History) -> None:
        run = await self._client.execute(plan=random_plan(chance))
        await self._read(history, "client", run)

    async def _leaves(self, chance: random.Random, history: History) -> None:
        run = await self._client.execute(plan=random_plan(chance))
        seen = await self._read(history, "client", run, most=chance.randint(1, 30))
        if chance.random() < 0.5:
            again = await self._client.watch(run.execution_id, after_sequence=seen)
            await self._read(history, "client again", again, after=seen)

    async def _blocks(self, chance: random.Random, history: History) -> None:
        most = chance.choice([None, None, chance.randint(1, 20)])
        plan = random_plan(chance)

        def read() -> None:
            run = self._blocking.execute(plan=plan)
            self._old.append(run.execution_id)
            reading = Reading(reader="blocking client", execution_id=run.execution_id, after=0)
            history.readings.append(reading)
            for event in run:
                reading.events.append(event.SerializeToString())
                if len(reading.events) == most:
                    break

        await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def _is_reset(self, chance: random.Random, history: History) -> None:
        async with Proxy(self._address) as proxy:
            client = stepwire.aio.Client(proxy.address, patience=self._patience)
            try:
                run = await client.execute(plan=random_plan(chance))
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(self._read(history, "client behind a proxy", run))
                    for _ in range(chance.randint(1, 3)):
                        await asyncio.wait({reading}, timeout=chance.random() * 0.3)
                        proxy.reset()
            finally:
                await client.close()

    async def _repeats(self, chance: random.Random, history: History) -> None:
        request = _request(chance)
        async with asyncio.TaskGroup() as group:
            for number in range(chance.randint(2, 5)):
                if chance.random() < 0.5:
                    group.create_task(self._stream(history, f"raw {number}", request=request))
                else:
                    group.create_task(self._start(history, request))
        other = StartExecutionRequest(plan=_short(), request_id=request.request_id)
        await self._unary(history, "StartExecution", other, expected={"ALREADY_EXISTS"})

    async def _cancels(self, chance: random.Random, history: History) -> None:
        execution_id = await self._start(history, _request(chance))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stream(history, "raw", execution_id))
            await asyncio.sleep(chance.random() * 0.3)
            asked = CancelExecutionRequest(execution_id=execution_id, reason="the soak wants it")
            for _ in range(chance.randint(1, 2)):
                await self._unary(history, "CancelExecution", asked, expected={"OK", "FAILED_PRECONDITION"})

    async def _hangs(self, chance: random.Random, history: History) -> None:
        retry = Retry(attempts=chance.randint(1, 3))
        retry.initial_delay.FromMilliseconds(10)
        limit = chance.choice([0.02, 0.1])
        name, given = chance.choice(
            [("hang", {}), ("stubborn", {"seconds": 0.2}), ("stuck", {"seconds": 0.2}), ("broken", {"pause": 0.01})]
        )
        steps = [
            plan_step("a", name, input=given, timeout=limit, retry=retry),
            plan_step("b", "work", input={"pieces": 3, "pause": 0.01}),
            plan_step("c", "work", input={"pieces": 3, "pause": 0.01}, depends_on=["a"]),
        ]
        request = ExecuteRequest(plan=Plan(steps=steps), request_id=secrets.token_hex(8))
        await self._stream(history, "raw", request=request)

    # -- left behind

    async def _drops(self, chance: random.Random, history: History) -> None:
        most = chance.randint(1, 6)
        execution_id = await self._stream(history, "raw", request=_request(chance), most=most)
        if execution_id and chance.random() < 0.3:
            after = history.streams[-1].messages[-1].sequence
            await self._stream(history, "raw again", execution_id, after=chance.choice([0, after]), most=most)

    async def _closes(self, chance: random.Random, history: History) -> None:
        channel = self._connect()
        streams = [
            asyncio.create_task(self._stream(history, f"raw {number}", request=_request(chance), channel=channel))
            for number in range(chance.randint(1, 4))
        ]
        await asyncio.wait(streams, timeout=chance.random() * 0.4)
        await channel.close()
        # gRPC does not promise that this ends what is being read.
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    async def _runs_late(self, chance: random.Random, history: History) -> None:
        limit = chance.choice([0.001, 0.02, 0.1, 0.3])
        await self._stream(history, "raw", request=_request(chance), limit=limit, expected={"OK", "DEADLINE_EXCEEDED"})
        if self._old:
            asked = WaitExecutionRequest(execution_id=chance.choice(self._old))
            asked.timeout.FromMilliseconds(500)
            expected = {"OK", "DEADLINE_EXCEEDED", "NOT_FOUND", "OUT_OF_RANGE"}
            await self._unary(History(), "WaitExecution", asked, limit=0.05, expected=expected)

    async def _abandons(self, chance: random.Random, history: History) -> None:
        request = ExecuteRequest(plan=Plan(steps=[plan_step("a", "hang")]), request_id=secrets.token_hex(8))
        request.options.cancel_if_unwatched_for.FromMilliseconds(chance.randint(20, 300))
        execution_id = await self._stream(history, "raw", request=request, most=1)
        # Who watches it, keeps it: nobody else may.
        self._forget(execution_id)
        await asyncio.sleep(chance.random() * 0.2)
        await self._stream(history, "raw again", execution_id, limit=0.3, expected={"OK", "DEADLINE_EXCEEDED"})
        self._forget(execution_id)

    def _forget(self, execution_id: str) -> None:
        """Lets nobody else choose it. Newer ones may have pushed it out before."""
        with contextlib.suppress(ValueError):
            self._old.remove(execution_id)

    async def _stalls(self, chance: random.Random, history: History) -> None:
        given = {"events": 5_000, "rate": 100_000.0, "text": "m" * 100}
        request = ExecuteRequest(plan=Plan(steps=[plan_step("a", "emit", input=given)]), request_id="")
        # What it could have read is never taken; only what it began with is noted.
        call = self._channel.unary_stream(METHODS["Execute"].path)(request.SerializeToString())
        history.open("stalled", "").take(await call.read())
        self._old.append(history.streams[-1].execution_id)
        await asyncio.sleep(chance.random() * 2)
        call.cancel()
        history.streams[-1].leave()

    async def _knocks(self, chance: random.Random, history: History) -> None:
        host, _, port = self._address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        whole = _PREFACE + _SETTINGS + chance.randbytes(chance.randint(0, 200))
        writer.write(chance.choice([b"", whole[: chance.randint(1, len(whole))], whole, b"GET / HTTP/1.1\r\n\r\n"]))
        if chance.random() < 0.5:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        await asyncio.sleep(chance.random() * 0.1)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        del reader

    # -- questions

    async def _errs(self, chance: random.Random, history: History) -> None:
        bad, good = {"INVALID_ARGUMENT"}, _short()
        cycle = Plan(steps=[plan_step("a", "burst", depends_on=["b"]), plan_step("b", "burst", depends_on=["a"])])
        unknown = Plan(steps=[plan_step("a", "unheard_of")])
        cases: list[tuple[str, bytes, Collection[str]]] = [
            ("StartExecution", chance.randbytes(60), bad | {"NOT_FOUND", "OK", "FAILED_PRECONDITION"}),
            ("StartExecution", b"", bad),
            ("StartExecution", StartExecutionRequest(plan=cycle).SerializeToString(), bad),
            ("StartExecution", StartExecutionRequest(plan=unknown).SerializeToString(), bad | {"NOT_FOUND"}),
            ("StartExecution", StartExecutionRequest(plan=good, request_id="a b").SerializeToString(), bad),
            ("StartExecution", StartExecutionRequest(call={"plan": "none"}).SerializeToString(), bad | {"NOT_FOUND"}),
            ("GetExecution", GetExecutionRequest(execution_id="nobody").SerializeToString(), {"NOT_FOUND"}),
            ("GetExecution", GetExecutionRequest(execution_id="no/body").SerializeToString(), bad),
            ("CancelExecution", CancelExecutionRequest(execution_id="nobody").SerializeToString(), {"NOT_FOUND"}),
            ("BuildPlan", BuildPlanRequest(query="").SerializeToString(), bad),
            ("PauseExecution", b"", bad | {"UNIMPLEMENTED"}),
            ("NoSuchMethod", b"", {"UNIMPLEMENTED"}),
        ]
        for method, data, expected in chance.sample(cases, 3):
            await self._call(history, method, data, expected=expected)
        if self._old:
            far = WatchExecutionRequest(
                execution_id=chance.choice(self._old), after_sequence=chance.choice([-1, 10**9])
            )
            call = self._channel.unary_stream(METHODS["WatchExecution"].path)(far.SerializeToString())
            try:
                await call.read()
                self.odd["a watch from nowhere was taken"] += 1
            except grpc.aio.AioRpcError as error:
                self._ended("WatchExecution", error, {"OUT_OF_RANGE", "INVALID_ARGUMENT", "NOT_FOUND"})

    async def _asks(self, chance: random.Random, history: History) -> None:
        execution_id = await self._start(history, _request(chance))
        waits = WaitExecutionRequest(execution_id=execution_id)
        waits.timeout.FromMilliseconds(chance.choice([1, 100, 3_000]))
        for method, request in (
            ("GetExecution", GetExecutionRequest(execution_id=execution_id, view=chance.choice([0, 1, 2]))),
            ("WaitExecution", waits),
            ("ListEvents", ListEventsRequest(execution_id=execution_id)),
            ("ListExecutions", ListExecutionsRequest(page_size=chance.randint(1, 50))),
            ("GetServerInfo", GetServerInfoRequest()),
        ):
            await self._unary(history, method, request)

    async def _digs(self, chance: random.Random, history: History) -> None:
        if not self._old:
            return
        execution_id = self._old[chance.randrange(max(1, len(self._old) // 4))]
        expected = {"OK", "NOT_FOUND", "OUT_OF_RANGE"}
        await self._stream(history, "archaeologist", execution_id, after=chance.choice([0, 1]), expected=expected)

    # -- shared

    def _connect(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self._address, options=channel_options(()))

    async def _read_again(self, chance: random.Random, history: History, execution_id: str) -> None:
        """Reads an ended execution once more, from a place that is not the beginning too."""
        await self._stream(history, "late", execution_id, expected={"OK", "NOT_FOUND", "OUT_OF_RANGE"})
        after = chance.choice([0, 2])
        await self._stream(history, "later", execution_id, after=after, expected={"OK", "NOT_FOUND", "OUT_OF_RANGE"})

    async def _read(
        self, history: History, reader: str, run: stepwire.aio.Run, *, after: int = 0, most: int | None = None
    ) -> int:
        """Reads with a client of ours, so many events at most; returns the sequence of the last."""
        self._old.append(run.execution_id)
        reading = Reading(reader=reader, execution_id=run.execution_id, after=after)
        history.readings.append(reading)
        last = after
        try:
            async for event in run:
                last = event.sequence
                reading.events.append(event.SerializeToString())
                if len(reading.events) == most:
                    break
            self.statuses[f"{reader}: read"] += 1
        except StepwireError as error:
            reading.error = repr(error)
            self.odd[f"{reader}: {error!r}"[:200]] += 1
        finally:
            await run.close()
        return last

    async def _stream(
        self,
        history: History,
        watcher: str,
        execution_id: str = "",
        *,
        request: ExecuteRequest | None = None,
        after: int = 0,
        most: int | None = None,
        limit: float | None = None,
        channel: grpc.aio.Channel | None = None,
        expected: Collection[str] = ("OK",),
    ) -> str:
        """Reads one stream, so many messages at most; returns its execution."""
        asked: Message
        if request is not None:
            method, asked = "Execute", request
            stream = history.open(watcher, "", request_id=request.request_id)
        else:
            method = "WatchExecution"
            asked = WatchExecutionRequest(execution_id=execution_id, after_sequence=after)
            stream = history.open(watcher, execution_id, after=after)
        call = (channel or self._channel).unary_stream(METHODS[method].path)(asked.SerializeToString(), timeout=limit)
        try:
            while (data := await call.read()) is not grpc.aio.EOF:
                stream.take(data)
                if len(stream.messages) == 1:
                    self._old.append(stream.execution_id)
                if len(stream.messages) == most:
                    return stream.execution_id
            stream.end("OK")
            self.statuses[f"{method}: OK"] += 1
        except grpc.aio.AioRpcError as error:
            failure = error_from_call(error)
            stream.end(error.code().name, str(failure.reason or ""), dict(failure.metadata))
            self._ended(method, error, expected)
        finally:
            call.cancel()
            stream.leave()
        return stream.execution_id

    async def _start(self, history: History, request: ExecuteRequest) -> str:
        asked = StartExecutionRequest(plan=request.plan, request_id=request.request_id, options=request.options)
        reply = await self._unary(history, "StartExecution", asked, request_id=request.request_id)
        return reply.execution_id

    async def _unary(
        self,
        history: History,
        method: str,
        request: Message,
        *,
        request_id: str = "",
        limit: float = 20,
        expected: Collection[str] = ("OK",),
    ) -> Reply:
        data = request.SerializeToString()
        return await self._call(history, method, data, request_id=request_id, limit=limit, expected=expected)

    async def _call(
        self,
        history: History,
        method: str,
        data: bytes,
        *,
        request_id: str = "",
        limit: float = 20,
        expected: Collection[str],
    ) -> Reply:
        reply = Reply(method=method, sent=time.monotonic(), at=0, status="OK", request_id=request_id)
        kind = METHODS.get(method)
        path = kind.path if kind else f"{METHODS['Execute'].path.rpartition('/')[0]}/{method}"
        try:
            raw = await self._channel.unary_unary(path)(data, timeout=limit)
        except grpc.aio.AioRpcError as error:
            reply.status = error.code().name
            self._ended(method, error, expected)
        else:
            self.statuses[f"{method}: OK"] += 1
            if "OK" not in expected:
                self.odd[f"{method}: taken, and {sorted(expected)} was due"] += 1
            response: Any = kind.response.FromString(raw) if kind else None
            snapshot = getattr(response, "execution", None)
            if isinstance(snapshot, Execution) and snapshot.execution_id:
                reply.execution_id, reply.execution = snapshot.execution_id, snapshot.SerializeToString()
                self._old.append(snapshot.execution_id)
        reply.at = time.monotonic()
        history.replies.append(reply)
        return reply

    def _ended(self, method: str, error: grpc.aio.AioRpcError, expected: Collection[str]) -> None:
        name = error.code().name
        self.statuses[f"{method}: {name}"] += 1
        if name not in expected:
            self.odd[f"{method}: {name}: {error.details()}"[:200]] += 1


def _request(chance: random.Random) -> ExecuteRequest:
    request = ExecuteRequest(plan=random_plan(chance), request_id=secrets.token_hex(8))
    request.options.max_parallel_steps = chance.choice([0, 1, 2])
    return request


def _short() -> Plan:
    return Plan(steps=[plan_step("a", "burst", input={"reports": 3})])
