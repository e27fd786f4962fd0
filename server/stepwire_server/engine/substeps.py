"""How a step, and each of its parts, says how far it is. Each call is one step_progress event.

async with step.substep("3-D Secure", weight=2) as sub:      RUNNING, at 0
    await sub.progress(50, "Waiting for the bank")           PROGRESS
    async with sub.substep("Challenge"): ...                 parts have parts of their own
                                                             COMPLETED at 100, FAILED or CANCELLED
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sized,
)
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from google.protobuf import struct_pb2

from stepwire.errors import LimitSize
from stepwire.parts import MAX_DEPTH, MAX_NAME, MAX_PARTS, MAX_WEIGHT, MIN_WEIGHT, path_of
from stepwire.v1 import Event, StepState
from stepwire_server.engine import values
from stepwire_server.engine.asking import StepEnded
from stepwire_server.engine.reckoning import Reckoner
from stepwire_server.engine.recorder import check_size
from stepwire_server.engine.states import LIVE_STEP, TransitionError, next_step_state
from stepwire_server.engine.step_events import describe, one_line
from stepwire_server.engine.voice import Voice

__all__ = ["BlockingSubstepContext", "BlockingWork", "SubstepContext", "Teller", "Work"]

_T = TypeVar("_T")


class Teller:
    """Records what an attempt says of its progress."""

    __slots__ = ("_voice", "event", "reckoner")

    def __init__(self, reckoner: Reckoner, voice: Voice) -> None:
        self.reckoner = reckoner
        self.event = voice.event
        self._voice = voice

    async def tell(self, event: Event, place: Callable[[Event], None]) -> None:
        """Records an event. `place` says which part it is about, and raises where that may not say it now."""

        def complete(event: Event) -> None:
            report = event.step_progress
            report.SetInParent()
            place(event)
            if report.HasField("substep") or report.declared:
                report.percentage = 0  # Takes its room; the reckoner knows it.
            # What is counted must be recorded, too: nothing may refuse the event from here on.
            check_size(event)
            self.reckoner.reckon(report, event.message)

        await self._voice.emit(event, complete)


class Work(ABC):
    """What can say how far it is, and have parts: a step, or a part of one."""

    __slots__ = ("_path", "_teller")

    def __init__(self, teller: Teller, path: str) -> None:
        self._teller = teller
        self._path = path

    async def progress(
        self,
        percentage: float | None = None,
        message: str = "",
        *,
        stage: str = "",
        current: float | None = None,
        total: float | None = None,
        unit: str = "",
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Says how far it is.

        `percentage`: 0 to 100, of this step or part; reckoned from `current` and `total` where it is not given; where
        it can't be, the amount of work is unknown and only the text is new. What has parts is as far as they are, or
        as it says itself where that is more. Raises ValueError outside 0 to 100.
        """
        if percentage is None and current is not None and total:
            percentage = 100 * current / total
        if percentage is not None and not 0 <= percentage <= 100:
            raise ValueError(f"percentage is {percentage}; it must be 0 to 100")
        event = self._teller.event(message, metadata)
        progress = event.step_progress
        if percentage is not None:
            progress.percentage = percentage
        if stage:
            progress.stage = stage
        if current is not None:
            progress.current = current
        if total is not None:
            progress.total = total
        if unit:
            progress.unit = unit
        if data:
            progress.data.CopyFrom(_struct(data))
        await self._teller.tell(event, self._place)

    def substep(self, name: str, *, weight: float | None = None) -> SubstepContext:
        """Returns a part of this work, to be entered with `async with`: it begins there at 0 and ends with the block,
        at 100, or FAILED where an exception leaves it (the step goes on where that is caught outside), or CANCELLED.

        `name`: of 1 to 200 characters, and of its own among the parts that run side by side. One whose name had a part
        before is that part, once more from 0. `weight`: its share among its siblings, 0.000001 to 1,000,000; as it
        was declared, else 1. Raises ValueError outside of these.

        A step has at most 1,000 parts at a time, at most 16 deep: beyond that raises LimitSize. A part that has
        completed keeps none of its own. For many small pieces, count them: `progress(current=, total=, unit=)`.
        """
        if weight is not None:
            _check_weight(name, weight)
        return SubstepContext(self, self._teller, _path(self._path, name), name, weight)

    async def substeps(self, parts: Mapping[str, float] | Iterable[str]) -> None:
        """Declares parts of this work before they begin, by name, with their weights; without weights all weigh 1. So
        the percentage is right from the beginning. Parts that were not declared join in when they begin. One that is
        there already changes its weight alone. Raises what `substep` raises, and ValueError where there are none.

            await step.substeps({"download": 1, "parse": 3})
        """
        weights = dict(parts) if isinstance(parts, Mapping) else dict.fromkeys(parts, 1.0)
        if not weights:
            raise ValueError("no parts are given")
        event = self._teller.event(one_line(f"Parts: {', '.join(map(str, weights))}"), None)
        for name, weight in weights.items():
            path = _path(self._path, name)
            _check_weight(name, weight)
            event.step_progress.declared.add(path=path, name=name, weight=weight, state=StepState.STEP_STATE_PENDING)

        def place(event: Event) -> None:
            self._check_open()
            known = self._teller.reckoner.parts
            self._check_room(sum(known.state(declared.path) is None for declared in event.step_progress.declared))
            for declared in event.step_progress.declared:
                declared.state = known.state(declared.path) or declared.state
                declared.percentage = known.percentage(declared.path)

        await self._teller.tell(event, place)

    def track(
        self, items: Iterable[_T] | AsyncIterable[_T], unit: str = "", *, total: int | None = None
    ) -> AsyncIterator[_T]:
        """Gives each of the items, and says how many are done: of `total`, which is their number where they have one.
        About a hundred reports at most, however many items there are; without a total, the count has two digits.

            async for file in step.track(files, "files"):
                await read(file)
        """
        return _Tracked(self, items, _Count(items, unit, total))

    def _check_room(self, new: int) -> None:
        if self._teller.reckoner.parts.count + new > MAX_PARTS:
            raise LimitSize(
                f"the step would have more than {MAX_PARTS:,} parts; count small pieces instead: "
                "progress(current=, total=, unit=)"
            )

    @abstractmethod
    def _place(self, event: Event) -> None:
        """Writes into an event of progress what it is about."""

    @abstractmethod
    def _check_open(self) -> None:
        """Raises RuntimeError where it does not run."""


