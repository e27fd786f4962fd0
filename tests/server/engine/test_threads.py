"""Threads for functions that block, and what becomes of those that never end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

import pytest

from stepwire_server.engine.threads import NoThread, Threads

from .rig import HANGS, until


class Hanging:
    """Functions that hang until they are let free, each asked for by a task of its own."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads
        self.free = threading.Event()
        self.begun = threading.Semaphore(0)

    def hang(self) -> None:
        self.begun.release()
        self.free.wait(HANGS)

    async def begin(self) -> asyncio.Task[None]:
        """Returns a task that waits for a function, once that is called."""
        task = self.waiting()
        await until(lambda: self.begun.acquire(blocking=False), "the function is called")
        return task

    def waiting(self) -> asyncio.Task[None]:
        async def ask() -> None:
            await asyncio.wrap_future(self.threads.submit(self.hang))

        return asyncio.create_task(ask())


@contextmanager
def threads_of(size: int, *, most_left: int = 10) -> Iterator[Hanging]:
    """Gives threads, whose functions end with it."""
    threads = Threads(size, name="under-test", now=lambda: 0.0, most_left=most_left)
    hanging = Hanging(threads)
    try:
        yield hanging
    finally:
        hanging.free.set()
        threads.shutdown(cancel_futures=True)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("under-test")]


async def called(threads: Threads) -> str:
    async with asyncio.timeout(HANGS):
        return await asyncio.wrap_future(threads.submit(lambda: threading.current_thread().name))


async def test_no_more_functions_run_at_once_than_there_are_threads(caplog: pytest.LogCaptureFixture) -> None:
    """What comes while all threads are taken is called when one is free, and the log says once that it waits."""
    with threads_of(2) as hanging:
        first = [await hanging.begin(), await hanging.begin()]
        assert caplog.messages == []
        last = [hanging.threads.submit(threading.get_ident) for _ in range(3)]
        assert not any(job.running() or job.done() for job in last)
        hanging.free.set()
        await asyncio.gather(*first)
        assert {job.result(HANGS) for job in last} <= {thread.ident for thread in hanging.threads._threads}
        assert len(hanging.threads._threads) == 2
    assert caplog.messages == ["under-test: all 2 threads are taken; what comes now waits until one is free"]


async def test_a_thread_whose_function_was_let_go_of_is_replaced() -> None:
    """What waits is called although functions that nobody waits for any more have all threads."""
    with threads_of(2) as hanging:
        tasks = [await hanging.begin(), await hanging.begin()]
        waits = hanging.threads.submit(lambda: "called")
        hanging.threads.let_go(tasks[0])
        assert await asyncio.wrap_future(waits) == "called"
        hanging.threads.let_go(tasks[0])
        hanging.threads.let_go(tasks[1])
        assert hanging.threads.left == 2
        assert len({await called(hanging.threads) for _ in range(4)}) <= 2


async def test_a_replaced_thread_ends_with_its_function() -> None:
    """When functions that were let go of have ended, there are no more threads than before."""
    with threads_of(1) as hanging:
        for _ in range(3):
            hanging.threads.let_go(await hanging.begin())
        await called(hanging.threads)
        assert len(hanging.threads._threads) == 4
        hanging.free.set()
        await until(lambda: not hanging.threads.left and len(hanging.threads._threads) == 1, "they have ended")
        assert await called(hanging.threads)


async def test_functions_are_refused_where_those_that_hang_have_all_threads(caplog: pytest.LogCaptureFixture) -> None:
    """Where no thread will ever be free, what waits and what comes fails at once, the log says why, and it all ends
    with the first function that does.
    """
    with threads_of(1, most_left=1) as hanging:
        hanging.threads.let_go(await hanging.begin())
        last = await hanging.begin()
        waits = hanging.threads.submit(lambda: "called")
        hanging.threads.let_go(last)
        with pytest.raises(NoThread, match="2 functions run on"):
            await asyncio.wrap_future(waits)
        with pytest.raises(NoThread):
            hanging.threads.submit(lambda: "called")
        assert "under-test: 2 functions run on although nobody waits for them; no other is called" in caplog.messages
        hanging.free.set()
        await until(lambda: not hanging.threads.left, "they have ended")
        assert await called(hanging.threads)


async def test_a_process_that_can_have_no_other_thread_uses_those_that_it_has(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a thread can't be made, a function waits for one that is there, and is refused where there is none."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with threads_of(2) as hanging:
        task = await hanging.begin()
        monkeypatch.setattr(threading.Thread, "start", refuse)
        waits = hanging.threads.submit(lambda: "called")
        hanging.free.set()
        await task
        assert await asyncio.wrap_future(waits) == "called"
    with threads_of(2) as hanging, pytest.raises(NoThread):
        hanging.threads.submit(lambda: "called")
    assert "under-test: a thread could not be made: can't start new thread" in caplog.messages


async def test_what_waits_and_is_cancelled_is_not_let_go_of() -> None:
    """A function that was never called has no thread to replace."""
    with threads_of(1) as hanging:
        first = await hanging.begin()
        second = hanging.waiting()
        await asyncio.sleep(0)
        second.cancel()
        hanging.threads.let_go(second)
        assert hanging.threads.left == 0
        hanging.free.set()
        await first


async def test_a_shutdown_calls_nothing_more() -> None:
    """After a shutdown what waits is cancelled, what comes is refused, and every thread ends with its function."""
    with threads_of(1) as hanging:
        first = await hanging.begin()
        waits = hanging.threads.submit(lambda: "called")
        assert all(thread.daemon for thread in hanging.threads._threads), "they keep no process alive"
        hanging.threads.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(CancelledError):
            waits.result(HANGS)
        with pytest.raises(RuntimeError, match="any more"):
            hanging.threads.submit(lambda: "called")
        hanging.free.set()
        await first
        await until(lambda: not hanging.threads._threads, "the thread ends")
