"""What a watch of many executions is in both clients: its state machine and its request. All but the IO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from google.protobuf.message import Message

from stepwire.errors import StepwireError, StreamBroken
from stepwire.machine import Machine
from stepwire.patience import Patience
from stepwire.requests import METHODS, Method
from stepwire.resume import DEFAULT_HEARTBEAT
from stepwire.steps import Ask, Open, Outage
from stepwire.totals import Totals, totals_of
from stepwire.v1.execution_pb2 import Execution
from stepwire.v1.execution_service_pb2 import WatchExecutionsRequest
from stepwire.wide import WideResumption

__all__ = ["BaseWatch"]


class BaseWatch:
    """Many executions that are being followed. `Watch` in `stepwire` and in `stepwire.aio` adds the reading."""

    def __init__(
        self,
        request: WatchExecutionsRequest,
        *,
        opening: float,
        patience: Patience,
        random: Callable[[], float],
    ) -> None:
        interval = request.heartbeat_interval
        self._request = request
        self._resumption = WideResumption(
            after_position=request.after_position if request.HasField("after_position") else None,
            named=bool(request.executions.execution_ids),
            filtered=request.HasField("filter"),
            heartbeat=interval.ToNanoseconds() / 1e9 if request.HasField("heartbeat_interval") else DEFAULT_HEARTBEAT,
            opening=opening,
            patience=patience,
            random=random,
        )
        self._closed = False
        self._reader: object | None = None
        self._left_at: float | None = None

    @property
    def executions(self) -> Mapping[str, Execution]:
        """The executions that the watch knows of and whose end was not read yet, by id: their snapshots, with state and
        progress after the event of theirs that was read last. Before the first event: those that are under way. One
        that has just ended stays until the next event is asked for.
        """
        return MappingProxyType(self._resumption.executions)

    @property
    def totals(self) -> Totals:
        """One progress over all executions that the watch has told of, those that have ended in it as well. Another
        thread than the one that reads may ask for it.
        """
        return totals_of(list(self._resumption.executions.values()), self._resumption.ends.copy())

    @property
    def position(self) -> int:
        """All events up to here were processed: those before the event that was read last. Keep it to go on from any
        process, with `after_position`. After that some events may come again: an event's execution and sequence say
        which.
        """
        return self._resumption.position or 0

    @property
    def outage(self) -> Outage | None:
        """What the watch is without, and since when, or None. As `Run.outage`."""
        return self._resumption.outage

    def _machine(self) -> Machine:
        return self._resumption

    def _call_for(self, step: Open | Ask) -> tuple[Method, Message]:
        """Returns the method to call, and its request."""
        if self._resumption.reached is not None:
            self._request.after_position = self._resumption.reached
        return METHODS["WatchExecutions"], self._request

    def _has_begun(self) -> bool:
        return self._resumption.has_begun

    def _is_over(self) -> bool:
        return False

    def _closed_error(self) -> StepwireError:
        return StreamBroken(
            f"The watch was closed. Watch again after position {self.position}.", execution_id="", sequence=0
        )
