"""What the state machines of streams have in common, as those see it who drive them."""

from __future__ import annotations

from typing import Protocol

from google.protobuf.message import Message

from stepwire.errors import StepwireError
from stepwire.requests import Method
from stepwire.steps import Ask, Open, Step
from stepwire.v1.event_pb2 import Event

__all__ = ["Followed", "Machine"]


class Machine(Protocol):
    """A stream that outlives its connections. `resume` says what each of these does."""

    def take(self) -> Event | None: ...
    def step(self, now: float) -> Step: ...
    def opened(self, now: float) -> None: ...
    def received(self, message: Message, now: float) -> None: ...
    def ended(self, error: StepwireError | None, now: float) -> None: ...
    def silent(self, now: float) -> None: ...
    def suspend(self, since: float) -> None: ...


class Followed:
    """What a driver reads: a machine, and what is particular to what is read."""

    _closed: bool
    _reader: object | None
    """The loop that read last: only that one ends the call when it is left."""
    _left_at: float | None
    """When the call was ended from our side, until the machine is told."""

    def _machine(self) -> Machine:
        """Returns what says what to do next."""
        raise NotImplementedError

    def _take(self) -> Event | None:
        """Returns the machine's next event, and notes it in what is kept of them; None where there is none yet."""
        return self._machine().take()

    def _call_for(self, step: Open | Ask) -> tuple[Method, Message]:
        """Returns the method to call, and its request."""
        raise NotImplementedError

    def _has_begun(self) -> bool:
        """Tells whether the server has shown that it knows what is asked for."""
        raise NotImplementedError

    def _is_over(self) -> bool:
        """Tells whether all was read that there will ever be."""
        raise NotImplementedError

    def _closed_error(self) -> StepwireError:
        """Returns what reading raises after `close`."""
        raise NotImplementedError

    def _note_request(self, error: BaseException) -> None:
        """Says on an error of the start how to find out what became of it."""