class SubstepContext(Work):
    """A part of a step; `substep` makes it. Raises RuntimeError where it says something before its block or after."""

    __slots__ = ("_parent", "_state", "_weight", "name")

    def __init__(self, parent: Work, teller: Teller, path: str, name: str, weight: float | None) -> None:
        super().__init__(teller, path)
        self._parent = parent
        self._weight = weight
        self._state: StepState.ValueType = StepState.STEP_STATE_PENDING
        self.name = name
        """Its name."""

    @property
    def path(self) -> str:
        """What identifies it in its step: the names from the step's own part downwards, joined by "/"."""
        return self._path

    async def __aenter__(self) -> SubstepContext:
        await self._say("step_started", f"Started: {self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self._say("step_completed", f"Completed: {self.name}")
            return
        # What leaves the block is what counts, also where nothing can be said of it any more.
        with suppress(StepEnded, RuntimeError):
            if isinstance(error, asyncio.CancelledError | GeneratorExit):
                await self._say("step_cancelled", f"Cancelled: {self.name}")
            else:
                await self._say("step_failed", f"Failed: {self.name}: {one_line(describe(error))}")

    async def _say(self, kind: str, message: str) -> None:
        await self._teller.tell(self._teller.event(message, None), lambda event: self._move(event, kind))

    def _place(self, event: Event) -> None:
        self._move(event, "step_progress")

    def _move(self, event: Event, kind: str) -> None:
        """Writes into an event what becomes of this part by it."""
        self._parent._check_open()
        parts = self._teller.reckoner.parts
        try:
            state = next_step_state(self._state, kind)
        except TransitionError:
            raise RuntimeError(self._why_not(kind)) from None
        if kind == "step_started":
            before = parts.state(self._path)
            if before in LIVE_STEP:
                raise RuntimeError(f"the part {self._path!r} runs already; side by side, parts need names of their own")
            self._check_room(before is None)
        report = event.step_progress
        substep = report.substep
        substep.path, substep.name, substep.state = self._path, self.name, state
        substep.weight = self._weight or parts.weight(self._path) or 1.0
        if kind == "step_completed":
            substep.percentage = 100
        elif kind != "step_started":
            said = report.percentage if report.HasField("percentage") else parts.percentage(self._path)
            substep.percentage = max(said, parts.rolled_up(self._path))
        self._state = state

    def _check_open(self) -> None:
        if self._state not in LIVE_STEP:
            raise RuntimeError(self._why_not("step_progress"))
        self._parent._check_open()

    def _why_not(self, kind: str) -> str:
        if self._state == StepState.STEP_STATE_PENDING:
            return f"the part {self._path!r} has not begun: enter it with `async with` (`with` in a plain function)"
        if kind == "step_started":
            return f"the part {self._path!r} was entered before; call substep() for each time"
        return f"the part {self._path!r} has ended"


class _Count:
    """How many of some items are done, and when to say so."""

    __slots__ = ("_told", "_total", "_unit", "given")

    def __init__(self, items: object, unit: str, total: int | None) -> None:
        self._unit = unit
        self._total = len(items) if total is None and isinstance(items, Sized) else total
        self._told = -1
        self.given = 0

    def is_due(self, *, last: bool = False) -> bool:
        count, total = self.given, self._total
        if last:
            return self._told != count
        if total:
            return count == 0 or 100 * count // total != 100 * (count - 1) // total
        return bool(count % 10 ** max(0, len(str(count)) - 2) == 0)

    def report(self) -> dict[str, Any]:
        self._told = self.given
        total = None if self._total is None else max(self._total, self.given)
        return {"current": self.given, "total": total, "unit": self._unit}


class _Tracked(AsyncIterator[_T]):
    """Items, and after some of them a report."""

    def __init__(self, work: Work, items: Iterable[_T] | AsyncIterable[_T], count: _Count) -> None:
        self._work = work
        self._items = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._count = count

    async def __anext__(self) -> _T:
        # Whoever asks for another one is done with the one before.
        if self._count.is_due():
            await self._work.progress(**self._count.report())
        try:
            item = next(self._items) if isinstance(self._items, Iterator) else await anext(self._items)
        except (StopIteration, StopAsyncIteration):
            if self._count.is_due(last=True):
                await self._work.progress(**self._count.report())
            raise StopAsyncIteration from None
        self._count.given += 1
        return item


class BlockingWork(ABC):
    """The same for a plain function that runs in a thread: each method blocks until it is done."""

    __slots__ = ()

    @property
    @abstractmethod
    def _work(self) -> Work: ...

    @abstractmethod
    def _wait(self, call: Coroutine[Any, Any, _T]) -> _T: ...

    def progress(self, percentage: float | None = None, message: str = "", **details: Any) -> None:
        """As StepContext.progress."""
        self._wait(self._work.progress(percentage, message, **details))

    def substep(self, name: str, *, weight: float | None = None) -> BlockingSubstepContext:
        """As StepContext.substep, to be entered with `with`."""
        return BlockingSubstepContext(self._work.substep(name, weight=weight), self._wait)

    def substeps(self, parts: Mapping[str, float] | Iterable[str]) -> None:
        """As StepContext.substeps."""
        self._wait(self._work.substeps(parts))

    def track(self, items: Iterable[_T], unit: str = "", *, total: int | None = None) -> Iterator[_T]:
        """As StepContext.track, for a plain `for`."""
        count = _Count(items, unit, total)
        for item in items:
            if count.is_due():
                self.progress(**count.report())
            yield item
            count.given += 1
        if count.is_due(last=True):
            self.progress(**count.report())


class BlockingSubstepContext(BlockingWork):
    """A part of a step, for a plain function."""

    __slots__ = ("_substep", "_waiting", "name")

    def __init__(self, substep: SubstepContext, wait: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._substep = substep
        self._waiting = wait
        self.name = substep.name

    @property
    def path(self) -> str:
        """As SubstepContext.path."""
        return self._substep.path

    def __enter__(self) -> BlockingSubstepContext:
        self._wait(self._substep.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A step that has ended has nothing to say; but who leaves the block by an exception keeps that one.
        with suppress(*(() if error is None else (StepEnded,))):
            self._wait(self._substep.__aexit__(kind, error, trace))

    @property
    def _work(self) -> Work:
        return self._substep

    def _wait(self, call: Coroutine[Any, Any, _T]) -> _T:
        given: _T = self._waiting(call)
        return given


def _path(parent: str, name: str) -> str:
    """Returns the path of a part. Raises ValueError for a name that is none, LimitSize where it would be too deep."""
    if not isinstance(name, str):
        raise TypeError(f"a part's name is of type {type(name).__name__}; it must be text")
    if not name.strip() or len(name) > MAX_NAME:
        raise ValueError(f"a part's name has {len(name):,} characters; it must have 1 to {MAX_NAME}, and not be blank")
    path = path_of(parent, name)
    if path.count("/") >= MAX_DEPTH:
        raise LimitSize(f"the part {name!r} would be {MAX_DEPTH + 1} deep; at most {MAX_DEPTH} are allowed")
    return path


def _check_weight(name: str, weight: float) -> None:
    if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise ValueError(f"the weight of {name!r} is {weight}; it must be {MIN_WEIGHT:f} to {MAX_WEIGHT:,.0f}")


def _struct(mapping: Mapping[str, Any]) -> struct_pb2.Struct:
    return values.to_value(dict(mapping), field="data").struct_value
