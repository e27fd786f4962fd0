"""A caller that speaks HTTP/2 by hand, for what no gRPC library would send."""

from __future__ import annotations

import asyncio
import base64
import struct
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import unquote

from google.protobuf.message import Message
from google.rpc import status_pb2
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from stepwire.errors import StepwireError, error_from_status

from .shop import SERVICE


def framed(message: Message | bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """Returns a message as gRPC frames it; `length` lies about its size."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    return struct.pack(">?I", compressed, len(data) if length is None else length) + data


@dataclass(slots=True)
class RawStream:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once data came."""

    async def status(self) -> tuple[int, StepwireError]:
        """Waits for the end; returns grpc-status and the error that the details stand for."""
        async with asyncio.timeout(10):
            await self.over.wait()
        raw = self.headers.get("grpc-status-details-bin", "")
        details = status_pb2.Status.FromString(base64.b64decode(raw + "=" * (-len(raw) % 4)))
        if not raw:
            details.message = unquote(self.headers.get("grpc-message", ""))
        return int(self.headers.get("grpc-status", "-1")), error_from_status(details)


class RawCaller:
    """One connection, from the host `source` where it is given. Without `reads` it never gives the server more room
    than the first 64 KiB.
    """

    def __init__(self, address: str, *, reads: bool = True, source: str = "") -> None:
        self._host, _, self._port = address.rpartition(":")
        self._reads = reads
        self._source = (source, 0) if source else None
        self._h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._streams: dict[int, RawStream] = {}
        self._room = asyncio.Event()

    async def __aenter__(self) -> RawCaller:
        self._reader, self._writer = await asyncio.open_connection(self._host, int(self._port), local_addr=self._source)
        self._h2.initiate_connection()
        self._flush()
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._writer.transport.abort()

    def open(self, method: str, body: bytes = b"", *, end: bool = True, **headers: str) -> RawStream:
        """Begins a call: headers, then the body as it is, then the end of the stream where asked for."""
        number = self._h2.get_next_available_stream_id()
        stream = self._streams[number] = RawStream()
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method if method.startswith("/") else SERVICE + method,
            ":authority": "test",
        }
        fields |= {"content-type": "application/grpc", "te": "trailers"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._h2.send_headers(number, list(fields.items()), end_stream=end and not body)
        if body:
            self._h2.send_data(number, body, end_stream=end)
        self._flush()
        return stream

    async def pour(self, stream: RawStream, body: bytes) -> None:
        """Sends a body of any size as the server gives room for it, and stops where the stream ends before that."""
        [number] = [number for number, known in self._streams.items() if known is stream]
        while body and not stream.over.is_set():
            room = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
            if room <= 0:
                self._room.clear()
                async with asyncio.timeout(10):
                    await self._room.wait()
                continue
            self._h2.send_data(number, body[:room])
            body = body[room:]
            self._flush()
            await self._writer.drain()

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())

    async def _read(self) -> None:
        while data := await self._reader.read(65_536):
            for event in self._h2.receive_data(data):
                self._take(event)
            self._flush()
            self._room.set()

    def _take(self, event: Event) -> None:
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        if isinstance(event, (ResponseReceived, TrailersReceived)):
            stream.headers |= {str(name): str(value) for name, value in event.headers or ()}
        elif isinstance(event, DataReceived):
            stream.data += event.data or b""
            stream.begun.set()
            if self._reads and event.flow_controlled_length:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
        elif isinstance(event, (StreamEnded, StreamReset)):
            stream.over.set()
