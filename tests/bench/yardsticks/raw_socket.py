"""A loopback TCP connection with 128 encoded events a send, and a reader that decodes them: the physical end in Python.

No HTTP/2, no event loop, no framework. A message is its length, in four bytes, and an EventBatch. The connection stays
open: a line with a number of events asks for them, an empty one answers that they are encoded, another one starts them.
"""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
import time
from typing import Any

from tests.bench.subject import Order, announce, drive_async, until_told

from stepwire.v1 import EventBatch

from . import program
from .batches import encoded, see


async def serve(options: program.Options) -> None:
    """Serves until told to end."""
    prepared: dict[int, list[bytes]] = {}

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                events = int(line)
                if events not in prepared:
                    prepared.clear()
                    prepared[events] = [_framed(message) for message in encoded(events, skip=options.skip)]
                self.wfile.write(b"\n")
                self.rfile.readline()
                for message in prepared[events]:
                    self.request.sendall(message)
                self.request.sendall(_framed(b""))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        announce(f"127.0.0.1:{server.server_address[1]}")
        await until_told()
        await asyncio.to_thread(server.shutdown)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


async def drive(target: str) -> None:
    """Does the work that standard input asks for."""
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=300) as connection, connection.makefile("rb") as stream:

        async def work(command: dict[str, Any]) -> dict[str, Any]:
            connection.sendall(b"%d\n" % command["events"])
            stream.readline()
            order = Order(command["events"])
            first = 0.0
            begun = time.perf_counter()
            connection.sendall(b"\n")
            while size := int.from_bytes(stream.read(4), "big"):
                batch = EventBatch.FromString(stream.read(size))
                first = first or time.perf_counter() - begun
                see(batch, order)
            order.finish()
            return {"events": order.seen, "seconds": time.perf_counter() - begun, "first_ms": 1e3 * first}

        await drive_async(work)


if __name__ == "__main__":
    program.run(__doc__, serve=serve, drive=drive)
