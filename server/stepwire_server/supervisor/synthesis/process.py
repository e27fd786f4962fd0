"""The search in a process of its own: a task as JSON on stdin, and lines of JSON on stdout."""

from __future__ import annotations

import heapq
import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stepwire_server.supervisor.synthesis.search import Found, Search, Task
from stepwire_server.supervisor.synthesis.values import Unsupported

__all__ = ["main"]


def main() -> None:
    """Searches, says after each level how far it is, and at last what it found: `source`, or `problem`."""
    job = json.load(sys.stdin)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
    task = Task(
        name=job["name"],
        parameters=tuple(job["parameters"]),
        examples=tuple((tuple(arguments), wanted) for arguments, wanted in job["examples"]),
        words=job["words"],
    )
    try:
        _search(task, job["room"], job["seconds"])
    except (Unsupported, ValueError) as error:
        _say(problem=str(error))
    except (MemoryError, RecursionError):
        _say(problem="the search takes too much memory")


def _search(task: Task, room: int, seconds: float) -> None:
    """Searches among what the types of the examples suggest and, in turns, among more: both have as much time."""
    start = time.monotonic()
    searches = [Search(task, room=room, widely=widely, expired=_after(start + seconds)) for widely in (False, True)]
    if searches[0].is_wide:
        searches.pop()
    running = [(0.0, number, search, search.levels()) for number, search in enumerate(searches)]
    while running:
        spent, number, search, levels = heapq.heappop(running)
        before = time.monotonic()
        found = next(levels, _NOTHING_MORE)
        now = time.monotonic()
        told = {"tried": sum(each.tried for each in searches), "seconds": round(now - start, 3)}
        if isinstance(found, Found):
            _say(source=found.source, size=found.size, leaves=found.leaves, **told)
            return
        _say(size=search.size, widely=number == 1, **told)
        # When the time is over, a search still gives what it had found and would have liked to be shorter.
        if found is None:
            heapq.heappush(running, (spent + now - before, number, search, levels))
    _say(problem="nothing fits within the limits")


_NOTHING_MORE = "nothing more"


def _after(end: float) -> Callable[[], bool]:
    return lambda: time.monotonic() >= end


def _say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
