"""grpc.reflection.v1alpha: the contract, for callers that have none, such as grpcurl.

The answers are the library's. Its calls are admitted as all others are, each on a place of its own kind and with a time
for every question, which the library's own servicer would wait for as long as a caller likes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2

from stepwire_server.api.admission import Admission, Place
from stepwire_server.api.envelope import Call, Envelope

__all__ = ["REFLECTION", "Reflection"]

REFLECTION = reflection.SERVICE_NAME

_Question = reflection_pb2.ServerReflectionRequest


class Reflection:
    """What the server can be asked about itself."""

    def __init__(self, services: Iterable[str], *, admission: Admission) -> None:
        """`services`: the names of all. `admission`: this service's own."""
        self.admission = admission
        self._library: Any = reflection.aio.ReflectionServicer(services)  # Its stub knows no async generator.
        name = "ServerReflectionInfo"
        self.methods: Mapping[str, Envelope[Any]] = {
            name: Envelope(name, _Question, self._answer, admission=admission, place=Place.STREAM)
        }
        """Every method, by name."""

    async def _answer(self, first: reflection_pb2.ServerReflectionRequest, call: Call) -> None:
        # The next question is read when the last one is answered: a caller who does not read asks no more.
        async for answer in self._library.ServerReflectionInfo(_questions(first, call), None):
            await call.write(answer.SerializeToString())


async def _questions(
    first: reflection_pb2.ServerReflectionRequest, call: Call
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    question: reflection_pb2.ServerReflectionRequest | None = first
    while question is not None:
        yield question
        question = await call.read(_Question)
