"""The states of executions and steps, as tables. An event that is not in its table is a bug, and raises.

Rules:

1. An execution begins as PLANNING where a planner makes its plan, and as PENDING otherwise. Until plan_started, steps
   are not known.
2. Steps start while the execution is RUNNING. While PAUSED or CANCELLING, running steps go on and none starts.
3. Exactly one event is terminal, and nothing follows it. After plan_cancelling only plan_cancelled can end it.
4. A step starts once for each attempt. Between two attempts it is STARTING.
5. A step that never started is skipped; one that started completes, fails or is cancelled. What a retry keeps of an
   earlier execution ends as it ended there, without having started, and before any step starts.
6. A step that asks people is WAITING until its question is answered or withdrawn, whatever else it reports meanwhile.
   Another question takes the place of the first. An answer that comes between two attempts, or before the next one has
   asked again, changes no state.
7. A pause before plan_started does not stop the planner. plan_started then leaves the execution PAUSED, and a
   plan_resumed that comes before it leads back to the state that the execution began in.
"""

from __future__ import annotations

from collections.abc import Mapping

from stepwire.v1 import Event, ExecutionState, StepState

__all__ = [
    "ENDED_EXECUTION",
    "ENDED_STEP",
    "EXECUTION",
    "KEPT",
    "KINDS",
    "LIVE_STEP",
    "SAID",
    "STEP",
    "TERMINAL",
    "TransitionError",
    "next_execution_state",
    "next_step_state",
]

KINDS: Mapping[str, int] = {field.name: field.number for field in Event.DESCRIPTOR.oneofs_by_name["kind"].fields}
"""Every event type with its number: the arms of Event.kind."""

TERMINAL = frozenset({"plan_completed", "plan_failed", "plan_cancelled"})
"""The events after which nothing follows."""


class TransitionError(Exception):
    """An event does not fit the state. Always a bug in the engine."""


_E = ExecutionState
_LIVE = (
    _E.EXECUTION_STATE_PENDING,
    _E.EXECUTION_STATE_PLANNING,
    _E.EXECUTION_STATE_RUNNING,
    _E.EXECUTION_STATE_PAUSED,
    _E.EXECUTION_STATE_CANCELLING,
)
_BEFORE = (_E.EXECUTION_STATE_PENDING, _E.EXECUTION_STATE_PLANNING)
_GOING = (_E.EXECUTION_STATE_RUNNING, _E.EXECUTION_STATE_PAUSED)

ENDED_EXECUTION = frozenset({_E.EXECUTION_STATE_COMPLETED, _E.EXECUTION_STATE_FAILED, _E.EXECUTION_STATE_CANCELLED})
"""States that an execution does not leave."""

EXECUTION: Mapping[str, Mapping[ExecutionState.ValueType, ExecutionState.ValueType]] = {
    "plan_started": {
        **dict.fromkeys(_BEFORE, _E.EXECUTION_STATE_RUNNING),
        _E.EXECUTION_STATE_PAUSED: _E.EXECUTION_STATE_PAUSED,
    },
    "plan_revised": {state: state for state in _GOING},
    "plan_paused": dict.fromkeys((*_BEFORE, *_GOING), _E.EXECUTION_STATE_PAUSED),
    "plan_resumed": {_E.EXECUTION_STATE_PAUSED: _E.EXECUTION_STATE_RUNNING},
    "plan_recovered": {state: state for state in _LIVE},
    "plan_cancelling": dict.fromkeys((*_BEFORE, *_GOING), _E.EXECUTION_STATE_CANCELLING),
    "plan_completed": dict.fromkeys(_GOING, _E.EXECUTION_STATE_COMPLETED),
    "plan_failed": dict.fromkeys((*_BEFORE, *_GOING), _E.EXECUTION_STATE_FAILED),
    "plan_cancelled": {_E.EXECUTION_STATE_CANCELLING: _E.EXECUTION_STATE_CANCELLED},
}
"""What an event about the execution makes of its state: event type, then state before, then state after."""

