"""What every tool is, whatever does its work: a name, a description, a JSON schema of its input, and a call.

class Tool          FunctionTool (functions), CommandTool (commands), McpTool (mcp_servers)
class ToolContext   what a tool is given of its call, to say how far it is
ToolFailed          it ran and failed, or nothing could run it
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from stepwire.errors import Violation
from stepwire_server import App, Refused, SchemaSignature, Signature, StepContext, SubstepContext

__all__ = ["BlockingToolContext", "Tool", "ToolContext", "ToolFailed"]

_T = TypeVar("_T")

_ENDED = "the call has ended"


class ToolFailed(Refused):
    """A tool ran and failed, or could not be run. The text is for people: it has no secret, and says what to do."""


class ToolContext:
    """One call of a tool, for what does its work. Its progress is that of its part of the step, or of the step.

    After the call's end each method raises ToolFailed.
    """

    __slots__ = ("_channel", "_ended", "_part", "call_id", "step")

    def __init__(
        self, step: StepContext, *, call_id: str = "", part: SubstepContext | None = None, channel: str = ""
    ) -> None:
        self.step = step
        """The step that the call belongs to."""
        self.call_id = call_id
        """What the call is named by; empty where it is a step of its own."""
        self._part: StepContext | SubstepContext = part or step
        self._channel = channel
        self._ended = False

    async def progress(self, percentage: float | None = None, message: str = "", **details: Any) -> None:
        """Says how far the call is, as StepContext.progress."""
        self._check()
        await self._part.progress(percentage, message, **details)

    async def content(self, piece: str | bytes, *, media_type: str = "") -> None:
        """Streams a piece of what the tool writes, on the call's own channel."""
        self._check()
        await self.step.content(piece, channel=self._channel, media_type=media_type)

    async def artifact(self, name: str, value: Any, *, media_type: str = "application/json") -> None:
        """Gives a named result as a whole, as StepContext.artifact; `call_id` goes before its name."""
        self._check()
        named = f"{self.call_id}/{name}" if self.call_id else name
        await self.step.artifact(named, value, media_type=media_type)

    def blocking(self) -> BlockingToolContext:
        """Returns the same call for code in another thread."""
        return BlockingToolContext(self, asyncio.get_running_loop())

    @property
    def has_ended(self) -> bool:
        """Whether nobody listens any more."""
        return self._ended

    def end(self) -> None:
        """Notes that nobody listens any more: a function in a thread can't be told otherwise."""
        self._ended = True

    def _check(self) -> None:
        if self._ended:
            raise ToolFailed(_ENDED)


class BlockingToolContext:
    """The same for a plain function, which runs in a thread: each method blocks until it is done."""

    __slots__ = ("_context", "_loop")

    def __init__(self, context: ToolContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop

    def progress(self, percentage: float | None = None, message: str = "", **details: Any) -> None:
        """As ToolContext.progress."""
        self._wait(self._context.progress(percentage, message, **details))

    def content(self, piece: str | bytes, *, media_type: str = "") -> None:
        """As ToolContext.content."""
        self._wait(self._context.content(piece, media_type=media_type))

    def artifact(self, name: str, value: Any, *, media_type: str = "application/json") -> None:
        """As ToolContext.artifact."""
        self._wait(self._context.artifact(name, value, media_type=media_type))

    def _wait(self, call: Coroutine[Any, Any, _T]) -> _T:
        if self._context.has_ended:
            call.close()
            raise ToolFailed(_ENDED)
        return self._context.step.wait_in_thread(asyncio.run_coroutine_threadsafe(call, self._loop))


class Tool(ABC):
    """A named piece of work that programs and models can call.

    `timeout`: seconds that one call may take; None: as long as its step.
    """

    starts_programs = False
    """Whether a call starts a process."""

    def __init__(self, name: str, *, description: str, signature: Signature, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            raise ValueError(f"tool {name!r}: timeout is {timeout}; it must be above 0")
        self.name = name
        """What it is called by."""
        self.description = description
        """What it does, for people and models."""
        self.signature = signature
        """What its input is checked against."""
        self.timeout = timeout
        """Seconds that one call may take."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema of its input."""
        return self.signature.schema

    def check(self, given: Mapping[str, Any]) -> list[Violation]:
        """Returns everything in an input that does not fit."""
        return self.signature.check(given, path="input")

    async def call(self, given: Mapping[str, Any], context: ToolContext) -> Any:
        """Returns what the tool returns. Raises ValueError for an input that does not fit, ToolFailed where the tool
        failed or took too long, and what a function raises.
        """
        return await self.perform(self.signature.bind(given), context)

    async def perform(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """As `call`, with arguments that were checked."""
        limit: asyncio.Timeout | None = None
        try:
            await self._prepare()
            async with asyncio.timeout(self.timeout) as limit:
                return await self._work(arguments, context)
        except TimeoutError:
            if limit is not None and limit.expired():
                raise ToolFailed(f"it took longer than {self.timeout:g} s") from None
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            # In a task of its own it would end the server.
            raise ToolFailed(f"it raised {type(error).__name__}: {error}") from None
        finally:
            context.end()

    def register(self, app: App) -> None:
        """Makes the tool an operation of the app, so that a step of a plan can be a call of it."""

        async def run(step: StepContext, /, **inputs: Any) -> Any:
            return await self.perform(inputs, ToolContext(step))

        assert isinstance(self.signature, SchemaSignature)
        run.__doc__ = self.description
        app.operation(self.name, schema=self.signature)(run)

    async def _prepare(self) -> None:  # noqa: B027 - most have nothing to prepare.
        """Does what has to be done before a call, and is no part of its time."""

    @abstractmethod
    async def _work(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Does the work. A cancel must end all that it started."""
