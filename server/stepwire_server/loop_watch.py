"""Finds code that holds up the event loop, and says which: a thread asks the loop for a sign of life again and again.

An `async def` that computes or waits without awaiting lets nothing else run: no stream, no other step, no drain.
Everything is late then, and nothing else says why.

The thread is of the same process, so it stands still too where the process is frozen or gets no processor. Time that
passes then is nobody's fault, and is not counted: a look that comes late counts as little, unless the process was at
work meanwhile, as it is where code that is not Python's holds up all threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType
from typing import Any

__all__ = ["BLOCKED_AFTER", "Blocked", "LoopWatch"]

_log = logging.getLogger(__name__)

BLOCKED_AFTER = 1.0
"""Seconds without a sign of life, by default, after which the loop is said to be blocked."""

_LOOKS = 4
"""Looks while that time passes: what is found is exact to one of them, and each wakes an idle server for a moment."""

_LATE = 2.0
"""How late a look may be, in times of what it should be: what is beyond that is not counted."""

_ENGINE = "stepwire_server.engine."
_LIBRARY = os.path.dirname(os.__file__) + os.sep


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """What a watch has found so far."""

    count: int = 0
    """How often the loop was blocked."""
    longest: float = 0.0
    """Seconds that the longest took, exact to a quarter of the bound; of one that lasts, those so far."""


class LoopWatch:
    """Watches the loop that `start` is called in, until `stop`.

    `after`: seconds that the loop must be blocked for to be found. `now`: a clock that never goes back. `worked`: the
    processor's seconds that this process has had.
    """

    def __init__(
        self,
        *,
        after: float = BLOCKED_AFTER,
        now: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.process_time,
    ) -> None:
        self._after = after
        self._interval = after / _LOOKS
        self._now = now
        self._worked = worked
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._asked = False
        # Written by the loop's thread, and by the other one only while nothing is asked.
        self._answered: float | None = None
        self._looked = now()
        self._had_worked = worked()
        self._stood = 0.0
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._places: dict[str, str] = {}
        self._told = False
        self.blocked = Blocked()
        """What was found so far. Replaced, never changed: any thread may read it."""

    def start(self) -> None:
        """Begins to watch the running loop, in a thread that keeps no process alive."""
        self.attach()
        self._over.clear()
        self._thread = threading.Thread(target=self._run, name="stepwire-loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread. Does nothing where there is none."""
        self._over.set()
        if self._thread is not None:
            # It may be writing to a log that takes nothing more; then it is left behind.
            self._thread.join(1.0)
            self._thread = None

    def attach(self) -> None:
        """Names the running loop, which this is called in, as the one to `look` at, and asks it for its first sign."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._forget()
        self.look()

    def look(self) -> None:
        """Looks once whether the loop has given the sign that it was asked for last, and asks for the next one. Raises
        RuntimeError where the loop is closed.
        """
        assert self._loop is not None, "attach comes first"
        answered, now, worked = self._answered, self._now(), self._worked()
        held = 0.0
        if self._asked:
            passed = (now if answered is None else answered) - self._looked
            counted = min(max(passed, 0.0), max(self._interval * _LATE, worked - self._had_worked))
            self._stood += counted
            if answered is not None:
                self._went_on()
                # Code that lets no thread run keeps also this one from asking: then it comes late, and nobody froze it.
                held = min(now - answered, worked - self._had_worked) - self._interval
            elif (found := self._find()) is not None:
                self._stands(*found, counted)
        self._looked, self._had_worked = now, worked
        if not self._asked:
            self._asked = True
            self._loop.call_soon_threadsafe(self._answer)
            if held >= self._interval:
                self._stood = held
                if (found := self._find()) is not None:
                    self._stands(*found, held)

    def _run(self) -> None:
        try:
            while not self._over.wait(self._interval):
                self.look()
        except Exception:
            # Where the loop is closed, there is nothing to watch any more.
            if self._loop is None or not self._loop.is_closed():
                _log.exception("a bug in the watch over the event loop; it is not watched any more")

    def _answer(self) -> None:
        self._answered = self._now()

    def _forget(self) -> None:
        self._asked, self._answered, self._stood, self._told = False, None, 0.0, False
        self._seconds.clear()
        self._places.clear()

    # -- what is found

    def _stands(self, name: str, place: str, seconds: float) -> None:
        self._seconds[name] += seconds
        self._places[name] = place
        if self._told:
            self._note()
        elif self._stood >= self._after:
            self._told = True
            self._note(more=1)
            _log.warning(
                "the event loop has been blocked for %.1f s by %s; what blocks belongs in an operation that is a plain "
                "def, or in asyncio.to_thread",
                self._stood,
                self._culprit(),
            )

    def _went_on(self) -> None:
        if self._told or self._stood >= self._after:
            self._note(more=0 if self._told else 1)
            _log.warning("the event loop goes on; it was blocked for %.1f s by %s", self._stood, self._culprit())
        self._forget()

    def _note(self, *, more: int = 0) -> None:
        self.blocked = Blocked(count=self.blocked.count + more, longest=max(self.blocked.longest, self._stood))

    def _culprit(self) -> str:
        """Returns whom to name: who was seen most of the time. Where nobody was, it is many together."""
        if not self._seconds:
            return "something that was over before it was seen"
        name, seconds = max(self._seconds.items(), key=lambda item: item[1])
        what = name or "no task but a callback, or a thread that lets no other one run"
        if seconds * 2 < sum(self._seconds.values()):
            what = f"many tasks, one after another; one is {what}"
        return f"{what}, at {self._places[name]}" if self._places[name] else what

    def _find(self) -> tuple[str, str] | None:
        """Returns which task runs, empty for none, and where it stands; None where the loop went on just now."""
        task = asyncio.current_task(self._loop)
        place = _place(sys._current_frames().get(self._loop_thread), task)
        return (task.get_name() if task else "", place) if self._answered is None else None


def _place(innermost: FrameType | None, task: asyncio.Task[Any] | None) -> str:
    """Returns where a thread stands: the innermost line of the task's own code, and where it went from there."""
    if innermost is None:
        return ""
    own = _own_frame(innermost, task)
    return _line(own) if own is innermost else f"{_line(own)}, in {_line(innermost)}"


def _own_frame(innermost: FrameType, task: asyncio.Task[Any] | None) -> FrameType:
    """Returns the innermost frame of the operation or whatever else the task runs: below the engine's own, and, where
    there is one, not in Python's library or an installed package.
    """
    outermost = getattr(task and task.get_coro(), "cr_frame", None)
    frames: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None and not frame.f_globals.get("__name__", "").startswith(_ENGINE):
        frames.append(frame)
        if frame is outermost:
            break
        frame = frame.f_back
    if frame is None or not frames:
        return innermost
    return next((each for each in frames if not _is_library(each.f_code.co_filename)), frames[-1])


def _is_library(file: str) -> bool:
    return file.startswith((_LIBRARY, "<frozen")) or not {"site-packages", "dist-packages"}.isdisjoint(
        PurePath(file).parts
    )


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, {frame.f_code.co_qualname}"
