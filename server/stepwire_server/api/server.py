"""The server as a whole: journal, engine, service, health and reflection, brought up and down in order."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

import grpc
from grpc import aio

from stepwire_server.api.admission import Admission
from stepwire_server.api.envelope import MAX_REQUEST_BYTES, is_news
from stepwire_server.api.health import HEALTH, Health
from stepwire_server.api.reflection import REFLECTION, Reflection
from stepwire_server.api.service import SERVICE, Service
from stepwire_server.api.streams import Streams
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.executor import Settings
from stepwire_server.engine.operation import Catalog
from stepwire_server.journal import Journal, Retention
from stepwire_server.journal.upkeep import keep_up
from stepwire_server.limits import CallLimits
from stepwire_server.loop_watch import BLOCKED_AFTER, LoopWatch

__all__ = ["ListenError", "Options", "Server", "check_address"]

_log = logging.getLogger(__name__)
_grpc_log = logging.getLogger("grpc._cython.cygrpc")

_ARGUMENTS = (
    # Two servers must not share a port without a word.
    ("grpc.so_reuseport", 0),
    # A peer that vanished is found after at most 30 s. (keepalive_timeout_ms has no effect; ping_timeout_ms does.)
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Our clients ping each 10 s; a default server would take that for an attack. (With `recv` in its name, as it is
    # called in C, the argument would have no effect.)
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Above our own limit, so that a request that is a little too large is refused with a reason.
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES + (1 << 20)),
    ("grpc.max_metadata_size", 8_192),
    ("grpc.absolute_max_metadata_size", 16_384),
    # What is read at once. Without a bound a header that never ends (CONTINUATION) made up to a gigabyte stand in
    # memory, in every second flood; with it, in none of 16 more than 30 MiB (grpcio 1.85.1). Not in the documentation.
    ("grpc.experimental.tcp_max_read_buffer_size", 256 << 10),
    # By default, a burst of more than 1,000 new streams is cancelled.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 30_000),
)


class ListenError(Exception):
    """The address can't be listened on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a server runs."""

    listen: str = "127.0.0.1:0"
    """HOST:PORT; port 0 takes a free one."""
    settings: Settings = field(default_factory=Settings)
    """What its executions share."""
    limits: CallLimits = field(default_factory=CallLimits)
    """What callers may have at once."""
    drain_grace: float = 10.0
    """Seconds that running steps have to end when the server stops."""
    retention: Retention = field(default_factory=Retention)
    """Which ended executions are kept."""
    blocked_loop_after: float = BLOCKED_AFTER
    """Seconds that the event loop must be blocked for to be told of, in the log and in GetServerInfo."""
    version: str = ""
    """What GetServerInfo says."""


class Server:
    """A server of one app over one journal.

    async with Server(app.catalog(), MemoryJournal()) as server:
        print(server.address)
    """

    def __init__(self, catalog: Catalog, journal: Journal, options: Options | None = None) -> None:
        self.options = options or Options()
        self._journal = journal
        self.engine = Engine(
            catalog,
            journal,
            settings=self.options.settings,
            max_executions=self.options.limits.max_executions,
        )
        self.admission = Admission(self.options.limits)
        self.streams = Streams(self.engine, admission=self.admission)
        self._watch = LoopWatch(after=self.options.blocked_loop_after)
        self._service = Service(
            self.engine,
            self.streams,
            admission=self.admission,
            watch=self._watch,
            version=self.options.version,
            started_ns=time.time_ns(),
        )
        self._health = Health(("", SERVICE), admission=Admission(self.options.limits))
        self._reflection = Reflection((SERVICE, HEALTH, REFLECTION), admission=Admission(self.options.limits))
        self._grpc: aio.Server | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self.address = ""
        """HOST:PORT, once it is known."""

    async def start(self) -> None:
        """Opens the journal, takes over what had not ended, listens. Raises ListenError, and the journal's errors."""
        await self._journal.open()
        self._watch.start()
        try:
            await self._serve()
        except BaseException:
            # What a failed start leaves behind would keep the port, and the lock on the journal.
            if self._grpc is not None:
                await self._grpc.stop(grace=None)
                self._grpc = None
            await self._end_upkeep()
            # What was taken over runs already.
            await self.engine.drain(0)
            await self._journal.close()
            self._watch.stop()
            raise

    async def _serve(self) -> None:
        # A stream that is reset counts until its handler has ended: this is also how many a flood of resets can queue
        # before an honest call. What is beyond it waits in the caller, whom the connection tells the bound.
        streams = ("grpc.max_concurrent_streams", self.options.limits.max_streams_per_connection)
        _grpc_log.addFilter(is_news)
        server = self._grpc = aio.server(options=(*_ARGUMENTS, streams))
        for service, methods in (
            (SERVICE, self._service.methods),
            (HEALTH, self._health.methods),
            (REFLECTION, self._reflection.methods),
        ):
            handlers = {name: method.handler() for name, method in methods.items()}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.address = _listen(server, self.options.listen)
        recovered = await self.engine.recover()
        if recovered:
            _log.info("took over %d executions that had not ended", recovered)
        await server.start()
        self._upkeep = asyncio.create_task(
            keep_up(self._journal, self.options.retention, sleep=asyncio.sleep), name="upkeep of the journal"
        )
        self._health.set(serving=True)

    async def stop(self) -> None:
        """Drains: says NOT_SERVING, refuses new work, ends every stream with DRAINING, lets running steps end, closes
        the journal. What has not ended goes on when a server is started on the journal again.
        """
        if self._grpc is None:
            return
        server, self._grpc = self._grpc, None
        self._health.set(serving=False)
        await self._end_upkeep()
        self.streams.drain()
        await self.engine.drain(self.options.drain_grace)
        # `stop` may return before the handlers have; ours are waited for.
        await server.stop(grace=1.0)
        await self._service.settle()
        await self._journal.close()
        self._watch.stop()

    async def _end_upkeep(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait({self._upkeep})
            self._upkeep = None

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(self.stop())


def check_address(address: str) -> None:
    """Raises ListenError for what is not HOST:PORT, nor unix:PATH."""
    host, _, port = address.rpartition(":")
    # grpc would take 99999 for 34463, and a host without a port for one with 443.
    if not host or (host != "unix" and not (port.isascii() and port.isdecimal() and int(port) <= 65_535)):
        raise ListenError(f"can't listen on {address!r}: it is not HOST:PORT")


def _listen(server: aio.Server, address: str) -> str:
    """Returns where the server listens. Raises ListenError."""
    check_address(address)
    host, _, _ = address.rpartition(":")
    try:
        taken = server.add_insecure_port(address)
    except RuntimeError:
        raise ListenError(
            f"can't listen on {address!r}: it is in use, or it is not an address of this machine"
        ) from None
    return address if host == "unix" else f"{host}:{taken}"
