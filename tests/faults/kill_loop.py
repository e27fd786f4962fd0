"""A server that is killed at random moments, again and again, while clients start, watch, poll, cancel,
pause and answer.

    python -m tests.faults.kill_loop --kills 200 --seed 7

Kills with SIGKILL only while an operation runs or an append is pending: it stops the process first (SIGSTOP), reads the
app's gauge, which is exact then, and lets it go on where neither is the case. At the end every execution has ended, the
journal is read, the server is started once more and purges a part of it, everything is watched again, and all checkers
judge all of it. A probe looks into the journal when a client gets a message, some of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import itertools
import os
import random
import signal
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf.message import Message
from tests.e2e.serving import ServerProcess
from tests.server.journal.scan import deviations

import stepwire
import stepwire.aio
from stepwire.errors import StepwireError
from stepwire.resume import Patience
from stepwire.transport import channel_options, error_from_call
from stepwire.v1 import (
    BuildPlanRequest,
    CancelExecutionRequest,
    CancelExecutionResponse,
    Condition,
    EventBatch,
    ExecuteRequest,
    Execution,
    ExecutionOptions,
    ExecutionState,
    GetExecutionRequest,
    GetExecutionResponse,
    PauseExecutionRequest,
    PauseExecutionResponse,
    Plan,
    ProvideInputRequest,
    ProvideInputResponse,
    ResumeExecutionRequest,
    ResumeExecutionResponse,
    Retry,
    StartExecutionRequest,
    StartExecutionResponse,
    WatchExecutionRequest,
)
from stepwire_server import plan_step, when

from . import evidence
from .answers import ASKS, questions
from .checkers import TERMINAL, check
from .gauges import Gauge
from .history import Bounds, Canary, History, Holding, Kept, Probe, Reading, Reply, Stream, dump, events_of, gone

__all__ = ["APPS", "Clients", "Gauged", "Outcome", "random_plan", "run", "table"]

APPS = Path(__file__).resolve().parent / "apps"
_SERVICE = "/stepwire.v1.ExecutionService/"
_KINDS = frozenset({"step_started", "step_completed"})
_ENDED = set(TERMINAL.values())
_LONGEST_WAIT = 0.5
"""Seconds that a server serves, at most, before the next kill is tried."""

_THREADS = 16
"""Readers with the blocking client at once."""

_PROBED = 0.4
"""The share of messages and replies at which a probe looks into the journal."""

_CANCEL_GRACE = 1.0
_CANCEL_MARGIN = 4.0
"""Seconds. The margin is for a machine that is busy with everything else; death and freezes are taken off besides."""

_SETTLED = 10.0
"""Seconds after its clients have left in which the server lets go of what they held."""

_BOUNDS = Bounds(resident_during=384 << 20, resident_after=256 << 20, descriptors_after=16)
"""For a server that streams everything again to everybody: the tails of all executions are up to 64 MiB of it, and the
connections of the four that read the journal, which are made when they are needed, are up to 12 descriptors.
"""

_LONGEST_PAUSE = 3.0
"""Seconds in which a pause that waits for a kill goes on without one: kills come to an end."""

_GLANCE = 0.001
"""Seconds between two looks at a server that starts."""


def random_plan(chance: random.Random, *, asks: bool = False) -> Plan:
    """Returns a graph of 2 to 7 steps, of every kind of operation, in which each may depend on those before it. What
    asks people is among them where somebody answers.
    """
    steps = []
    retry = Retry(attempts=3)
    retry.initial_delay.FromMilliseconds(20)
    for number in range(chance.randint(2, 7)):
        earlier = [step.id for step in steps]
        needs = chance.sample(earlier, min(len(earlier), chance.choice([0, 1, 1, 2])))
        pause = chance.choice([0.005, 0.02, 0.06])
        operation, given = chance.choice(
            [
                ("work", {"pieces": chance.randint(1, 6), "pause": pause}),
                ("talk", {"pieces": chance.randint(1, 8), "pause": pause}),
                ("thread", {"pieces": chance.randint(1, 4), "pause": pause}),
                ("generate", {"pieces": chance.randint(1, 4), "pause": pause}),
                ("burst", {"reports": chance.randint(50, 400)}),
                ("pay", {"pause": pause}),
                ("careful", {"pieces": chance.randint(1, 6), "pause": pause}),
                ("grow", {"rounds": chance.randint(1, 4), "pause": pause}),
                ("flaky", {"failures": chance.randint(0, 2), "pause": pause}),
                ("broken" if chance.random() < 0.3 else "flaky", {"pause": pause}),
            ]
        )
        if operation == "flaky":
            given.setdefault("failures", 1)
        if asks and chance.random() < 0.1:
            operation, given = ASKS, {"questions": chance.randint(1, 3)}
        mapped: dict[str, Any] = {}
        if operation in ("work", "pay") and chance.random() < 0.3:
            pauses = [given.pop("pause")] * chance.randint(0, 4)
            mapped = {"for_each": {"pause": pauses}, "max_parallel": chance.choice([0, 1, 2])}
        steps.append(
            plan_step(
                f"s{number}",
                operation,
                input=given,
                depends_on=needs,
                weight=chance.choice([None, 0.5, 3.0]),
                retry=retry if operation == "flaky" else None,
                conditions=[_condition(chance, needs[0])] if needs and chance.random() < 0.2 else [],
                **mapped,
            )
        )
    return Plan(steps=steps)


def _condition(chance: random.Random, step_id: str) -> Condition:
    output = when(step_id)
    return chance.choice([output.present(), output.absent(), output.equals("paid"), output.above(1)])


class Gauged(ServerProcess):
    """A server of the faulty app, whose gauge and effects can be read."""

    def __init__(self, folder: Path, *, flags: Sequence[str] = (), environment: dict[str, str] | None = None) -> None:
        self.effects = folder / "effects"
        self.struck = 0.0
        """When it was killed last."""
        self._gauge = folder / "gauge"
        self._gauge.write_bytes(bytes(16))
        given = {"FAULTS_EFFECTS": str(self.effects), "FAULTS_GAUGE": str(self._gauge)} | (environment or {})
        super().__init__(
            folder,
            app="faulty:app",
            cwd=APPS,
            flags=["--cancel-grace", f"{_CANCEL_GRACE:g}", "--drain-grace", "0.2", *flags],
            environment=given,
        )

    def start(self) -> None:
        self._gauge.write_bytes(bytes(16))
        super().start()

    def keep(self, executions: int) -> None:
        """Says how many ended executions it keeps from its next start on."""
        self._flags += ["--keep-executions", str(executions)]

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    def gauge(self) -> tuple[int, int]:
        """Returns how many operations run, and how many writes the journal has not answered yet."""
        running, pending = struct.unpack("<qq", self._gauge.read_bytes().ljust(16, b"\0"))
        return running, pending

    def strike_at_start(self) -> bool:
        """Starts it, and kills it as soon as it claims, appends or runs anything. Returns whether that was before it
        served; where it has nothing to take up, it serves.
        """
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(self.start)
            while not starting.done():
                if any(self.gauge()) and self._process is not None:
                    self.struck = time.monotonic()
                    self._process.kill()
                    wait([starting])
                    self.kill()
                    return starting.exception() is not None
                time.sleep(_GLANCE)
            starting.result()
        return False

    def strike(self, *, pending_only: bool = False) -> str | None:
        """Kills it where an operation runs or an append is pending, and says which; else lets it go on."""
        pid = self.process.pid
        os.kill(pid, signal.SIGSTOP)
        state = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert state is not None
        assert state.si_code == os.CLD_STOPPED, f"the server ended by itself:\n{self.log.read_text('utf-8')[-3000:]}"
        running, pending = self.gauge()
        if not (pending or (running and not pending_only)):
            os.kill(pid, signal.SIGCONT)
            return None
        self.struck = time.monotonic()
        self.kill()
        return "both" if running and pending else "a step runs" if running else "an append is pending"


class Clients:
    """Everybody who calls the server. All that they see goes into the history."""

    def __init__(
        self,
        address: str,
        history: History,
        chance: random.Random,
        *,
        probe: Probe | None = None,
        authorization: str = "",
    ) -> None:
        """With a probe, looks into the journal now and then. `authorization` is sent by the raw ones, as metadata."""
        self._probe = probe
        self._metadata = (("authorization", authorization),) if authorization else ()
        self.history = history
        self.odd: Counter[str] = Counter()
        """Statuses that a client should not get from a server that dies, by their text."""
        self.server_stops = False
        """Whether it was told to end by SIGTERM."""
        self.killed = asyncio.Event()
        """Set at the next kill. Each has one of its own."""
        self._chance = chance
        options = channel_options([("grpc.max_reconnect_backoff_ms", 500)])
        self._channel = grpc.aio.insecure_channel(address, options=options)
        # By time alone: while a channel waits before it connects again, tries fail at once and say nothing.
        patience = Patience(
            start_failures=1_000_000, start_seconds=120, resume_failures=1_000_000, resume_seconds=120, max_delay=0.5
        )
        self._client = stepwire.aio.Client(address, patience=patience)
        self._blocking_client = stepwire.Client(address, patience=patience)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="reader")
        self._numbers = itertools.count(1)

    async def close(self) -> None:
        await self._client.close()
        await self._channel.close()
        # Ends the streams that its threads read.
        self._blocking_client.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def session(self, number: int, seed: int) -> None:
        """One execution, from its start to the end that all its watchers see."""
        chance = random.Random(f"{seed}/{number}")
        options = ExecutionOptions(max_parallel_steps=chance.choice([0, 1, 2]))
        if chance.random() < 0.2:
            options.failure_policy = ExecutionOptions.FAILURE_POLICY_FAIL_FAST
        request = ExecuteRequest(
            plan=random_plan(chance, asks=True), request_id=f"request-{seed}-{number}", options=options
        )
        async with asyncio.TaskGroup() as group:
            if chance.random() < 0.4:
                known: asyncio.Future[str] = asyncio.get_running_loop().create_future()
                group.create_task(self.watch(f"{number} execute", "", request=request, known=known))
                execution_id = await known
            else:
                twins = [group.create_task(self.start(request)) for _ in range(chance.choice([1, 1, 3]))]
                execution_id = (await asyncio.gather(*twins))[0]
                group.create_task(self.watch(f"{number} from the start", execution_id))
            group.create_task(self.watch(f"{number} filtered", execution_id, kinds=_KINDS))
            group.create_task(self.read(f"{number} client", execution_id))
            if chance.random() < 0.3:
                group.create_task(self.read_in_thread(f"{number} blocking client", execution_id))
            group.create_task(self.poll(execution_id, chance, late=f"{number} late"))
            if any(step.operation == ASKS for step in request.plan.steps):
                group.create_task(self.answer_all(execution_id, random.Random(f"answers {seed}/{number}")))
            if chance.random() < 0.15:
                group.create_task(self.cancel(execution_id, chance.random() * 0.5))
            if chance.random() < 0.4:
                group.create_task(self.pause_for_a_while(execution_id, chance))
            if chance.random() < 0.2:
                group.create_task(self.provoke())

    async def start(self, request: ExecuteRequest) -> str:
        """Starts an execution by a unary call, again and again until it is accepted; returns its id."""
        asked = StartExecutionRequest(plan=request.plan, request_id=request.request_id, options=request.options)
        while True:
            reply = await self._unary("StartExecution", asked, _started, request_id=request.request_id)
            if reply.status == "OK":
                return reply.execution_id

    async def cancel(self, execution_id: str, delay: float) -> None:
        """Asks an execution to end, until there is an answer."""
        await asyncio.sleep(delay)
        asked = CancelExecutionRequest(execution_id=execution_id, reason="the suite wants it")
        while (await self._unary("CancelExecution", asked, _cancelled, execution_id=execution_id)).status not in (
            "OK",
            "FAILED_PRECONDITION",
        ):
            pass

    async def pause_for_a_while(self, execution_id: str, chance: random.Random) -> None:
        """Pauses an execution, once or twice, and resumes it: after a moment, or after the server was killed."""
        for _ in range(chance.choice([1, 1, 2])):
            await asyncio.sleep(chance.random() * 0.2)
            if not await self._control("PauseExecution", execution_id):
                return
            if chance.random() < 0.5:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LONGEST_PAUSE):
                        await self.killed.wait()
            await asyncio.sleep(chance.random() * 0.5)
            if not await self._control("ResumeExecution", execution_id):
                return

    async def _control(self, method: str, execution_id: str) -> bool:
        """Pauses or resumes, until there is an answer. Returns whether the execution had not ended."""
        kind, snapshot_of = _CONTROLS[method]
        asked = kind(execution_id=execution_id, reason="the suite wants it", actor="kill loop")
        reply = await self._unary(method, asked, snapshot_of, execution_id=execution_id)
        return reply.status == "OK"

    async def answer_all(self, execution_id: str, chance: random.Random) -> None:
        """Answers all that an execution asks: after a moment, or after the server was killed; now and then two persons
        do, with two answers.
        """
        try:
            async with asyncio.TaskGroup() as group:
                async for event in await self._client.watch(execution_id, kinds=["input_requested"]):
                    if event.HasField("input_requested"):
                        for _ in range(chance.choice([1, 1, 1, 2])):
                            group.create_task(self._answer(execution_id, event.input_requested.input_id, chance))
        except* StepwireError as errors:
            for error in errors.exceptions:
                self.odd[f"a person who watches: {error!r}"] += 1

    async def _answer(self, execution_id: str, input_id: str, chance: random.Random) -> None:
        if chance.random() < 0.4:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_PAUSE):
                    await self.killed.wait()
        await asyncio.sleep(chance.random() * 0.3)
        number = next(self._numbers)
        asked = ProvideInputRequest(
            execution_id=execution_id, input_id=input_id, value={"number_value": number}, actor="kill loop"
        )
        await self._unary("ProvideInput", asked, _provided, execution_id=execution_id, answer=number)

    async def provoke(self) -> None:
        """Makes the server fail by a bug of its app, once: its answer has an id, and nothing of the exception."""
        reply = Reply(method="BuildPlan", sent=time.monotonic(), at=0, status="")
        self.history.replies.append(reply)
        try:
            await self._send("BuildPlan", BuildPlanRequest(query="anything"), reply)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INTERNAL:
                self._mind(error, "BuildPlan")

    async def poll(self, execution_id: str, chance: random.Random, *, late: str = "") -> None:
        """Asks for snapshots until the execution has ended. On the way it sends a watcher to a place that a snapshot
        named, and one to a place that there is not.
        """
        asked = GetExecutionRequest(execution_id=execution_id)
        async with asyncio.TaskGroup() as group:
            while True:
                reply = await self._unary("GetExecution", asked, _got, execution_id=execution_id)
                if reply.status == "NOT_FOUND":
                    return  # It was purged; P1 finds it where it was not.
                snapshot = Execution.FromString(reply.execution)
                if late and snapshot.as_of_sequence > 3:
                    after = chance.randint(1, snapshot.as_of_sequence - 1)
                    group.create_task(self.watch(late, execution_id, after=after))
                    group.create_task(self.watch(f"{late} ahead", execution_id, after=1_000_000))
                    late = ""
                if snapshot.state in _ENDED:
                    return
                await asyncio.sleep(chance.random() * 0.4)

    async def read(self, reader: str, execution_id: str) -> None:
        """Reads with the Python client, which resumes by itself."""
        reading = Reading(reader=reader, execution_id=execution_id, after=0)
        self.history.readings.append(reading)
        try:
            async for event in await self._client.watch(execution_id):
                reading.events.append(event.SerializeToString())
                reading.times.append(time.monotonic())
        except StepwireError as error:
            reading.error = repr(error)

    async def read_in_thread(self, reader: str, execution_id: str) -> None:
        """Reads with the Python client that blocks."""
        reading = Reading(reader=reader, execution_id=execution_id, after=0)
        self.history.readings.append(reading)
        await asyncio.get_running_loop().run_in_executor(self._threads, self._read_blocking, reading)

    def _read_blocking(self, reading: Reading) -> None:
        try:
            for event in self._blocking_client.watch(reading.execution_id):
                reading.events.append(event.SerializeToString())
                reading.times.append(time.monotonic())
        except StepwireError as error:
            reading.error = repr(error)

    async def watch(
        self,
        watcher: str,
        execution_id: str,
        *,
        after: int = 0,
        kinds: frozenset[str] = frozenset(),
        request: ExecuteRequest | None = None,
        known: asyncio.Future[str] | None = None,
    ) -> None:
        """Watches without a client of ours, to the terminal event or a refusal; resumes after what it was given."""
        while True:
            starts = request is not None and not execution_id
            stream = self.history.open(
                watcher,
                execution_id,
                after=after,
                kinds=kinds,
                request_id=request.request_id if request and starts else "",
            )
            if request is not None and starts:
                request.heartbeat_interval.FromSeconds(1)
                call = self._channel.unary_stream(f"{_SERVICE}Execute")(
                    request.SerializeToString(), metadata=self._metadata
                )
            else:
                asked = WatchExecutionRequest(execution_id=execution_id, after_sequence=after)
                asked.filter.kinds.extend(sorted(kinds))
                asked.heartbeat_interval.FromSeconds(1)
                call = self._channel.unary_stream(f"{_SERVICE}WatchExecution")(
                    asked.SerializeToString(), metadata=self._metadata
                )
            done = await self._listen(stream, call, known)
            execution_id = stream.execution_id
            after = stream.messages[-1].sequence if stream.messages else after
            if done:
                return
            await asyncio.sleep(self._chance.random() * 0.1)

    async def _listen(self, stream: Stream, call: grpc.aio.UnaryStreamCall, known: asyncio.Future[str] | None) -> bool:
        """Reads one stream. Returns whether there is nothing to resume."""
        try:
            async for data in call:
                stream.take(data, self._probes())
                if known is not None and not known.done():
                    known.set_result(stream.execution_id)
        except grpc.aio.AioRpcError as error:
            failure = error_from_call(error)
            stream.end(error.code().name, str(failure.reason or ""), dict(failure.metadata), _said(error))
            if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                return True
            self._mind(error, f"stream with {len(stream.messages)} messages", begun=bool(stream.messages))
            return False
        except asyncio.CancelledError:
            stream.leave()
            raise
        stream.end("OK")
        return stream.messages[-1].notice != EventBatch.NOTICE_DRAINING

    async def _unary(
        self,
        method: str,
        request: Message,
        snapshot_of: Callable[[bytes], Execution],
        *,
        request_id: str = "",
        execution_id: str = "",
        answer: int | None = None,
    ) -> Reply:
        """Makes one call, and waits a little where the server could not be reached. GetExecution: until it answers."""
        while True:
            sent = time.monotonic()
            reply = Reply(method=method, sent=sent, at=0, status="", request_id=request_id, execution_id=execution_id)
            reply.answer = answer
            self.history.replies.append(reply)
            try:
                data = await self._send(method, request, reply)
            except grpc.aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
                    return reply
                self._mind(error, f"{method} after {reply.at - sent:.2f} s")
                await asyncio.sleep(self._chance.random() * 0.1)
                continue
            snapshot = snapshot_of(data)
            if (probe := self._probes()) is not None:
                reply.committed = probe.committed(snapshot.execution_id)
            reply.execution_id, reply.execution = snapshot.execution_id, snapshot.SerializeToString()
            return reply

    async def _send(self, method: str, request: Message, reply: Reply) -> bytes:
        """Makes one call and notes how it ended. Raises AioRpcError."""
        call = self._channel.unary_unary(f"{_SERVICE}{method}")
        try:
            data: bytes = await call(request.SerializeToString(), timeout=10, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            reply.at, reply.status, reply.said = time.monotonic(), error.code().name, _said(error)
            raise
        except asyncio.CancelledError:
            reply.left = True
            raise
        reply.at, reply.status = time.monotonic(), "OK"
        return data

    def _probes(self) -> Probe | None:
        return self._probe if self._chance.random() < _PROBED else None

    def _mind(self, error: grpc.aio.AioRpcError, call: str, *, begun: bool = False) -> None:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return
        # A call that comes while gRPC's server stops is ended so before any handler sees it; our clients try again.
        if error.code() is grpc.StatusCode.CANCELLED and self.server_stops and not begun:
            return
        self.odd[f"{call}: {error.code().name}: {error.details()}"[:300]] += 1


def _said(error: grpc.aio.AioRpcError) -> str:
    return f"{error.details()} {error.initial_metadata()!r} {error.trailing_metadata()!r}"


def _started(data: bytes) -> Execution:
    return StartExecutionResponse.FromString(data).execution


def _cancelled(data: bytes) -> Execution:
    return CancelExecutionResponse.FromString(data).execution


def _provided(data: bytes) -> Execution:
    return ProvideInputResponse.FromString(data).execution


def _got(data: bytes) -> Execution:
    return GetExecutionResponse.FromString(data).execution


_CONTROLS: dict[str, tuple[Callable[..., Message], Callable[[bytes], Execution]]] = {
    "PauseExecution": (PauseExecutionRequest, lambda data: PauseExecutionResponse.FromString(data).execution),
    "ResumeExecution": (ResumeExecutionRequest, lambda data: ResumeExecutionResponse.FromString(data).execution),
}


@dataclass(kw_only=True)
class Outcome:
    """What a run gave."""

    seed: int
    history: History
    kills: Counter[str] = field(default_factory=Counter)
    interludes: Counter[str] = field(default_factory=Counter)
    """What was done to the server besides."""
    killed_at: list[float] = field(default_factory=list)
    to_serving: list[float] = field(default_factory=list)
    """Seconds from each restart to the line that says where it listens."""
    violations: dict[str, list[str]] = field(default_factory=dict)
    odd: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def to_event(self) -> list[float]:
        """Seconds from a kill to the next event of each watcher without a filter that had a stream then and got more
        later. Further kills may have come between the two.
        """
        found = []
        by_watcher: dict[str, list[Stream]] = {}
        for stream in self.history.streams:
            if not stream.kinds:
                by_watcher.setdefault(stream.watcher, []).append(stream)
        for streams in by_watcher.values():
            for killed in self.killed_at:
                if any(s.began < killed and s.messages and killed <= s.ended < killed + 1 for s in streams):
                    later = [m.at for s in streams if s.began > killed for m in s.messages if m.frames]
                    found += [min(later) - killed] if later else []
        return found

    @property
    def pauses_held(self) -> int:
        """How many pauses were accepted before a kill and ended by a resume after it."""
        since: dict[str, float] = {}
        held = 0
        for reply in sorted(self.history.replies, key=lambda reply: reply.at):
            if reply.method == "PauseExecution" and reply.status == "OK":
                since[reply.execution_id] = reply.at
            elif reply.method == "ResumeExecution" and reply.status == "OK" and reply.execution_id in since:
                # A call may have been sent before the kill and made again after it: each try has a reply of its own.
                held += any(since[reply.execution_id] < killed < reply.sent for killed in self.killed_at)
                del since[reply.execution_id]
        return held


async def run(folder: Path, *, kills: int, seed: int, sessions: int = 5, limit: float = 600.0) -> Outcome:
    """Kills so many times while so many executions are under way. To hang for `limit` seconds is a violation."""
    outcome = Outcome(seed=seed, history=History())
    began = time.monotonic()
    chance = random.Random(seed)
    canary = f"canary{seed:08x}"
    history = outcome.history
    history.canaries = [
        Canary(text=f"{canary}-caller"),
        Canary(text=f"{canary}-local"),
        # Texts of exceptions stand in the log, and those of what caused them nowhere else.
        Canary(text=f"{canary}-cause", allowed=frozenset({"log"})),
    ]
    history.cancel_grace, history.cancel_margin, history.bounds = _CANCEL_GRACE, _CANCEL_MARGIN, _BOUNDS
    with Gauged(folder, environment={"FAULTS_CANARY": canary}) as server:
        probe = Probe(server.journal)
        clients = Clients(server.address, history, chance, probe=probe, authorization=f"Bearer {canary}-caller")
        first: dict[str, Kept] = {}
        uncounted: list[str] = []
        try:
            async with asyncio.timeout(limit):
                await _kill_again_and_again(server, clients, outcome, kills=kills, sessions=sessions, chance=chance)
                server.kill()
                first = await dump(server.journal)
                uncounted = await deviations(server.journal)
                # What is over begins to be purged while everybody comes once more.
                server.keep(max(1, len(first) * 2 // 3))
                await asyncio.to_thread(server.start)
                _hold(history, server, "before")
                await _all(clients, first)
                _hold(history, server, "during")
        except TimeoutError:
            history.complete = False
        finally:
            await clients.close()
        if history.complete:
            await _settle(history, server)
        server.kill()
        last = await dump(server.journal)
        history.purged = await gone(server.journal, first.keys() - last.keys())
        # What was purged is judged all the same: it was read before.
        history.journal = {key: kept for key, kept in first.items() if key in history.purged} | last
        history.add_effects(server.effects)
        history.log = server.log.read_text("utf-8")
    outcome.odd = clients.odd
    outcome.violations |= check(history)
    if not history.complete:
        waiting = sorted({f"{s.watcher} of {s.execution_id}" for s in history.streams if s.left})
        outcome.violations["P14"] = [f"not over after {limit:g} s; streams that wait: {waiting[:20]}"]
    elif {key: _lasting(kept) for key, kept in first.items()} != {
        key: _lasting(kept) for key, kept in history.journal.items()
    }:
        outcome.violations["P4 after a restart"] = ["the journal is another one after a restart"]
    if uncounted:
        outcome.violations["statistics"] = uncounted
    if clients.odd:
        outcome.violations["statuses"] = [f"{text} ({count} times)" for text, count in clients.odd.items()]
    outcome.seconds = time.monotonic() - began
    return outcome


async def _kill_again_and_again(
    server: Gauged, clients: Clients, outcome: Outcome, *, kills: int, sessions: int, chance: random.Random
) -> None:
    over = asyncio.Event()
    numbers = iter(range(1_000_000))

    async def supply() -> None:
        while not over.is_set():
            await clients.session(next(numbers), outcome.seed)

    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(supply())
        while sum(outcome.kills.values()) < kills:
            await asyncio.sleep(chance.random() * _LONGEST_WAIT)
            await _interlude(server, clients, outcome, chance)
            # A third of the kills wait for an append: steps run nearly always.
            strike = functools.partial(server.strike, pending_only=chance.random() < 1 / 3)
            while (kind := await asyncio.to_thread(strike)) is None:  # noqa: ASYNC110 - nothing tells from outside
                await asyncio.sleep(chance.random() * 0.02)
            dead = server.struck
            outcome.killed_at.append(dead)
            outcome.kills[kind] += 1
            clients.killed.set()
            clients.killed = asyncio.Event()
            if chance.random() < 0.15:
                early = await asyncio.to_thread(server.strike_at_start)
                if early:
                    outcome.killed_at.append(server.struck)
                    outcome.kills["it recovers"] += 1
            if not server.runs:
                restart = time.monotonic()
                await asyncio.to_thread(server.start)
                outcome.to_serving.append(time.monotonic() - restart)
            outcome.history.outages.append((dead, time.monotonic()))
        over.set()


def _hold(history: History, server: Gauged, phase: str) -> None:
    held = Gauge(server.process.pid).sample()
    history.holdings.append(Holding(phase=phase, resident=held.resident, descriptors=held.descriptors))


async def _settle(history: History, server: Gauged) -> None:
    """Looks at the server once it has let go of its clients' connections, or has had the time to."""
    gauge, most = Gauge(server.process.pid), history.holdings[0].descriptors + _BOUNDS.descriptors_after
    until = time.monotonic() + _SETTLED
    while gauge.sample().descriptors > most and time.monotonic() < until:  # noqa: ASYNC110 - another process
        await asyncio.sleep(_GLANCE)
    _hold(history, server, "after")


