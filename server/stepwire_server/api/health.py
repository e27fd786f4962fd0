"""grpc.health.v1: whether the server takes calls. Like all methods it answers a call without a message too, which the
library's own servicer leaves hanging.

Its calls have places of their own, as many as the service's, and run no work: whoever floods the service does not keep
those out who ask how it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from grpc_health.v1 import health_pb2

from stepwire.errors import NotFound
from stepwire_server.api.admission import Admission, Place
from stepwire_server.api.envelope import Call, Envelope

__all__ = ["HEALTH", "Health"]

HEALTH = "grpc.health.v1.Health"

_State = health_pb2.HealthCheckResponse


class Health:
    """The health of some services, which all have the same."""

    def __init__(self, services: Iterable[str], *, admission: Admission) -> None:
        """`services`: their names; the empty one is the server as a whole. `admission`: this service's own."""
        self.admission = admission
        self._services = frozenset(services)
        self._serving = False
        self._changed = asyncio.Event()
        self.methods: Mapping[str, Envelope[Any]] = {
            name: Envelope(name, health_pb2.HealthCheckRequest, run, admission=admission, place=place)
            for name, run, place in (("Check", self._check, Place.CALL), ("Watch", self._watch, Place.STREAM))
        }
        """Every method, by name."""

    def set(self, *, serving: bool) -> None:
        """Tells those who watch."""
        self._serving = serving
        self._changed.set()
        self._changed = asyncio.Event()

    def _state(self, service: str) -> health_pb2.HealthCheckResponse:
        if service not in self._services:
            return health_pb2.HealthCheckResponse(status=_State.SERVICE_UNKNOWN)
        return health_pb2.HealthCheckResponse(status=_State.SERVING if self._serving else _State.NOT_SERVING)

    async def _check(self, request: health_pb2.HealthCheckRequest, call: Call) -> None:
        if request.service not in self._services:
            raise NotFound(f"there is no service {request.service[:80]!r}")
        await call.write(self._state(request.service).SerializeToString())

    async def _watch(self, request: health_pb2.HealthCheckRequest, call: Call) -> None:
        told = None
        while True:
            changed = self._changed
            state = self._state(request.service)
            if state != told:
                told = state
                await call.write(state.SerializeToString())
            else:
                await changed.wait()
