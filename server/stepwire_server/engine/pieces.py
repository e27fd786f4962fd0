"""What an attempt of a step streams: pieces of channels, each with its place in its channel."""

from __future__ import annotations

from collections.abc import Callable, Container

from stepwire.v1 import Content, Event

__all__ = ["Pieces"]

_KEPT_BYTES = 8192
"""Bytes of pieces that one message is filled with, one after the other: that costs each a fifth of a
message of its own. But a message lets go of none of them before it goes itself.
"""


class Pieces:
    """Makes the events of an attempt's pieces. `event` gives one about the step."""

    __slots__ = ("_about", "_content", "_event", "_new", "_offsets", "_room")

    def __init__(self, event: Callable[[], Event]) -> None:
        self._new = event
        self._offsets: dict[str, int] = {}
        self._about = ("", "")
        self._room = -1  # bytes left in the message that is filled anew; there is none yet

    @property
    def channels(self) -> Container[str]:
        """Those that have begun."""
        return self._offsets

    def event(self, piece: str | bytes, *, channel: str, media_type: str) -> Event:
        """Returns the event of the next piece of a channel. It must be recorded before the next one is made, with
        nothing in between: pieces of two tasks share no offset, and stand in the order of their offsets.
        """
        size = len(piece) if isinstance(piece, bytes) or piece.isascii() else len(piece.encode())
        room = self._room - size
        about = (channel, media_type)
        if room < 0 or about != self._about:
            event, content = self._begin(about, size)
        else:
            event, content, self._room = self._event, self._content, room
        if isinstance(piece, str):
            content.text = piece
        else:
            content.data = piece
        content.offset = offset = self._offsets.get(channel, 0)
        self._offsets[channel] = offset + size
        return event

    def _begin(self, about: tuple[str, str], size: int) -> tuple[Event, Content]:
        """Returns a message of its own, which is kept in place of the last where there is room in it for more."""
        event = self._new()
        content = event.content
        content.channel, content.media_type = about
        if size < _KEPT_BYTES:
            self._event, self._content, self._about = event, content, about
            self._room = _KEPT_BYTES - size
        return event, content