async def _interlude(server: Gauged, clients: Clients, outcome: Outcome, chance: random.Random) -> None:
    """Sometimes ends the server with SIGTERM and starts it again, or freezes it for a moment."""
    began = time.monotonic()
    match chance.random():
        case share if share < 0.1:
            outcome.interludes["SIGTERM"] += 1
            clients.server_stops = True
            code = await asyncio.to_thread(server.terminate)
            if code:
                outcome.violations.setdefault("SIGTERM", []).append(f"the server ended with {code}")
            await asyncio.to_thread(server.start)
            clients.server_stops = False
            outcome.history.outages.append((began, time.monotonic()))
        case share if share < 0.2:
            outcome.interludes["SIGSTOP"] += 1
            server.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(chance.random())
            server.process.send_signal(signal.SIGCONT)
            outcome.history.outages.append((began, time.monotonic()))
            return
        case _:
            return
    await asyncio.sleep(chance.random() * _LONGEST_WAIT)


def _lasting(kept: Kept) -> tuple[object, ...]:
    """Returns what a restart does not change of an ended execution. Its chunks may have been joined."""
    return kept.request_id, kept.request, kept.epoch, kept.state, kept.last_sequence, kept.snapshot, kept.frames


async def _all(clients: Clients, journal: dict[str, Kept]) -> None:
    """Watches everything again from the beginning."""
    calls: list[Awaitable[None]] = []
    for number, execution_id in enumerate(journal):
        calls.append(clients.watch(f"again {number}", execution_id))
        calls.append(clients.poll(execution_id, random.Random(number)))
    for place in range(0, len(calls), 50):
        await asyncio.gather(*calls[place : place + 50])


