"""What the C library has given out to this process: what is in use, where resident memory is what once was."""

from __future__ import annotations

import ctypes

__all__ = ["in_use"]

_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Held(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS.split()]


def in_use() -> int | None:
    """Returns the bytes that are given out and not given back; None where the library is not glibc from 2.33 on."""
    try:
        count = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    count.restype = _Held
    held = count()
    return int(held.uordblks + held.hblkhd)
