"""The floods, each in a process of its own so that it does not slow down who measures.

    python -m tests.faults.hostile.floods "rapid reset" 127.0.0.1:50051

Goes on until its standard input ends; then prints as JSON how much it sent and what the server said.
"""

from __future__ import annotations

import contextlib
import json
import resource
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from stepwire.v1 import GetServerInfoRequest, WatchExecutionRequest

from .frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Connection,
    call_headers,
    frame,
    literal,
)

__all__ = ["FLOODS", "Flood"]

_CANCEL = struct.pack(">I", 8)
_NO_WINDOW = struct.pack(">HI", 4, 0)
_MANY = 1_000


class Flood:
    """What a flood works with: where to, until when, and what was sent and said."""

    def __init__(self, address: str, execution_id: str) -> None:
        self.address = address
        self.execution_id = execution_id
        """Of a long execution that has ended."""
        self.over = threading.Event()
        self.sent = 0
        self.connections = 0
        self.said: Counter[str] = Counter()

    def connect(self, **more: object) -> Connection:
        """Returns a new connection."""
        made = Connection(self.address, self.said, **more)  # type: ignore[arg-type]
        self.connections += 1
        return made

    def pour(self, make: Callable[[Connection], tuple[int, bytes]], *, pause: float = 0.0) -> None:
        """Sends what `make` makes, (how many, their bytes), again and again, and on a new connection where needed."""
        while not self.over.is_set():
            try:
                with self.connect() as connection:
                    while not self.over.is_set():
                        count, data = make(connection)
                        connection.send(data)
                        self.sent += count
                        if pause:
                            self.over.wait(pause)
            except OSError:
                self.said["hung up"] += 1

    def hold(self, count: int, make: Callable[[], Connection]) -> None:
        """Keeps so many connections open."""
        with ExitStack() as stack:
            for _ in range(count):
                if self.over.is_set():
                    break
                stack.enter_context(make())
                self.sent += 1
            self.over.wait()


def _rapid_reset(flood: Flood) -> None:
    block = call_headers("GetServerInfo")

    def pairs(connection: Connection) -> tuple[int, bytes]:
        streams = [connection.next_stream() for _ in range(50)]
        return 50, b"".join(
            frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, _CANCEL) for stream in streams
        )

    flood.pour(pairs)


def _rapid_reset_with_requests(flood: Flood) -> None:
    block = call_headers("GetServerInfo")
    body = b"\0" + struct.pack(">I", 0) + GetServerInfoRequest().SerializeToString()

    def triples(connection: Connection) -> tuple[int, bytes]:
        streams = [connection.next_stream() for _ in range(50)]
        return 50, b"".join(
            frame(HEADERS, END_HEADERS, stream, block)
            + frame(DATA, END_STREAM, stream, body)
            + frame(RST_STREAM, 0, stream, _CANCEL)
            for stream in streams
        )

    flood.pour(triples)


def _calls_without_a_request(flood: Flood) -> None:
    block = call_headers("StartExecution")

    def calls(connection: Connection) -> tuple[int, bytes]:
        streams = [connection.next_stream() for _ in range(20)]
        return 20, b"".join(frame(HEADERS, END_HEADERS | END_STREAM, stream, block) for stream in streams)

    flood.pour(calls)


def _pings(flood: Flood) -> None:
    flood.pour(lambda _: (200, frame(PING, 0, 0, bytes(8)) * 200))


def _settings(flood: Flood) -> None:
    flood.pour(lambda _: (200, frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 200))


def _priorities(flood: Flood) -> None:
    flood.pour(lambda _: (200, frame(PRIORITY, 0, 1, bytes(5)) * 200))


def _empty_data(flood: Flood) -> None:
    block = call_headers("StartExecution")

    def pieces(connection: Connection) -> tuple[int, bytes]:
        begin = b"" if connection.stream > 0 else frame(HEADERS, END_HEADERS, connection.next_stream(), block)
        return 200, begin + frame(DATA, 0, connection.stream, b"") * 200

    flood.pour(pieces)


def _continuations(flood: Flood) -> None:
    more = literal(b"x", b"y" * 100) * 10

    def pieces(connection: Connection) -> tuple[int, bytes]:
        begin = b""
        if connection.stream < 0:
            begin = frame(HEADERS, 0, connection.next_stream(), call_headers("StartExecution"))
        return 20, begin + frame(CONTINUATION, 0, connection.stream, more) * 20

    flood.pour(pieces)