def table(outcome: Outcome) -> str:
    """Returns what happened as a Markdown table."""
    history = outcome.history
    rows = [("what", "how much"), ("---", "---"), ("seed", str(outcome.seed))]
    rows += [("kills", str(sum(outcome.kills.values())))]
    rows += [(f"kills while {kind}", str(count)) for kind, count in sorted(outcome.kills.items())]
    rows += [(f"{signal_} between kills", str(count)) for signal_, count in sorted(outcome.interludes.items())]
    rows += [
        ("executions", str(len(history.journal))),
        ("events", str(sum(len(kept.frames) for kept in history.journal.values()))),
        ("events that clients got", str(_given(history))),
        ("streams, readers, unary calls", f"{len(history.streams)}, {len(history.readings)}, {len(history.replies)}"),
        ("effects, of them at most once", _effects(history)),
        ("messages and replies that a probe looked at", str(_probed(history))),
        ("attempts that found a saved state", str(sum(bool(effect.saved) for effect in history.effects))),
        ("cancels accepted", str(_answered(history, "CancelExecution", "OK"))),
        ("pauses accepted, resumes accepted", _pauses(history)),
        ("pauses held across a kill", str(outcome.pauses_held)),
        ("takeovers of paused executions", str(_takeovers_in_pauses(history))),
        ("times that a step saved in a pause", str(_saves_in_pauses(history))),
        ("questions asked, again by another attempt, answered", ", ".join(map(str, questions(history)))),
        ("answers accepted, and refused since another came first", _answers(history)),
        ("errors provoked in the server", str(_answered(history, "BuildPlan", "INTERNAL"))),
        ("executions purged", str(len(history.purged))),
        ("watches refused as expired", str(sum(s.reason == "CURSOR_EXPIRED" for s in history.streams))),
        ("MiB and descriptors of the last server, before, during, after", _held(history)),
        ("restart to serving, median and worst", _times(outcome.to_serving)),
        ("kill to a client's next event, median and worst", _times(outcome.to_event)),
        ("seconds", f"{outcome.seconds:.0f}"),
        ("violations", str(sum(map(len, outcome.violations.values())))),
    ]
    lines = [f"| {what} | {much} |" for what, much in rows]
    for promise, violations in outcome.violations.items():
        lines += [f"{promise}: {violation}" for violation in violations[:10]]
    return "\n".join(lines)


