"""Says that the server is gone, and that it is back, while a run is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stepwire.run import BaseRun

__all__ = ["BACK", "DRAINING", "LOST", "OutageWatch"]

LOST = "connection lost, trying again (Ctrl-C leaves; the execution goes on)"
DRAINING = "the server is going; reconnecting (Ctrl-C leaves; the execution goes on)"
BACK = "connected again"

_BEFORE_TELLING = 1.0
"""Seconds. A shorter outage is nobody's concern."""
_INTERVAL = 0.2


class OutageWatch:
    """Looks at a run's outage from a thread of its own, because the one that reads the run waits for events."""

    def __init__(self, run: BaseRun, tell: Callable[[str], None]) -> None:
        self._run = run
        self._tell = tell
        self._told = False
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
                if self._told:
                    self._told = False
                    self._tell(BACK)
            elif not self._told and time.monotonic() - outage.since >= _BEFORE_TELLING:
                self._told = True
                self._tell(DRAINING if outage.draining else LOST)

    def _watch(self) -> None:
        while not self._left.wait(_INTERVAL):
            self.look()
