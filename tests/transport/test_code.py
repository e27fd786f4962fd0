"""What our own code does because of gRPC, where that can be read from the source."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import DecodeError
from tests.conventions.tree import MODULES, ROOT, module_name, parse

from stepwire.transport import channel_options
from stepwire.v1 import event_pb2, execution_pb2, execution_service_pb2, plan_pb2
from stepwire_server.api import server as server_module
from stepwire_server.api.server import Server

SOURCES = [path for path in MODULES if "_pb2" not in path.name]
FILES = [event_pb2, execution_pb2, execution_service_pb2, plan_pb2]
CLIENT = dict(channel_options(()))
SERVER = dict(server_module._ARGUMENTS)


@functools.cache
def names(path: Path) -> tuple[str, ...]:
    """Returns every name and attribute in a module, with what it is taken from where that is a name."""
    return tuple(_names(path))


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(parse(path)):
        match node:
            case ast.Attribute(value=ast.Name(id=base), attr=attribute):
                yield f"{base}.{attribute}"
                yield attribute
            case ast.Attribute(attr=attribute):
                yield attribute
            case ast.Name(id=name):
                yield name
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=module, names=aliases):
                yield from (f"{module}.{alias.name}" for alias in aliases)


def users(*unwanted: str) -> list[str]:
    """Returns the modules that use one of these names, each as often as it does."""
    return [module_name(path) for path in SOURCES for name in names(path) if name in unwanted]


@pytest.mark.parametrize("service", ["_service", "_health"])
def test_every_method_is_a_coroutine_that_sees_bytes(service: str, server: Server) -> None:
    """Every method is registered as a coroutine function that yields nothing, from stream to stream, without codecs."""
    methods = getattr(server, service).methods
    assert methods
    for method in methods.values():
        handler = method.handler()
        assert inspect.iscoroutinefunction(handler.stream_stream)
        assert (handler.request_streaming, handler.response_streaming) == (True, True)
        assert (handler.request_deserializer, handler.response_serializer) == (None, None)


def test_nobody_asks_the_context() -> None:
    """No module asks a context whether its call is over, nor how long it may take: both answers can be wrong."""
    assert users("context.cancelled", "context.done", "context.add_done_callback", "time_remaining") == []


def test_one_place_aborts() -> None:
    """One place ends calls with a status, and it is the envelope."""
    assert users("abort", "abort_with_status") == ["stepwire_server.api.envelope"]


def test_no_limit_of_grpcs_own() -> None:
    """The server leaves maximum_concurrent_rpcs alone: calls that never become one would use it up."""
    keywords = [
        keyword.arg
        for path in SOURCES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
    ]
    assert "maximum_concurrent_rpcs" not in keywords
    assert SERVER["grpc.server.max_pending_requests"] >= 20_000
    assert SERVER["grpc.server.max_pending_requests_hard_limit"] > SERVER["grpc.server.max_pending_requests"]


def test_arguments_without_effect() -> None:
    """Neither side has an argument that does nothing."""
    for arguments in (CLIENT, SERVER):
        assert "grpc.keepalive_timeout_ms" not in arguments
        assert "grpc.http2.min_recv_ping_interval_without_data_ms" not in arguments
        assert arguments["grpc.http2.ping_timeout_ms"] <= 10_000


def test_no_interceptors() -> None:
    """No module has to do with interceptors: on streams they misbehave."""
    assert [name for path in SOURCES for name in names(path) if "interceptor" in name.lower()] == []


def test_the_transport_does_not_resume() -> None:
    """The channel has no retries and no service config: streams are resumed by their cursor."""
    assert CLIENT["grpc.enable_retries"] == 0
    assert "grpc.service_config" not in CLIENT


def test_reconnecting_stays_quick() -> None:
    """The channel's back-off begins at 0.1 s and ends at 5 s, and one try to connect takes 5 s at most."""
    assert CLIENT["grpc.initial_reconnect_backoff_ms"] == 100
    assert CLIENT["grpc.max_reconnect_backoff_ms"] == 5_000
    assert CLIENT["grpc.min_reconnect_backoff_ms"] == 5_000


ALONE = {"trial_process.py"}
"""Programs that run as processes of their own, with nothing loaded but the standard library: they may fork."""