def _given(history: History) -> int:
    streamed = sum(len(message.frames) for stream in history.streams for message in stream.messages)
    return streamed + sum(len(reading.events) for reading in history.readings)


def _probed(history: History) -> int:
    messages = (message for stream in history.streams for message in stream.messages)
    return sum(item.committed is not None for item in (*messages, *history.replies))


def _answered(history: History, method: str, status: str) -> int:
    return sum(reply.method == method and reply.status == status for reply in history.replies)


def _pauses(history: History) -> str:
    return ", ".join(str(_answered(history, method, "OK")) for method in _CONTROLS)


def _answers(history: History) -> str:
    return f"{_answered(history, 'ProvideInput', 'OK')}, {_answered(history, 'ProvideInput', 'FAILED_PRECONDITION')}"


def _takeovers_in_pauses(history: History) -> int:
    paused = ExecutionState.EXECUTION_STATE_PAUSED
    events = (event for kept in history.journal.values() for event in events_of(kept))
    return sum(event.HasField("plan_recovered") and event.plan_recovered.state == paused for event in events)


def _saves_in_pauses(history: History) -> int:
    paused = ExecutionState.EXECUTION_STATE_PAUSED
    events = (event for kept in history.journal.values() for event in events_of(kept))
    return sum(event.HasField("step_saved") and event.execution_state == paused for event in events)


def _held(history: History) -> str:
    return "; ".join(f"{held.resident >> 20}, {held.descriptors}" for held in history.holdings)


def _effects(history: History) -> str:
    return f"{len(history.effects)}, {sum(effect.at_most_once for effect in history.effects)}"


def _times(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s, {max(seconds):.2f} s" if seconds else "none"


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills a server again and again and judges what is left.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--limit", type=float, default=1800.0, help="Seconds after which it gives up.")
    parser.add_argument("--evidence", type=Path, help="Where a violation is kept (build/faults/kill-loop-SEED).")
    arguments = parser.parse_args()
    arguments.evidence = arguments.evidence or Path("build/faults") / f"kill-loop-{arguments.seed}"
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="stepwire-faults-") as folder:
        outcome = asyncio.run(run(Path(folder), kills=arguments.kills, seed=arguments.seed, limit=arguments.limit))
        if outcome.violations:
            evidence.keep(outcome.history, outcome.violations, of=Path(folder), to=arguments.evidence)
            print(f"kept in {arguments.evidence}; judge it again with: python -m tests.faults.evidence FOLDER")
    print(table(outcome))
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
