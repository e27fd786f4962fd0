"""HTTP/2 by hand, as bytes: a flood has to be quicker than a library would be, and to say what none would."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from typing import Self

__all__ = [
    "CONTINUATION",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "HEADERS",
    "PING",
    "PREFACE",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "Connection",
    "call_headers",
    "frame",
    "literal",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM = ACK = 1
END_HEADERS = 4
_CODES = {0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 3: "FLOW_CONTROL_ERROR", 11: "ENHANCE_YOUR_CALM"}


_PATIENCE = 5.0


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Returns a header that enters no table, so that the same bytes serve for every stream. Both are short."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def call_headers(method: str, *more: bytes) -> bytes:
    """Returns the header block of a call of the service, or of the path that `method` is."""
    path = method if method.startswith("/") else "/stepwire.v1.ExecutionService/" + method
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path.encode(), b":authority": b"test"}
    fields |= {b"content-type": b"application/grpc", b"te": b"trailers"}
    return b"".join(literal(name, value) for name, value in fields.items()) + b"".join(more)


class Connection:
    """One connection that writes what it is told and answers as little as it must: SETTINGS and PING."""

    def __init__(self, address: str, said: Counter[str], *, settings: bytes = b"", hello: bool = True) -> None:
        """`said`: gets what the server says, by kind. Without `hello` not a byte is sent."""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), 10)
        # For writing too; who reads waits for longer than any flood lasts.
        self._socket.settimeout(_PATIENCE)
        self._said = said
        self._lock = threading.Lock()
        self._owed: list[bytes] = []
        self._thread: threading.Thread | None = None
        self.stream = -1
        if hello:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._thread is not None:
            self._thread.join(5)

    def next_stream(self) -> int:
        """Returns the number of a new stream."""
        self.stream += 2
        return self.stream

    def send(self, data: bytes) -> None:
        """Sends all of it. Raises OSError where the server has hung up, or takes nothing for some seconds."""
        with self._lock:
            self._socket.sendall(data)
            while self._owed:
                self._socket.sendall(self._owed.pop())

    def _answer(self, data: bytes) -> None:
        # Whoever reads does not wait for who writes: the server would wait for both.
        self._owed.append(data)
        if self._lock.acquire(blocking=False):
            try:
                self._socket.sendall(self._owed.pop())
            finally:
                self._lock.release()

    def _read(self) -> None:
        received = bytearray()
        with contextlib.suppress(OSError):
            while True:
                try:
                    data = self._socket.recv(1 << 16)
                except TimeoutError:
                    continue
                if not data:
                    return
                received += data
                while len(received) >= 9 and len(received) >= 9 + int.from_bytes(received[:3], "big"):
                    size = int.from_bytes(received[:3], "big")
                    self._take(bytes(received[3:9]), bytes(received[9 : 9 + size]))
                    del received[: 9 + size]

    def _take(self, head: bytes, payload: bytes) -> None:
        kind, flags, _ = struct.unpack(">BBI", head)
        if kind in (SETTINGS, PING) and not flags & ACK:
            self._answer(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == GOAWAY:
            code = int.from_bytes(payload[4:8], "big")
            self._said[f"GOAWAY {_CODES.get(code, code)} {payload[8:80].decode(errors='replace')}".strip()] += 1
        elif kind == RST_STREAM:
            self._said["RST_STREAM"] += 1
        elif kind == HEADERS and flags & END_STREAM:
            self._said["status"] += 1
        elif kind == DATA:
            self._said["bytes"] += len(payload)
