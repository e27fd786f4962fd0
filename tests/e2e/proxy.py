"""A TCP proxy that counts the bytes, and does to connections what networks do.

    async with Proxy(server.address) as proxy:
        client = Client(proxy.address)
        ...
        proxy.reset()                     # now
        shot = proxy.reset_after(5_000)   # within the bytes that the server sends next
        await shot

What happens to the bytes on their way is a Treatment; this one passes them on. A suite that needs more (a black hole, a
slow line, a line that delivers byte by byte) writes another and sets `proxy.treatment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Literal, Self

__all__ = ["Link", "Proxy", "Treatment", "Way"]

Way = Literal["to_server", "from_server"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_READ = 64 * 1024
_HEAD = 9  # bytes of an HTTP/2 frame's head
_DATA = 0  # the type of an HTTP/2 frame that carries messages


class Treatment:
    """What happens to bytes on their way: this one passes them on as they come."""

    async def pieces(self, data: bytes, *, way: Way, link: Link) -> AsyncIterator[bytes]:
        """Gives the pieces to pass on, when it is time for each. Nothing: they are lost."""
        yield data


class Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.to_server = 0
        """Bytes that the client sent."""
        self.from_server = 0
        """Bytes that the server sent."""
        self.messages_begun = 0
        """HTTP/2 DATA frames that the server began to send. More than none: a stream is open."""
        self.open = True
        """False once it has ended, whoever ended it."""
        self.was_reset = False
        """True where the proxy reset it."""
        self._writers = (client, server)
        self._frame_left = 0
        self._head = b""

    def count(self, data: bytes, *, way: Way) -> int:
        """Counts bytes. Returns how many of them, at their end, came after the first message began."""
        if way == "to_server":
            self.to_server += len(data)
            return 0
        self.from_server += len(data)
        if self.messages_begun:
            self._follow_frames(data)
            return len(data)
        return self._follow_frames(data)

    def reset(self) -> bool:
        """Resets both ends (SO_LINGER 0). Returns False where it had ended."""
        if not self.open:
            return False
        self.open, self.was_reset = False, True
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()
        return True

    def cut(self) -> None:
        """Ends both ends at once. What is on its way is lost."""
        self.open = False
        for writer in self._writers:
            writer.transport.abort()

    def _follow_frames(self, data: bytes) -> int:
        """Walks the heads of HTTP/2 frames. Returns how many bytes came after the head of the first DATA frame."""
        place, after = 0, 0
        while place < len(data):
            if self._frame_left:
                step = min(self._frame_left, len(data) - place)
                self._frame_left -= step
                place += step
                continue
            taken = data[place : place + _HEAD - len(self._head)]
            self._head += taken
            place += len(taken)
            if len(self._head) == _HEAD:
                self._frame_left = int.from_bytes(self._head[:3], "big")
                if self._head[3] == _DATA:
                    if not self.messages_begun:
                        after = len(data) - place
                    self.messages_begun += 1
                self._head = b""
        return after


class Proxy:
    """Passes connections on to HOST:PORT. Lives in one event loop."""

    def __init__(self, target: str, *, treatment: Treatment | None = None) -> None:
        self.treatment = treatment or Treatment()
        """What happens to bytes from now on."""
        self.links: list[Link] = []
        """Every connection that there was, the newest last."""
        self.resets = 0
        """Connections that were reset while a stream was open on them."""
        self.address = ""
        """HOST:PORT, once it listens."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._shot: asyncio.Future[Link] | None = None
        self._shot_left = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self.links:
            link.cut()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    @property
    def to_server(self) -> int:
        """Bytes that clients sent."""
        return sum(link.to_server for link in self.links)

    @property
    def from_server(self) -> int:
        """Bytes that the server sent."""
        return sum(link.from_server for link in self.links)

    def reset(self) -> int:
        """Resets all connections that are open now, and returns how many."""
        return sum(self._reset(link) for link in self.links)

    def reset_after(self, count: int) -> asyncio.Future[Link]:
        """Resets a connection when the server has sent so many more bytes over it; those pass before. Counts only where
        a stream is open, so that there is something to break, and over all connections. The future tells which it was.
        """
        assert self._shot is None, "one reset waits already"
        self._shot, self._shot_left = asyncio.get_running_loop().create_future(), count
        return self._shot

    def _reset(self, link: Link) -> bool:
        if link.reset() and link.messages_begun:
            self.resets += 1
        return link.was_reset

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, server_writer)
        self.links.append(link)
        pumps = [
            asyncio.create_task(self._pump(link, reader, server_writer, way="to_server")),
            asyncio.create_task(self._pump(link, server_reader, writer, way="from_server")),
        ]
        # Where one end has gone, the other is of no use: HTTP/2 has no half connections.
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        link.cut()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, way: Way) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ):
                hit = self._hit(link, data, way=way)
                async for piece in self.treatment.pieces(data if hit is None else data[:hit], way=way, link=link):
                    writer.write(piece)
                    await writer.drain()
                if hit is not None:
                    self._fire(link)
                    return

    def _hit(self, link: Link, data: bytes, *, way: Way) -> int | None:
        """Counts the data. Returns how much of it passes before the reset that waits; None: all, and no reset."""
        counted = link.count(data, way=way)
        if self._shot is None or way == "to_server" or not link.messages_begun:
            return None
        if counted < self._shot_left:
            self._shot_left -= counted
            return None
        return len(data) - counted + self._shot_left

    def _fire(self, link: Link) -> None:
        shot, self._shot = self._shot, None
        self._reset(link)
        if shot is not None and not shot.done():
            shot.set_result(link)
