"""What networks do to connections: treatments of bytes on their way, and a cable that can be pulled out.

proxy.treatment = hole = Hole()
hole.swallow(proxy.links)              # these say nothing any more, and nothing ends
hole.open()                            # nor does what comes after them
hole.close()                           # new connections work again

with Cable() as cable:
    with cable.server_side():
        server.start()                 # processes that are started here live in the server's network
    cable.unplug()
    cable.plug()
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Self

from tests.e2e.proxy import Link, Treatment, Way
from tests.e2e.serving import not_run

__all__ = ["Cable", "Delayed", "Hole", "Sliced", "Slow"]

_CLONE_NEWNET = 0x40000000


class Hole(Treatment):
    """A line that swallows: no byte arrives any more, and nobody is told. A connection that lost bytes stays lost."""

    def __init__(self) -> None:
        self.swallowed = 0
        """Bytes."""
        self._lost: set[Link] = set()
        self._open = False

    def swallow(self, links: Iterable[Link]) -> None:
        """Lets these connections lose everything from now on."""
        self._lost |= {link for link in links if link.open}

    def open(self) -> None:
        """Lets every connection lose everything, also those that come."""
        self._open = True

    def close(self) -> None:
        """Lets new connections pass again."""
        self._open = False

    async def pieces(self, data: bytes, *, way: Way, link: Link) -> AsyncIterator[bytes]:
        if self._open:
            self._lost.add(link)
        if link in self._lost:
            self.swallowed += len(data)
        else:
            yield data


class Slow(Treatment):
    """A line of so many bytes a second, each way of each connection for itself."""

    def __init__(self, bytes_a_second: float) -> None:
        self._rate = bytes_a_second
        self._piece = max(1, int(bytes_a_second / 50))

    async def pieces(self, data: bytes, *, way: Way, link: Link) -> AsyncIterator[bytes]:
        for place in range(0, len(data), self._piece):
            piece = data[place : place + self._piece]
            await asyncio.sleep(len(piece) / self._rate)
            yield piece


class Sliced(Treatment):
    """A line that delivers bytes one by one, or a few at once."""

    def __init__(self, chance: random.Random, *, most: int = 7) -> None:
        self.pieces_made = 0
        self._chance = chance
        self._most = most

    async def pieces(self, data: bytes, *, way: Way, link: Link) -> AsyncIterator[bytes]:
        place = 0
        while place < len(data):
            size = self._chance.randint(1, self._most)
            self.pieces_made += 1
            yield data[place : place + size]
            # What follows is written by itself, and not joined to this.
            await asyncio.sleep(0)
            place += size


class Delayed(Treatment):
    """A line on which everything comes later, sometimes more and sometimes less so."""

    def __init__(self, chance: random.Random, *, seconds: float) -> None:
        self._chance = chance
        self._seconds = seconds

    async def pieces(self, data: bytes, *, way: Way, link: Link) -> AsyncIterator[bytes]:
        await asyncio.sleep(self._chance.random() * 2 * self._seconds)
        yield data


class Cable:
    """Two networks of Linux with one cable between them. Where they can't be made, the test is reported as not run."""

    SERVER = "10.213.7.1"
    CLIENT = "10.213.7.2"
    _numbers = itertools.count()

    def __init__(self) -> None:
        name = f"stepwire-{os.getpid()}-{next(self._numbers)}"
        self._names = (f"{name}-s", f"{name}-c")

    def __enter__(self) -> Self:
        server, client = self._names
        try:
            for name in self._names:
                _ip("netns", "add", name)
            _ip("-n", server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", client)
            for name, address in zip(self._names, (self.SERVER, self.CLIENT), strict=True):
                _ip("-n", name, "address", "add", f"{address}/30", "dev", "cable")
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "link", "set", "cable", "up")
        except OSError as error:
            self._remove()
            not_run(f"network namespaces can't be made here, which needs iproute2 and the rights of root: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def server_side(self) -> contextlib.AbstractContextManager[None]:
        """Processes and sockets that this thread makes meanwhile are in the server's network."""
        return _within(self._names[0])

    def client_side(self) -> contextlib.AbstractContextManager[None]:
        """The same for the clients' network."""
        return _within(self._names[1])

    def unplug(self) -> None:
        """Pulls the cable out. Nobody is told: connections stay open on both sides."""
        _ip("-n", self._names[0], "link", "set", "cable", "down")

    def plug(self) -> None:
        """Puts it back."""
        _ip("-n", self._names[0], "link", "set", "cable", "up")

    def take_address(self) -> None:
        """Takes the server's address away, the cable stays."""
        _ip("-n", self._names[0], "address", "del", f"{self.SERVER}/30", "dev", "cable")

    def give_address(self) -> None:
        """Gives it back."""
        _ip("-n", self._names[0], "address", "add", f"{self.SERVER}/30", "dev", "cable")

    def _remove(self) -> None:
        for name in self._names:
            with contextlib.suppress(OSError):
                _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=10)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextlib.contextmanager
def _within(name: str) -> Iterator[None]:
    """Moves this thread into a network. A process that it makes starts there."""
    with Path("/proc/thread-self/ns/net").open("rb") as home, Path(f"/run/netns/{name}").open("rb") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.setns(descriptor, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
