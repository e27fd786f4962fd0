"""The lines that an adapter writes: what it saw, as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import code_pb2

from stepwire.errors import CallFailed, StepwireError, StreamBroken
from stepwire.events import TERMINAL
from stepwire.progress import ProgressTracker
from stepwire.run import BaseRun
from stepwire.v1 import Event, Execution, ExecutionState

__all__ = ["Writer", "decoded", "describe", "refused", "snapshot", "write"]


class Writer:
    """Writes what the user of one run sees. With `silent` it only counts."""

    def __init__(self, command: dict[str, Any]) -> None:
        self.count = 0
        self._silent: bool = command.get("silent", False)
        self._stop_after: int | None = command.get("stop_after")
        self._last = command.get("after_sequence", 0)

    def event(self, event: Event) -> bool:
        """Writes an event. Returns whether the user has enough."""
        self.count += 1
        self._last = event.sequence
        if not self._silent:
            write({"event": describe(event)})
        return self.count == self._stop_after

    def end(self, run: BaseRun | None, error: StepwireError | None, *, seconds: float) -> None:
        """Writes the progress and the end. `run` is None where it could not begin."""
        tracker = run.tracker if run is not None else ProgressTracker()
        write(
            {
                "progress": {
                    "percentage": tracker.percentage,
                    "completed_steps": tracker.completed_steps,
                    "total_steps": tracker.total_steps,
                    "events": tracker.event_count,
                }
            }
        )
        # The run counts an event as processed when the next one is asked for; this user was done with the last.
        end: dict[str, Any] = {"sequence": max(self._last, run.sequence if run is not None else 0)}
        if error is not None:
            end["error"] = _broken(error) if isinstance(error, StreamBroken) else refused(error)
        elif self.count == self._stop_after:
            end["outcome"] = "stopped"
        else:
            end["outcome"] = _outcome(run.terminal if run is not None else None)
        if self._silent:
            end |= {"events": self.count, "seconds": seconds}
        write({"end": end})


def write(line: dict[str, Any]) -> None:
    """Writes a line at once: the kit waits for some of them."""
    print(json.dumps(line), flush=True)


def describe(event: Event) -> dict[str, Any]:
    """Returns what an adapter says of an event."""
    kind = event.WhichOneof("kind") or ""
    seen: dict[str, Any] = {"sequence": event.sequence, "kind": kind, "step_id": event.step_id}
    if kind == "content":
        content = event.content
        data = content.data if content.WhichOneof("piece") == "data" else content.text.encode()
        seen |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return seen


def decoded(command: dict[str, Any]) -> dict[str, Any]:
    """Returns the bytes of a `decode` as JSON."""
    kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(command["type"]))
    return json_format.MessageToDict(kind.FromString(base64.b64decode(command["base64"])))


def snapshot(execution: Execution) -> dict[str, Any]:
    """Returns what an adapter says of a snapshot."""
    return {"execution_id": execution.execution_id, "state": ExecutionState.Name(execution.state)}


def refused(error: StepwireError) -> dict[str, Any]:
    """Returns what an adapter says of a final status."""
    number = error.status_code if isinstance(error, CallFailed) else error.code
    said: dict[str, Any] = {"kind": "refused", "code": code_pb2.Code.Name(number), "message": error.message}
    if error.reason:
        said["reason"] = error.reason
    if error.metadata:
        said["metadata"] = error.metadata
    if error.violations:
        said["violations"] = [violation._asdict() for violation in error.violations]
    if error.retry_after is not None:
        said["retry_after_seconds"] = error.retry_after.total_seconds()
    return said


def _broken(error: StepwireError) -> dict[str, Any]:
    """Returns what an adapter says of a stream that can't be gone on with."""
    return {"kind": "broken", "message": error.message}


def _outcome(terminal: Event | None) -> str:
    if terminal is None:
        return "over"
    kind = terminal.WhichOneof("kind")
    assert kind in TERMINAL, kind
    return kind.removeprefix("plan_")