def test_no_process_is_forked() -> None:
    """No module forks, neither by itself nor by a pool of processes, whose default does, but a program that runs alone
    and imports the standard library only.
    """
    for path in SOURCES:
        if path.name in ALONE:
            imported = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Import | ast.ImportFrom)]
            roots = {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
            roots |= {node.module or "" for node in imported if isinstance(node, ast.ImportFrom)}
            assert {root.partition(".")[0] for root in roots} <= sys.stdlib_module_names, path
            continue
        for name in names(path):
            assert not name.startswith("multiprocessing"), path
            assert name not in {"os.fork", "os.forkpty", "pty.fork", "ProcessPoolExecutor"}, path
            assert name != "concurrent.futures.ProcessPoolExecutor", path
            assert "preexec_fn" not in name, path


def test_one_event_loop() -> None:
    """Only the server's command makes an event loop."""
    made = users("asyncio.run", "asyncio.Runner", "asyncio.new_event_loop", "new_event_loop", "run_until_complete")
    assert set(made) == {"stepwire_server.__main__"}


def nested(depth: int) -> bytes:
    """Returns a Value of lists, so deep, by hand: protobuf's own encoder would refuse, or recurse."""
    encoded = b"\x11" + bytes(8)
    for _ in range(depth):
        inner = b"\x0a" + _varint(len(encoded)) + encoded
        encoded = b"\x32" + _varint(len(inner)) + inner
    return encoded


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def test_the_parser_has_a_depth_of_its_own() -> None:
    """Protobuf takes our 16 levels of lists, and refuses some depth beyond, with an error and without a crash."""
    assert struct_pb2.Value.FromString(nested(16)).list_value.values
    with pytest.raises(DecodeError):
        struct_pb2.Value.FromString(nested(200))


def test_json_is_only_written() -> None:
    """The server never parses a message from JSON by protobuf, which recurses; the client does so with its own user's
    plans alone.
    """
    assert hasattr(json_format, "ParseDict")
    found = users("ParseDict", "Parse", "json_format.ParseDict", "json_format.Parse")
    assert set(found) <= {"stepwire.values"}


def test_grpcio_testing_is_not_for_us() -> None:
    """grpcio-testing still knows nothing of asyncio."""
    folder = importlib.util.find_spec("grpc_testing")
    assert folder is not None
    assert folder.submodule_search_locations is not None
    [place] = folder.submodule_search_locations
    assert [path for path in Path(place).rglob("*.py") if "asyncio" in path.read_text("utf-8")] == []


def test_reflection_speaks_v1alpha_alone() -> None:
    """grpcio-reflection has no v1."""
    assert importlib.util.find_spec("grpc_reflection.v1alpha") is not None
    assert importlib.util.find_spec("grpc_reflection.v1") is None


def _lowest(package: str) -> str:
    """Returns the lowest release of a package that we say we run with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [found] = [
        match[1] for line in project["dependencies"] if (match := re.match(rf"{package}>=([\d.]+)", line)) is not None
    ]
    return found


@pytest.mark.parametrize("module", FILES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_generated_by_the_oldest(module: ModuleType) -> None:
    """The generated code says the oldest protobuf that we support: newer code would refuse it."""
    assert module.__file__ is not None
    text = Path(module.__file__).read_text("utf-8")
    assert re.findall(r"# Protobuf Python Version: ([\d.]+)", text) == [_lowest("protobuf")]


def test_the_lowest_releases_are_tried() -> None:
    """The releases that `make test-lowest` installs, and that generate, are the oldest that we allow."""
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    lowest = dict(re.findall(r"([\w-]+)==([\d.]+)", re.search(r"^LOWEST := (.*)$", makefile, re.M)[1]))  # type: ignore[index]
    assert lowest["protobuf"] == _lowest("protobuf")
    for package in ("grpcio", "grpcio-status"):
        assert lowest[package] == f"{_lowest(package)}.0"
    assert f"grpcio-tools=={lowest['grpcio']} " in makefile
    assert "make test-lowest" in (ROOT / ".ci/run").read_text("utf-8")
    installed = tuple(map(int, grpc.__version__.split(".")[:2]))
    assert installed >= tuple(map(int, lowest["grpcio"].split(".")[:2]))


@pytest.mark.parametrize("module", FILES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_files_have_a_path_of_their_own(module: ModuleType) -> None:
    """Every file of the contract is known by a path under stepwire/v1, which nobody else's has."""
    assert module.DESCRIPTOR.name.startswith("stepwire/v1/")
    assert module.DESCRIPTOR.package == "stepwire.v1"


def test_no_method_is_another_ones_raw() -> None:
    """No method is called as another one with Raw at its end: their names would collide in generated C++."""
    for service in execution_service_pb2.DESCRIPTOR.services_by_name.values():
        methods = {method.name for method in service.methods}
        assert len(methods) > 10
        assert not {f"{name}Raw" for name in methods} & methods
