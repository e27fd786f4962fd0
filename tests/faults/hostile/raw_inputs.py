"""Single inputs that no gRPC library would send, each with what it is answered."""

from __future__ import annotations

import asyncio
import gzip
import io
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import grpc
from tests.server.api.raw import RawCaller, framed

from stepwire.errors import CallFailed

from .frames import DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, call_headers, frame, literal

__all__ = ["RAW_INPUTS", "Raw", "bomb"]

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_PATIENCE = 10.0


class Raw(NamedTuple):
    """One input."""

    answer: str
    """How the answer begins."""
    send: Callable[[str], Awaitable[str]]
    """Sends it to an address, and returns what was answered."""


def bomb(size: int) -> bytes:
    """Returns so many zero bytes, compressed: about a thousandth."""
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", compresslevel=9) as file:
        piece = bytes(1 << 20)
        for _ in range(size >> 20):
            file.write(piece)
    return made.getvalue()


async def _sent(address: str, data: bytes, *, end: bool = True) -> str:
    """Sends bytes on a connection; says how that ends: the server hangs up, or has said what it says to everybody."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        try:
            async with asyncio.timeout(_PATIENCE if end else 0.5):
                while await reader.read(1 << 16):
                    pass
        except TimeoutError:
            return "still open"
        except ConnectionResetError:
            return "connection reset"
        return "connection closed"
    finally:
        writer.transport.abort()


def _bytes(data: bytes, *, end: bool = True) -> Callable[[str], Awaitable[str]]:
    return lambda address: _sent(address, data, end=end)


def _call(
    body: bytes, *, method: str = "StartExecution", end: bool = True, **headers: str
) -> Callable[[str], Awaitable[str]]:
    async def send(address: str) -> str:
        async with RawCaller(address) as raw:
            code, error = await raw.open(method, body, end=end, **headers).status()
        reason = error.reason if not isinstance(error, CallFailed) else f"of the transport: {error.message[:60]}"
        return f"{_CODES.get(code, 'no status')} {reason}".strip()

    return send


async def _bomb(address: str) -> str:
    body = framed(bomb(1 << 30), compressed=True)
    async with RawCaller(address) as raw:
        stream = raw.open("StartExecution", end=False, grpc_encoding="gzip")
        await raw.pour(stream, body)
        code, error = await stream.status()
    return f"{_CODES.get(code, 'no status')} {error.reason or error.message[:60]}"


_HELLO = PREFACE + frame(SETTINGS, 0, 0)
_BEGUN = _HELLO + frame(HEADERS, END_HEADERS, 1, call_headers("StartExecution"))

RAW_INPUTS: Mapping[str, Raw] = {
    "garbage instead of a preface": Raw("connection closed", _bytes(b"\xff\x00garbage" * 100)),
    "HTTP/1.1": Raw("connection closed", _bytes(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")),
    "half a preface": Raw("connection closed", _bytes(PREFACE[:10])),
    "a frame that is cut off": Raw("connection closed", _bytes(_BEGUN + frame(DATA, 0, 1, bytes(100))[:50])),
    "a frame that never ends": Raw("still open", _bytes(_BEGUN + frame(DATA, 0, 1, bytes(100))[:50], end=False)),
    "a frame of 16 MiB": Raw("connection closed", _bytes(_BEGUN + b"\xff\xff\xff" + frame(DATA, 0, 1)[3:], end=False)),
    "a frame on a stream that nobody opened": Raw("still open", _bytes(_HELLO + frame(DATA, 0, 7, b"x"), end=False)),
    "headers that are no HPACK": Raw(
        "connection closed", _bytes(_HELLO + frame(HEADERS, END_HEADERS, 1, b"\xff" * 40), end=False)
    ),
    "a header of 20 KiB in many frames": Raw(
        "still open",
        _bytes(
            _HELLO
            + frame(HEADERS, 0, 1, call_headers("StartExecution"))
            + b"".join(frame(9, 0, 1, literal(b"x", b"y" * 120) * 20) for _ in range(8))
            + frame(9, END_HEADERS, 1),
            end=False,
        ),
    ),
    "no request": Raw("INVALID_ARGUMENT REQUEST_MALFORMED", _call(b"")),
    "no request to Execute": Raw("INVALID_ARGUMENT REQUEST_MALFORMED", _call(b"", method="Execute")),
    "a body that never ends": Raw("DEADLINE_EXCEEDED REQUEST_INCOMPLETE", _call(b"\0\0\0\0\x09hel", end=False)),
    "a length that is too large": Raw(
        "INVALID_ARGUMENT REQUEST_MALFORMED", _call(framed(b"\x0a\x05hello", length=100))
    ),
    "a length of 4 GiB": Raw("RESOURCE_EXHAUSTED of the transport", _call(framed(b"\x0a\x05hello", length=2**32 - 1))),
    "a length that is too small": Raw("INVALID_ARGUMENT REQUEST_MALFORMED", _call(framed(b"\x0a\x05hello", length=2))),
    "a compression flag without an encoding": Raw(
        "INTERNAL of the transport", _call(framed(b"\x0a\x05hello", compressed=True))
    ),
    "a compression flag of 7": Raw(
        "INVALID_ARGUMENT REQUEST_MALFORMED", _call(b"\7" + struct.pack(">I", 7) + b"\x0a\x05hello")
    ),
    "an encoding that nobody knows": Raw(
        "INTERNAL of the transport", _call(framed(b"\x0a\x05hello", compressed=True), grpc_encoding="brotli")
    ),
    "gzip that is none": Raw(
        "INTERNAL of the transport", _call(framed(b"\x0a\x05hello", compressed=True), grpc_encoding="gzip")
    ),
    "1 GiB of zeros in 1 MiB of gzip": Raw("RESOURCE_EXHAUSTED", _bomb),
}
"""By name."""
