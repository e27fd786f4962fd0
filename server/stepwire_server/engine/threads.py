"""Threads for functions that block: so many at once, and others in place of those that nobody waits for any more."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

__all__ = ["NoThread", "Threads"]

_log = logging.getLogger(__name__)

_TOLD_EVERY = 60.0
"""Seconds between two lines of the log that say the same."""

P = ParamSpec("P")
T = TypeVar("T")


class NoThread(RuntimeError):
    """Every thread runs a function that nobody waits for any more, and there can't be another thread."""


class _Job:
    """One function that is to be called. `task` waits for it."""

    __slots__ = ("call", "future", "left", "task")

    def __init__(self, call: Callable[[], Any], task: asyncio.Task[Any] | None) -> None:
        self.call = call
        self.future: Future[Any] = Future()
        self.task = task
        self.left = False


class Threads(Executor):
    """Calls functions in at most `size` threads. What comes while all are taken waits, and the log says so.

    A function can't be ended from outside. One that hangs keeps its thread, and where its task is let go of (`let_go`)
    another thread takes its place: such functions alone never keep others waiting. They may have `most_left` threads
    beyond the `size`; where they have all of those too, functions are refused with NoThread, and the log says so. A
    function that hangs while its task still waits for it does count: only the log tells of it.

    The threads keep no process alive. `submit` and `let_go` are for the event loop's thread; `now` never goes back.
    """

    def __init__(self, size: int, *, name: str, now: Callable[[], float], most_left: int = 256) -> None:
        self._size = size
        self._name = name
        self._now = now
        self._most_left = most_left
        self._changed = threading.Condition()
        # All below is changed only under the lock.
        self._threads: set[threading.Thread] = set()
        self._busy = 0
        self._waiting: deque[_Job] = deque()
        self._jobs: dict[asyncio.Task[Any], _Job] = {}
        self._left = 0
        self._made = 0
        self._closed = False
        self._told: dict[str, float] = {}

    @property
    def left(self) -> int:
        """How many functions run on that were let go of."""
        return self._left

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Calls a function in a thread, for the running task. Raises NoThread, and RuntimeError after `shutdown`."""
        job = _Job(lambda: fn(*args, **kwargs), asyncio.current_task())
        with self._changed:
            if self._closed:
                raise RuntimeError("no function is called in these threads any more")
            self._waiting.append(job)
            if not self._serve():
                self._waiting.remove(job)
                raise self._refusal()
            if job.task is not None:
                self._jobs[job.task] = job
            if len(self._waiting) > self._free:
                self._tell("all %d threads are taken; what comes now waits until one is free", self._size)
        return job.future

    def let_go(self, task: asyncio.Task[Any]) -> None:
        """Notes that nobody waits any more for what runs here for a task, if anything does: its thread no longer counts
        among the `size` until the function ends.
        """
        with self._changed:
            job = self._jobs.pop(task, None)
            if job is None or job.future.cancel():
                return
            job.left = True
            self._left += 1
            refused = [] if self._serve() else list(self._waiting)
            if refused:
                self._waiting.clear()
        for waiting in refused:
            if waiting.future.set_running_or_notify_cancel():
                waiting.future.set_exception(self._refusal())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends each thread when its function has ended. `wait`: returns after that."""
        with self._changed:
            self._closed = True
            if cancel_futures:
                for job in self._waiting:
                    job.future.cancel()
            self._changed.notify_all()
            threads = list(self._threads)
        if wait:
            for thread in threads:
                thread.join()

    # -- with the lock held

    @property
    def _room(self) -> int:
        """How many threads there may be."""
        return self._size + min(self._left, self._most_left)

    @property
    def _free(self) -> int:
        """How many threads are about to take what waits."""
        return len(self._threads) - self._busy

    def _serve(self) -> bool:
        """Has a thread take what waits. Returns False where none ever will."""
        if len(self._waiting) <= self._free:
            self._changed.notify(len(self._waiting))
            return True
        if len(self._threads) < self._room:
            self._made += 1
            thread = threading.Thread(target=self._run, name=f"{self._name}_{self._made}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                # The process can't have more. Those that it has may do.
                self._tell("a thread could not be made: %s", error)
            else:
                self._threads.add(thread)
        return len(self._threads) > self._left

    def _refusal(self) -> NoThread:
        self._tell("%d functions run on although nobody waits for them; no other is called", self._left)
        return NoThread(f"{self._left} functions run on in threads although nobody waits for them; none is free")

    def _tell(self, text: str, what: object) -> None:
        last = self._told.get(text)
        if last is None or self._now() - last >= _TOLD_EVERY:
            self._told[text] = self._now()
            _log.warning("%s: " + text, self._name, what)

    # -- in each thread

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if job.future.set_running_or_notify_cancel():
                try:
                    output = job.call()
                except BaseException as error:
                    job.future.set_exception(error)
                else:
                    job.future.set_result(output)
                    del output
            self._ended(job)
            del job

    def _next(self) -> _Job | None:
        """Returns what to call next; None where this thread is to end."""
        with self._changed:
            while len(self._threads) <= self._room:
                if self._waiting:
                    self._busy += 1
                    return self._waiting.popleft()
                if self._closed:
                    break
                self._changed.wait()
            self._threads.discard(threading.current_thread())
            return None

    def _ended(self, job: _Job) -> None:
        with self._changed:
            self._busy -= 1
            if job.left:
                self._left -= 1
            elif job.task is not None and self._jobs.get(job.task) is job:
                del self._jobs[job.task]
