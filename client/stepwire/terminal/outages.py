"""Says that the server is gone, that streams do not come through, and that it is over, while a run is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stepwire.run import BaseRun
from stepwire.steps import Outage
from stepwire.watch import BaseWatch

__all__ = ["BACK", "DRAINING", "LOST", "POLLING", "STREAMING", "OutageWatch"]

LOST = "connection lost, trying again (Ctrl-C leaves; the execution goes on)"
DRAINING = "the server is going; reconnecting (Ctrl-C leaves; the execution goes on)"
POLLING = "polling, since streams do not come through; events may come up to 2 s late"
BACK = "connected again"
STREAMING = "streams come through again"

_BEFORE_TELLING = 1.0
"""Seconds. A shorter outage is nobody's concern."""
_INTERVAL = 0.2


class OutageWatch:
    """Looks at a run's outage from a thread of its own, because the one that reads the run waits for events."""

    def __init__(self, run: BaseRun | BaseWatch, tell: Callable[[str], None]) -> None:
        self._run = run
        self._tell = tell
        self._told: str | None = None
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stepwire-outages", daemon=True)

    def __enter__(self) -> OutageWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._thread.join()

    def look(self) -> None:
        """Tells what has changed. Call it before an event is shown: then the order is right."""
        with self._lock:
            outage = self._run.outage
            if outage is None:
                told, self._told = self._told, None
                if told:
                    self._tell(STREAMING if told == POLLING else BACK)
            elif time.monotonic() - outage.since >= _BEFORE_TELLING:
                text = _text(outage)
                if self._told is None or (self._told == POLLING) != outage.polling:
                    self._told = text
                    self._tell(text)

    def _watch(self) -> None:
        while not self._left.wait(_INTERVAL):
            self.look()


def _text(outage: Outage) -> str:
    if outage.polling:
        return POLLING
    return DRAINING if outage.draining else LOST
