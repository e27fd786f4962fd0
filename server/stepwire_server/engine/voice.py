"""What an attempt of a step says: events in its name, until it has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from stepwire.v1 import Event
from stepwire_server.engine.asking import StepEnded
from stepwire_server.engine.recorder import Recorder, RecorderClosed

__all__ = ["Voice"]


class Voice:
    """Speaks for one attempt of a step."""

    __slots__ = ("_about", "_ahead", "_attempt", "_id", "_name", "_recorder", "closed")

    def __init__(self, recorder: Recorder, *, step_id: str, name: str, attempt: int) -> None:
        self._recorder = recorder
        self._id = step_id
        self._name = name
        self._attempt = attempt
        self._about = b""  # What its events have in common: to parse that costs half of writing its fields.
        self.closed = ""
        """Why nothing more can be said; empty while it can."""
        self._ahead: tuple[Callable[[], Awaitable[None]], ...] = ()

    def check(self) -> None:
        """Raises StepEnded where nothing more can be said."""
        if self.closed:
            raise StepEnded(self.closed)

    async def turn(self) -> None:
        """Waits until what comes first was said. Raises StepEnded where nothing more can be said."""
        if self._ahead:
            await self._ahead[-1]()
        self.check()

    def enter(self, ahead: Callable[[], Awaitable[None]]) -> None:
        """Has `ahead` say what comes before each event, where that takes another way to here, until `leave`, or until
        another one does.
        """
        self._ahead = (*self._ahead, ahead)

    def leave(self, ahead: Callable[[], Awaitable[None]]) -> None:
        """Undoes an `enter`, whatever was entered since."""
        place = len(self._ahead) - 1 - self._ahead[::-1].index(ahead)
        self._ahead = self._ahead[:place] + self._ahead[place + 1 :]

    def event(self, message: str = "", metadata: Mapping[str, str] | None = None) -> Event:
        """Returns an event about the step, without its kind."""
        if not self._about:
            self._about = Event(step_id=self._id, step_name=self._name, attempt=self._attempt).SerializeToString()
        event = Event.FromString(self._about)
        if message:
            event.message = message
        if metadata:
            event.metadata.update(metadata)
        return event

    async def emit(self, event: Event, complete: Callable[[Event], None] | None = None) -> int:
        """Records an event, and returns its sequence. `complete` is called right before, with nothing in between."""
        await self.ready()
        if complete is not None:
            complete(event)
        return self.say(event)

    async def ready(self) -> None:
        """Waits until the next event can be said: what comes first was, and there is room. Raises StepEnded where
        nothing more can be said.
        """
        if self._ahead:
            await self._ahead[-1]()
        self.check()
        if not self._recorder.has_room():
            try:
                await self._recorder.room()
            except RecorderClosed:
                raise _ended() from None
            self.check()

    def say(self, event: Event) -> int:
        """Records an event, and returns its sequence. `ready` comes before, with nothing in between."""
        try:
            return self._recorder.record(event)
        except RecorderClosed:
            raise _ended() from None


def _ended() -> StepEnded:
    return StepEnded("the execution has ended")
