"""Whether operations may start programs: an author's app asks where it starts."""

from __future__ import annotations

import asyncio

__all__ = ["check_programs"]


def check_programs(what: str) -> None:
    """Raises ValueError where programs can't be started safely by the event loop that runs: `what` starts some.

    uvloop runs Python code in a new process before the program begins (MagicStack/uvloop#749), and other threads do not
    exist there: one program in some dies at once, of a segmentation fault.
    """
    if type(asyncio.get_running_loop()).__module__.partition(".")[0] == "uvloop":
        raise ValueError(f"{what} can't be started safely on uvloop; serve the app with --loop asyncio")