def _empty_continuations(flood: Flood) -> None:
    def pieces(connection: Connection) -> tuple[int, bytes]:
        begin = b""
        if connection.stream < 0:
            begin = frame(HEADERS, 0, connection.next_stream(), call_headers("StartExecution"))
        return 200, begin + frame(CONTINUATION, 0, connection.stream) * 200

    flood.pour(pieces)


def _garbage_connections(flood: Flood) -> None:
    while not flood.over.is_set():
        with contextlib.suppress(OSError), flood.connect(hello=False) as connection:
            connection.send(b"\xff" * 64)
            flood.sent += 1


def _silent_connections(flood: Flood) -> None:
    flood.hold(_MANY, lambda: flood.connect(hello=False))


def _half_open_calls(flood: Flood) -> None:
    block = call_headers("StartExecution")

    def begin() -> Connection:
        connection = flood.connect()
        for _ in range(_MANY // 10):
            connection.send(frame(HEADERS, END_HEADERS, connection.next_stream(), block))
        return connection

    flood.hold(10, begin)
    flood.sent *= _MANY // 10


def _slow_bodies(flood: Flood) -> None:
    block = call_headers("StartExecution")

    def pieces(connection: Connection) -> tuple[int, bytes]:
        data = b""
        if connection.stream < 0:
            for _ in range(_MANY):
                data += frame(HEADERS, END_HEADERS, connection.next_stream(), block)
                # 4 MiB are to come.
                data += frame(DATA, 0, connection.stream, b"\0\0\x40\0\0")
        return _MANY, data + b"".join(frame(DATA, 0, stream, b"x") for stream in range(1, connection.stream + 1, 2))

    flood.pour(pieces, pause=0.1)


def _windows_that_never_open(flood: Flood) -> None:
    request = WatchExecutionRequest(execution_id=flood.execution_id).SerializeToString()
    body = b"\0" + struct.pack(">I", len(request)) + request
    block = call_headers("WatchExecution")

    def begin() -> Connection:
        connection = flood.connect(settings=_NO_WINDOW)
        for _ in range(_MANY // 10):
            stream = connection.next_stream()
            connection.send(frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, body))
        return connection

    flood.hold(10, begin)
    flood.sent *= _MANY // 10


def _windows_that_open_by_a_byte(flood: Flood) -> None:
    request = WatchExecutionRequest(execution_id=flood.execution_id).SerializeToString()
    body = b"\0" + struct.pack(">I", len(request)) + request
    block = call_headers("WatchExecution")

    def pieces(connection: Connection) -> tuple[int, bytes]:
        data = b""
        if connection.stream < 0:
            data = frame(SETTINGS, 0, 0, _NO_WINDOW)
            for _ in range(100):
                stream = connection.next_stream()
                data += frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, body)
        byte = struct.pack(">I", 1)
        streams = range(1, connection.stream + 1, 2)
        return 100, data + b"".join(frame(WINDOW_UPDATE, 0, stream, byte) for stream in streams)

    flood.pour(pieces, pause=0.01)


def _prefaces(flood: Flood) -> None:
    while not flood.over.is_set():
        with contextlib.suppress(OSError), flood.connect(hello=False) as connection:
            connection.send(PREFACE + frame(SETTINGS, 0, 0))
            flood.sent += 1


FLOODS: Mapping[str, Callable[[Flood], None]] = {
    "rapid reset": _rapid_reset,
    "rapid reset, with requests": _rapid_reset_with_requests,
    "calls without a request": _calls_without_a_request,
    "pings": _pings,
    "SETTINGS": _settings,
    "PRIORITY": _priorities,
    "empty DATA": _empty_data,
    "CONTINUATION": _continuations,
    "empty CONTINUATION": _empty_continuations,
    "connections that send garbage": _garbage_connections,
    "connections that come and go": _prefaces,
    "1,000 silent connections": _silent_connections,
    "1,000 half-open calls": _half_open_calls,
    "1,000 slow bodies": _slow_bodies,
    "1,000 streams without a window": _windows_that_never_open,
    "100 streams whose windows open by a byte": _windows_that_open_by_a_byte,
}
"""By name."""


def main(name: str, address: str, execution_id: str) -> None:
    """Runs one flood until standard input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4_096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    flood = Flood(address, execution_id)
    thread = threading.Thread(target=FLOODS[name], args=[flood], daemon=True)
    thread.start()
    sys.stdin.read()
    flood.over.set()
    thread.join(10)
    print(json.dumps({"sent": flood.sent, "connections": flood.connections, "said": flood.said}))


if __name__ == "__main__":
    main(*sys.argv[1:])
