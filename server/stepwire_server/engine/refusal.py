"""What an operation raises where nothing is wrong with itself."""

from __future__ import annotations

__all__ = ["Refused"]


class Refused(Exception):
    """An operation can't do what it was asked to. The text is for whoever asked: it says why, and what to do.

    The step fails as with any other exception, and the server's log has one line of it, with no traceback.

        raise Refused(f"there is no order {number}; `orders` lists them")
    """
