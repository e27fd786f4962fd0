"""From a request that was checked to an execution that is stored and begun: once for each request id, one or many
together, and only while there is room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from stepwire.errors import CursorExpired, Draining, LimitExecutions, RequestIdReused, StepwireError
from stepwire.v1 import ExecuteRequest, ExecutionState
from stepwire_server.engine.acceptance import aside, check_form, check_work, normalised
from stepwire_server.engine.batch import at, check_forms
from stepwire_server.engine.clock import Clock
from stepwire_server.engine.earlier import Inheritance
from stepwire_server.engine.ending import running
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.inheritance import check_asked, prepare
from stepwire_server.engine.operation import Catalog
from stepwire_server.engine.rerun import Rerun, is_planned, rerun_of
from stepwire_server.engine.snapshot import first_snapshot, not_found, record_to_read
from stepwire_server.journal import ENDED, ExecutionRecord, Journal

if TYPE_CHECKING:
    from stepwire_server.engine.executor import Executor

__all__ = ["Intake", "Taken"]

Result = TypeVar("Result")


class Taken(NamedTuple):
    """What came of a request."""

    record: ExecutionRecord
    created: bool
    """Whether it is a new execution; False where its request id was known."""
    executor: Executor | None
    """What runs it here, where it is new and the server does not drain."""


class _Wanted(NamedTuple):
    request: ExecuteRequest
    """What is stored, and what is compared where the request id comes again."""
    request_id: str
    tenant: str
    inheritance: Inheritance | None = None


class Intake:
    """Takes executions in. `running` says how many run now; `begin` makes one of them run."""

    def __init__(
        self,
        catalog: Catalog,
        journal: Journal,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        max_executions: int,
        running: Callable[[], int],
        begin: Callable[[ExecutionRecord, Fold, Inheritance | None], Executor],
    ) -> None:
        self._catalog = catalog
        self._journal = journal
        self._clock = clock
        self._new_id = new_id
        self._max_executions = max_executions
        self._running = running
        self._begin = begin
        self._tasks: set[asyncio.Task[Any]] = set()
        self._coming = 0
        """Executions that are being stored."""
        self._closed = False

    async def accept(self, request: ExecuteRequest, *, tenant: str) -> ExecutionRecord:
        """See Engine.accept."""
        check_form(request)
        same = normalised(request)
        try:
            await aside(request.plan, lambda: check_work(request, self._catalog))
            taken = await self._take(_Wanted(same, request.request_id, tenant))
        except StepwireError:
            # What was accepted stays accepted, also where the app has changed since or there is room for no other. Only
            # now: nearly every request is a new one, and storing it looks for its id.
            known = await self._known(request.request_id, tenant)
            if known is None:
                raise
            return _attached(known, same)
        return taken.record if taken.created else _attached(taken.record, same)

    async def accept_all(self, requests: Sequence[ExecuteRequest], *, tenant: str) -> Sequence[ExecutionRecord]:
        """See Engine.accept_all."""
        check_forms(requests)
        wanted = [_Wanted(normalised(request), request.request_id, tenant) for request in requests]
        checked = False
        while True:
            records: dict[int, ExecutionRecord] = {}
            for index, (request, one) in enumerate(zip(requests, wanted, strict=True)):
                try:
                    known = await self._known(one.request_id, tenant)
                    if known is not None:
                        records[index] = _attached(known, one.request)
                    elif not checked:
                        await aside(request.plan, partial(check_work, request, self._catalog))
                        await asyncio.sleep(0)  # A thousand of them: let others run.
                except StepwireError as error:
                    raise at(index, error) from None
            checked = True
            new = [index for index in range(len(wanted)) if index not in records]
            if new:
                created = await self._take_all(new, wanted)
                if created is None:
                    continue  # One of the request ids is known by now, and is found in the next round.
                records |= dict(zip(new, created, strict=True))
            return [records[index] for index in range(len(wanted))]

    async def retry(
        self, execution_id: str, step_ids: Sequence[str], asked: Rerun, *, request_id: str, tenant: str
    ) -> Taken:
        """See Engine.retry; what the new execution keeps may not be durable yet."""
        check_asked(step_ids, request_id)
        known = await self._known(request_id, tenant)
        if known is not None:
            return Taken(_attached_again(known, asked), created=False, executor=None)
        record = await record_to_read(self._journal, execution_id)
        if record.tenant != tenant:
            raise not_found(execution_id)
        if record.state not in ENDED:
            raise running(execution_id, record.state)
        request, inheritance = await prepare(self._journal, self._catalog, record, asked, step_ids)
        taken = await self._take(_Wanted(request, request_id, tenant, inheritance))
        if not taken.created:
            _attached_again(taken.record, asked)
        return taken

    def check_open(self) -> None:
        """Raises Draining where nothing is taken in any more."""
        if self._closed:
            raise Draining("the server is going; try another one", retry_after=timedelta(seconds=1))

    async def close(self) -> None:
        """Takes nothing in any more; returns once what was being stored is. It is begun by a later start."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _check_room(self, count: int) -> None:
        """Raises Draining, and LimitExecutions where there is no room for so many."""
        self.check_open()
        if self._running() + self._coming + count > self._max_executions:
            beside = "" if count == 1 else f" or would, with these {count:,}"
            raise LimitExecutions(
                f"{self._max_executions:,} executions run already{beside}; try again later (the server's "
                "--max-executions sets this limit)",
                retry_after=timedelta(seconds=1),
            )

    async def _known(self, request_id: str, tenant: str) -> ExecutionRecord | None:
        return await self._journal.find(tenant=tenant, request_id=request_id) if request_id else None

    async def _take(self, wanted: _Wanted) -> Taken:
        """Stores an execution and begins it, unless its request id is known by now."""
        self._check_room(1)
        return await self._apart(self._create(wanted), 1)

    async def _take_all(self, new: Sequence[int], wanted: Sequence[_Wanted]) -> Sequence[ExecutionRecord] | None:
        """Stores the executions with these indexes and begins them, unless a request id is known by now: then returns
        None, and begins none of them.
        """
        self._check_room(len(new))
        try:
            return await self._apart(self._create_all([wanted[index] for index in new]), len(new))
        except CursorExpired as error:
            gone = error.metadata.get("request_id")
            raise at(next(index for index in new if wanted[index].request_id == gone), error) from None

    async def _apart(self, creation: Coroutine[Any, Any, Result], count: int) -> Result:
        """Runs it in a task of its own: a caller that is gone must not leave a stored execution that nobody runs."""
        task = asyncio.create_task(creation, name="accept")
        self._coming += count
        self._tasks.add(task)
        task.add_done_callback(partial(self._created, count=count))
        return await asyncio.shield(task)

    def _created(self, task: asyncio.Task[Any], *, count: int) -> None:
        self._coming -= count
        self._tasks.discard(task)
        if not task.cancelled():
            # Else asyncio would warn of an exception that nobody waits for any more.
            task.exception()

    async def _create(self, wanted: _Wanted) -> Taken:
        record, created = await self._journal.create(self._record(wanted))
        return Taken(record, created, self._begun(record, wanted) if created else None)

    async def _create_all(self, wanted: Sequence[_Wanted]) -> Sequence[ExecutionRecord] | None:
        records = await self._journal.create_all([self._record(one) for one in wanted])
        if records is not None:
            for record, one in zip(records, wanted, strict=True):
                self._begun(record, one)
        return records

    def _begun(self, record: ExecutionRecord, wanted: _Wanted) -> Executor | None:
        if self._closed:
            return None  # The server began to drain meanwhile: the next start takes the execution up.
        fold = Fold(create_ns=record.create_time_ns, planning=is_planned(wanted.request))
        return self._begin(record, fold, wanted.inheritance)

    def _record(self, wanted: _Wanted) -> ExecutionRecord:
        request = wanted.request
        record = ExecutionRecord(
            execution_id=self._new_id(),
            tenant=wanted.tenant,
            request=request.SerializeToString(deterministic=True),
            request_id=wanted.request_id,
            session_id=request.session_id,
            labels=dict(request.labels),
            create_time_ns=self._clock.now_ns(),
            state=_first_state(request),
        )
        return replace(record, snapshot=first_snapshot(record))


def _first_state(request: ExecuteRequest) -> ExecutionState.ValueType:
    return ExecutionState.EXECUTION_STATE_PLANNING if is_planned(request) else ExecutionState.EXECUTION_STATE_PENDING


def _attached(record: ExecutionRecord, same: ExecuteRequest) -> ExecutionRecord:
    """Returns the record where the request is the one that it was started with."""
    if ExecuteRequest.FromString(record.request) != same:
        raise _reused(record)
    return record


def _attached_again(record: ExecutionRecord, asked: Rerun) -> ExecutionRecord:
    """Returns the record where what was asked for is the retry that it was started with. What the earlier execution
    gives to it is not compared: that may have been purged.
    """
    if rerun_of(ExecuteRequest.FromString(record.request)) != asked:
        raise _reused(record)
    return record


def _reused(record: ExecutionRecord) -> RequestIdReused:
    return RequestIdReused(
        f"request_id {record.request_id!r} was used with another request, for execution {record.execution_id}",
        metadata={"execution_id": record.execution_id},
    )
