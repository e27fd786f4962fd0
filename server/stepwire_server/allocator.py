"""Has the C library's allocator give back what is not in use, in a process that runs for months."""

from __future__ import annotations

import ctypes
import os

__all__ = ["use_one_arena"]

_M_ARENA_MAX = -8
"""glibc's malloc.h."""

_CHOSEN = {"MALLOC_ARENA_MAX": "", "GLIBC_TUNABLES": "glibc.malloc.arena_max"}
"""The variables by which an operator chooses, and what stands in their values then."""


def use_one_arena() -> bool:
    """Has all threads share one arena from now on. Returns False, and changes nothing, where the environment says how
    many there are to be, and where the C library is not glibc.

    glibc gives threads arenas of their own, up to eight for each core, and what was freed in one serves no other. A
    server grew by 150 KiB with each thousand executions, for an hour, while what was in use stayed the same. Nearly all
    that is small comes from Python's own allocator, so that one arena's lock is enough.
    """
    if any(name in os.environ and value in os.environ[name] for name, value in _CHOSEN.items()):
        return False
    try:
        choose = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(choose(_M_ARENA_MAX, 1))
