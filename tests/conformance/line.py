"""The line between client and server: follows HTTP/2's frames, and cuts a connection at a chosen byte of a message."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator

from tests.e2e.proxy import Link, Treatment, Way

__all__ = ["Frames", "Line"]

DATA, RST_STREAM, GOAWAY = 0, 3, 7

_PREFACE = 24  # bytes that a client sends before its first frame
_HEAD = 9  # bytes of a frame's head


class Frames:
    """Follows the frames of one way of one connection."""

    def __init__(self, way: Way) -> None:
        self.begun: Counter[int] = Counter()
        """Frames that have begun, by type."""
        self.payload = 0
        """Bytes of messages that have passed: with the five that stand before each message."""
        self._skipped = _PREFACE if way == "to_server" else 0
        self._head = b""
        self._left = 0
        self._type = -1

    def follow(self, data: bytes, *, until: int | None = None) -> int:
        """Takes bytes that pass, until `payload` is `until`. Returns how many of them those were."""
        place = 0
        while place < len(data) and (until is None or self.payload < until):
            if self._skipped:
                step = min(self._skipped, len(data) - place)
                self._skipped -= step
            elif self._left:
                step = min(self._left, len(data) - place)
                if self._type == DATA:
                    step = step if until is None else min(step, until - self.payload)
                    self.payload += step
                self._left -= step
            else:
                taken = data[place : place + _HEAD - len(self._head)]
                step = len(taken)
                self._take_head(taken)
            place += step
        return place

    def _take_head(self, taken: bytes) -> None:
        self._head += taken
        if len(self._head) == _HEAD:
            self._left = int.from_bytes(self._head[:3], "big")
            self._type = self._head[3]
            self.begun[self._type] += 1
            self._head = b""


class Line(Treatment):
    """Passes bytes on, and knows what passed."""

    def __init__(self) -> None:
        self._frames: defaultdict[Link, dict[Way, Frames]] = defaultdict(
            lambda: {"to_server": Frames("to_server"), "from_server": Frames("from_server")}
        )
        self._cuts: dict[Link, int] = {}

    def cut(self, link: Link, *, at: int) -> None:
        """Cuts a connection when so many bytes of messages have come over it from the server since it began."""
        self._cuts[link] = at

    def cut_now(self, link: Link) -> None:
        """Cuts a connection."""
        self._cuts[link] = 0
        link.cut()

    def was_cut(self, link: Link) -> bool:
        """Tells whether we ended the connection."""
        return link in self._cuts and self._frames[link]["from_server"].payload >= self._cuts[link]

    def ends_of_client(self, link: Link) -> int:
        """Returns how often the client said that it ends a call, or all of them."""
        begun = self._frames[link]["to_server"].begun
        return begun[RST_STREAM] + begun[GOAWAY]

    async def pieces(self, data: bytes, *, way: Way, link: Link) -> AsyncIterator[bytes]:
        until = self._cuts.get(link) if way == "from_server" else None
        frames = self._frames[link][way]
        yield data[: frames.follow(data, until=until)]
        if until is not None and frames.payload >= until:
            link.cut()
