"""The line between client and server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.conformance.line import DATA, GOAWAY, RST_STREAM, Frames, Line
from tests.e2e.proxy import Proxy


def _frame(kind: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 1]) + payload


STREAM = _frame(4, b"") + _frame(1, b"head") + _frame(DATA, b"12345") + _frame(8, b"abcd") + _frame(DATA, b"67890")

GREETING = _frame(4, b"")


@pytest.mark.parametrize("size", [1, 2, 7, len(STREAM)])
def test_payload_however_the_bytes_come(size: int) -> None:
    """The bytes of messages are counted, and no others, wherever reads begin and end."""
    frames = Frames("from_server")
    for place in range(0, len(STREAM), size):
        frames.follow(STREAM[place : place + size])
    assert frames.payload == 10
    assert frames.begun == {4: 1, 1: 1, DATA: 2, 8: 1}


@pytest.mark.parametrize("size", [1, 3, len(STREAM)])
def test_follow_until(size: int) -> None:
    """Following stops at the very byte of the message's payload."""
    frames, passed = Frames("from_server"), b""
    for place in range(0, len(STREAM), size):
        data = STREAM[place : place + size]
        passed += data[: frames.follow(data, until=7)]
    assert passed == STREAM[: STREAM.index(b"67890") + 2]


def test_the_preface_is_no_frame() -> None:
    """What a client sends before its first frame is passed over."""
    frames = Frames("to_server")
    frames.follow(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(RST_STREAM, b"\0\0\0\x08") + _frame(GOAWAY, b"\0" * 8))
    assert frames.begun == {RST_STREAM: 1, GOAWAY: 1}


class _Sender:
    """Greets whoever connects, sends the stream once it is asked to, and holds the line."""

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._send, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await reader.readexactly(1)
        writer.write(STREAM)
        await reader.read()
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with _Sender() as target, Proxy(target, treatment=Line()) as proxy:
        yield proxy


async def test_a_cut_within_a_message(proxy: Proxy) -> None:
    """A connection is cut at the byte that was chosen, and what came before it arrives."""
    line = proxy.treatment
    assert isinstance(line, Line)
    reader, writer = await asyncio.open_connection(*proxy.address.split(":"))
    assert await reader.readexactly(len(GREETING)) == GREETING
    [link] = proxy.links
    line.cut(link, at=7)
    assert not line.was_cut(link)
    writer.write(b".")
    assert await asyncio.wait_for(reader.read(-1), 10) == STREAM[: STREAM.index(b"67890") + 2]
    assert line.was_cut(link)
    writer.close()


async def test_a_cut_now(proxy: Proxy) -> None:
    """A connection that is cut now ends at once."""
    line = proxy.treatment
    assert isinstance(line, Line)
    reader, writer = await asyncio.open_connection(*proxy.address.split(":"))
    assert await reader.readexactly(len(GREETING)) == GREETING
    [link] = proxy.links
    line.cut_now(link)
    assert await asyncio.wait_for(reader.read(-1), 10) == b""
    assert line.was_cut(link)
    writer.close()