_S = StepState
_RUNNING = (_S.STEP_STATE_RUNNING, _S.STEP_STATE_PROGRESS)
_BEGUN = (*_RUNNING, _S.STEP_STATE_WAITING)

ENDED_STEP = frozenset({_S.STEP_STATE_COMPLETED, _S.STEP_STATE_FAILED, _S.STEP_STATE_SKIPPED, _S.STEP_STATE_CANCELLED})
"""States that a step does not leave."""

LIVE_STEP = frozenset(_BEGUN)
"""States in which an attempt of a step runs."""

STEP: Mapping[str, Mapping[StepState.ValueType, StepState.ValueType]] = {
    "step_started": dict.fromkeys((_S.STEP_STATE_PENDING, _S.STEP_STATE_STARTING), _S.STEP_STATE_RUNNING),
    "step_progress": {
        **dict.fromkeys(_RUNNING, _S.STEP_STATE_PROGRESS),
        _S.STEP_STATE_WAITING: _S.STEP_STATE_WAITING,
    },
    "step_saved": {state: state for state in _BEGUN},
    "step_retrying": dict.fromkeys(_BEGUN, _S.STEP_STATE_STARTING),
    "step_completed": dict.fromkeys(_BEGUN, _S.STEP_STATE_COMPLETED),
    "step_failed": dict.fromkeys((*_BEGUN, _S.STEP_STATE_STARTING), _S.STEP_STATE_FAILED),
    "step_skipped": dict.fromkeys((_S.STEP_STATE_PENDING,), _S.STEP_STATE_SKIPPED),
    "step_cancelled": dict.fromkeys((*_BEGUN, _S.STEP_STATE_STARTING), _S.STEP_STATE_CANCELLED),
    "content": {state: state for state in _BEGUN},
    "artifact": {state: state for state in _BEGUN},
    "agent": {state: state for state in _BEGUN},
    "supervisor": {state: state for state in _BEGUN},
    "input_requested": dict.fromkeys(_BEGUN, _S.STEP_STATE_WAITING),
    "input_received": {
        _S.STEP_STATE_WAITING: _S.STEP_STATE_RUNNING,
        **{state: state for state in (*_RUNNING, _S.STEP_STATE_STARTING)},
    },
    "stage": {state: state for state in _BEGUN},
    "error": {state: state for state in _BEGUN},
}
"""What an event about a step makes of its state: event type, then state before, then state after."""

SAID = frozenset({"content", "artifact", "agent", "supervisor", "stage", "error"})
"""Events about a step that say something, and change nothing."""

KEPT: Mapping[str, Mapping[StepState.ValueType, StepState.ValueType]] = {
    "step_completed": {_S.STEP_STATE_PENDING: _S.STEP_STATE_COMPLETED},
    "step_skipped": {_S.STEP_STATE_PENDING: _S.STEP_STATE_SKIPPED},
}
"""As STEP, of the events that say that a retry keeps a step."""

_OUTSIDE_STEPS = frozenset({"agent", "supervisor", "input_requested", "input_received", "stage", "error"})


def next_execution_state(state: ExecutionState.ValueType, kind: str) -> ExecutionState.ValueType:
    """Returns the execution's state after an event about the execution. Raises TransitionError."""
    if kind in _OUTSIDE_STEPS and state in _LIVE:
        return state
    try:
        return EXECUTION[kind][state]
    except KeyError:
        raise TransitionError(f"{kind} in {ExecutionState.Name(state)}") from None


def next_step_state(state: StepState.ValueType, kind: str, *, kept: bool = False) -> StepState.ValueType:
    """Returns a step's state after an event about it, which may say that it is kept. Raises TransitionError."""
    try:
        return (KEPT if kept else STEP)[kind][state]
    except KeyError:
        raise TransitionError(f"{kind} in {StepState.Name(state)}") from None
