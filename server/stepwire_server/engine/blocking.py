"""What an operation that is a plain function is given of its step: the same methods as `context` has, which block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from stepwire.v1 import Step
from stepwire_server.engine.asking import StepEnded
from stepwire_server.engine.substeps import BlockingWork, Work

if TYPE_CHECKING:
    from stepwire_server.engine.context import AgentKind, StepContext, SupervisorKind

__all__ = ["BlockingStepContext"]

_T = TypeVar("_T")


class BlockingStepContext(BlockingWork):
    """The same for an operation that is a plain function and runs in a thread: each method blocks until it is done."""

    __slots__ = ("_loop", "_step", "attempt", "execution_id", "id", "name", "operation", "session_id")

    def __init__(self, step: StepContext, loop: asyncio.AbstractEventLoop) -> None:
        self._step = step
        self._loop = loop
        self.execution_id = step.execution_id
        self.session_id = step.session_id
        self.id = step.id
        self.name = step.name
        self.operation = step.operation
        self.attempt = step.attempt

    @property
    def results(self) -> Mapping[str, Any]:
        """As StepContext.results."""
        return self._step.results

    @property
    def saved(self) -> Any:
        """As StepContext.saved."""
        return self._step.saved

    def save(self, state: Any) -> None:
        """As StepContext.save."""
        self._wait(self._step._keep(state))
        self.pausepoint()

    def pausepoint(self) -> None:
        """As StepContext.pausepoint."""
        self._wait(self._step._stop(in_own_thread=self._is_own_thread()))

    def ask(self, prompt: str, **details: Any) -> Any:
        """As StepContext.ask. Its thread waits, too, and there are not many: what may take days is better a coroutine
        function.
        """
        return self._wait(self._step._asking.ask(prompt, **details, in_own_thread=self._is_own_thread()))

    def add_steps(self, steps: Iterable[Step]) -> None:
        """As StepContext.add_steps."""
        self._wait(self._step.add_steps(steps))

    def content(self, piece: str | bytes, *, channel: str = "", media_type: str = "") -> None:
        """As StepContext.content."""
        self._wait(self._step.content(piece, channel=channel, media_type=media_type))

    def artifact(self, name: str, value: Any, *, media_type: str = "application/json") -> None:
        """As StepContext.artifact."""
        self._wait(self._step.artifact(name, value, media_type=media_type))

    def agent(self, agent: str, kind: AgentKind, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        """As StepContext.agent."""
        self._wait(self._step.agent(agent, kind, message, details=details))

    def supervisor(self, kind: SupervisorKind, message: str, **details: Any) -> None:
        """As StepContext.supervisor."""
        self._wait(self._step.supervisor(kind, message, **details))

    def stage(self, name: str, message: str = "", *, details: str = "", data: Mapping[str, Any] | None = None) -> None:
        """As StepContext.stage."""
        self._wait(self._step.stage(name, message, details=details, data=data))

    def error(self, message: str) -> None:
        """As StepContext.error."""
        self._wait(self._step.error(message))

    @property
    def _work(self) -> Work:
        return self._step

    def _is_own_thread(self) -> bool:
        return threading.get_ident() == self._step._thread

    def _wait(self, call: Coroutine[Any, Any, _T]) -> _T:
        if self._step.closed:
            call.close()
            raise StepEnded(self._step.closed)
        return self._step.wait_in_thread(asyncio.run_coroutine_threadsafe(call, self._loop))
