"""grpc.reflection.v1alpha: the contract, for callers that have none, such as grpcurl.

The answers are the library's, with what it leaves out: a method is found by its name, for which ghz asks, and fields
have their JSON names, so that grpcurl prints `executionId` as every other tool does. Calls are admitted as all others
are, each on a place of its own kind and with a time for every question, which the library's own servicer would wait for
as long as a caller likes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from google.protobuf import descriptor, descriptor_pb2, descriptor_pool
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
        # Any: its stub knows no async generator.
        self._library: Any = reflection.aio.ReflectionServicer(services, _Pool())
        name = "ServerReflectionInfo"
        self.methods: Mapping[str, Envelope[Any]] = {
            name: Envelope(name, _Question, self._answer, admission=admission, place=Place.STREAM)
        }
        """Every method, by name."""

    async def _answer(self, first: reflection_pb2.ServerReflectionRequest, call: Call) -> None:
        # The next question is read when the last one is answered: a caller who does not read asks no more.
        async for answer in self._library.ServerReflectionInfo(_questions(first, call), None):
            if answer.HasField("file_descriptor_response"):
                files = answer.file_descriptor_response.file_descriptor_proto
                files[:] = map(_with_json_names, files)
            await call.write(answer.SerializeToString())


async def _questions(
    first: reflection_pb2.ServerReflectionRequest, call: Call
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    question: reflection_pb2.ServerReflectionRequest | None = first
    while question is not None:
        yield question
        question = await call.read(_Question)


class _Pool:
    """All files that this process has, as protobuf's own pool gives them. Finds what that one doesn't: a method."""

    def __init__(self) -> None:
        self._all = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._all, name)

    def FindFileContainingSymbol(self, symbol: str) -> descriptor.FileDescriptor:
        """Returns the file. Raises KeyError where nothing has this name."""
        try:
            return self._all.FindFileContainingSymbol(symbol)
        except KeyError:
            method: descriptor.MethodDescriptor = self._all.FindMethodByName(symbol)
            return method.containing_service.file


@functools.cache  # Each file is asked for again by every caller, and there are no more than this process has.
def _with_json_names(encoded: bytes) -> bytes:
    """Returns an encoded file with the names of its fields in JSON, which Python's generated code leaves out."""
    file = descriptor_pb2.FileDescriptorProto.FromString(encoded)
    _name_fields(file.message_type)
    return file.SerializeToString()


def _name_fields(messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    for message in messages:
        for field in message.field:
            field.json_name = field.json_name or re.sub("_+(.?)", lambda found: found[1].upper(), field.name)
        _name_fields(message.nested_type)
