"""What grpc does with a server's handlers today. Where one of these fails, grpc has changed: look at the map."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import grpc
import pytest
from grpc import aio
from tests.server.api.raw import RawCaller

from stepwire.errors import StepwireError

from .plain import METHOD, calling, says_nothing, serving


async def test_an_escaped_cancelled_error_answers_nobody() -> None:
    """A CancelledError that leaves a handler, and that the caller did not cause, leaves the caller without a status."""

    async def handler(_: bytes, context: Any) -> None:
        raise asyncio.CancelledError

    async with serving(handler) as (address, _), calling(address) as channel:
        call = channel.unary_stream(METHOD)(b"")
        code = asyncio.ensure_future(call.code())
        assert await says_nothing(code)
        call.cancel()
        await code


async def test_a_generator_is_closed_by_somebody_else() -> None:
    """A handler that yields is not cancelled in its own task when the caller leaves: it gets GeneratorExit, later."""
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(_: bytes, context: Any) -> Any:
        task = asyncio.current_task()
        try:
            while True:
                yield bytes(100_000)
        except BaseException as error:
            same = asyncio.current_task() is task
            ended.set_result(f"{type(error).__name__} {'in its task' if same else 'elsewhere'}")
            raise

    async with serving(handler) as (address, _), calling(address) as channel:
        call = channel.unary_stream(METHOD)(b"")
        await call.read()
        assert await says_nothing(asyncio.Event().wait(), seconds=0.1)
        call.cancel()
        async with asyncio.timeout(20):
            assert await ended == "GeneratorExit elsewhere"


async def test_the_context_does_not_know_that_the_caller_left() -> None:
    """A context says neither cancelled nor done to a handler whose caller has left."""
    said: asyncio.Future[tuple[bool, bool]] = asyncio.get_running_loop().create_future()

    async def handler(_: bytes, context: Any) -> None:
        await context.write(b"1")
        try:
            await asyncio.Event().wait()
        finally:
            said.set_result((context.cancelled(), context.done()))

    async with serving(handler) as (address, _), calling(address) as channel:
        call = channel.unary_stream(METHOD)(b"")
        await call.read()
        call.cancel()
        async with asyncio.timeout(20):
            assert await said == (False, False)


def test_an_abort_can_be_caught_by_mistake() -> None:
    """What `abort` raises is an Exception, so that `except Exception` around it would catch it."""
    assert issubclass(aio.AbortError, Exception)


async def test_texts_of_exceptions_are_sent() -> None:
    """The text of an exception that leaves a handler goes to the caller."""

    async def handler(_: bytes, context: Any) -> None:
        raise ValueError("the secret")

    async with serving(handler) as (address, _), calling(address) as channel:
        with pytest.raises(aio.AioRpcError, match="the secret") as caught:
            await channel.unary_stream(METHOD)(b"").read()
    assert caught.value.code() is grpc.StatusCode.UNKNOWN


async def test_a_call_without_a_message_is_never_answered() -> None:
    """A call of one request that sends none never reaches its handler, and never gets a status."""
    reached = asyncio.Event()

    async def handler(_: bytes, context: Any) -> bytes:
        reached.set()
        return b""

    async with (
        serving(handler, make=grpc.unary_unary_rpc_method_handler) as (address, _),
        RawCaller(address) as caller,
    ):
        call = caller.open(METHOD)
        assert await says_nothing(call.over.wait())
    assert not reached.is_set()


@pytest.mark.skipif(grpc.__version__.startswith("1.74."), reason="the oldest release that we support cancels none")
async def test_a_burst_is_cancelled() -> None:
    """Of two thousand calls at once a server with default arguments cancels some."""

    async def handler(_: bytes, context: Any) -> bytes:
        return b"answer"

    async with (
        serving(handler, make=grpc.unary_unary_rpc_method_handler) as (address, _),
        calling(address) as channel,
    ):
        method = channel.unary_unary(METHOD)
        found = await asyncio.gather(*(method(b"", timeout=30) for _ in range(2_000)), return_exceptions=True)
    codes = {error.code() for error in found if isinstance(error, aio.AioRpcError)}
    assert codes == {grpc.StatusCode.CANCELLED}


async def test_a_handler_that_only_looks_like_a_coroutine() -> None:
    """A handler that returns a coroutine, and is no coroutine function, is not awaited: the caller gets an error."""

    async def handler(_: bytes, context: Any) -> bytes:
        return b"answer"

    made = []

    @functools.wraps(handler)
    def decorated(request: bytes, context: Any) -> Any:
        made.append(handler(request, context))
        return made[-1]

    answering = serving(decorated, make=grpc.unary_unary_rpc_method_handler)
    async with answering as (address, _), calling(address) as channel:
        with pytest.raises(aio.AioRpcError):
            await channel.unary_unary(METHOD)(b"", timeout=5)
    for coroutine in made:
        coroutine.close()


async def test_stop_returns_before_handlers_have_ended() -> None:
    """`stop` returns while a handler still cleans up, and its caller gets a status that it did not ask for."""
    cleaning, clean = asyncio.Event(), asyncio.Event()

    async def handler(_: bytes, context: Any) -> None:
        await context.write(b"1")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cleaning.set()
            await clean.wait()
            raise

    async with serving(handler) as (address, server), calling(address) as channel:
        call = channel.unary_stream(METHOD)(b"")
        await call.read()
        async with asyncio.timeout(20):
            await server.stop(grace=0.05)
            await cleaning.wait()
        assert not clean.is_set()
        assert await call.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        clean.set()


async def test_large_details_become_another_status() -> None:
    """A status whose trailing metadata is too large arrives as RESOURCE_EXHAUSTED, whatever it was."""

    async def handler(_: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "gone", (("details-bin", bytes(20_000)),))
        return b""

    answering = serving(handler, make=grpc.unary_unary_rpc_method_handler)
    async with answering as (address, _), calling(address) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_large_message_ends_the_stream() -> None:
    """A message above 4 MiB is refused by the client's side, in mid-stream."""

    async def handler(_: bytes, context: Any) -> None:
        await context.write(bytes((4 << 20) - 64))
        await context.write(bytes((4 << 20) + 1))

    async with serving(handler) as (address, _), calling(address) as channel:
        call = channel.unary_stream(METHOD)(b"")
        assert len(await call.read()) == (4 << 20) - 64
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_two_servers_share_a_port_without_a_word() -> None:
    """Without an argument against it, two servers listen on one port and neither is told."""
    first, second = aio.server(), aio.server()
    port = first.add_insecure_port("127.0.0.1:0")
    try:
        await first.start()
        assert second.add_insecure_port(f"127.0.0.1:{port}") == port
    finally:
        await first.stop(grace=None)
        await second.stop(grace=None)


def test_errors_are_ours() -> None:
    """What methods raise is no error of grpc's, so that nothing of ours is taken for an abort."""
    assert not issubclass(StepwireError, (grpc.RpcError, aio.AbortError))
