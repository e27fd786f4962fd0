"""The search in a process of its own: a task as JSON on stdin, and lines of JSON on stdout."""

from __future__ import annotations

import json
import resource
import sys
import time
from contextlib import suppress
from typing import Any

from stepwire_server.supervisor.synthesis.search import Search, Task
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
    start = time.monotonic()
    # Half of the time for what the types of the examples suggest, the other half for more.
    for widely in (False, True):
        end = start + job["seconds"] * (1 if widely else 0.5)
        try:
            if _search(task, job["room"], start, end, widely=widely):
                return
        except (Unsupported, ValueError) as error:
            _say(problem=str(error))
            return
        except (MemoryError, RecursionError):
            continue
    _say(problem="nothing fits within the limits")


def _search(task: Task, room: int, start: float, end: float, *, widely: bool) -> bool:
    search = Search(task, widely=widely, room=room, expired=lambda: time.monotonic() >= end)
    for found in search.levels():
        _say(size=search.size, tried=search.tried, seconds=round(time.monotonic() - start, 3), widely=widely)
        if found is not None:
            _say(source=found.source, size=found.size, leaves=found.leaves)
            return True
    return False


def _say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
