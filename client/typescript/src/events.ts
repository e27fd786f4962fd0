/** What an event and a snapshot say. */

import { toJson, type JsonValue } from "@bufbuild/protobuf";
import { ValueSchema, type Value } from "@bufbuild/protobuf/wkt";

import { ExecutionCancelled, ExecutionFailed } from "./errors.js";
import { EventSchema, ExecutionState, type Event } from "./gen/stepwire/v1/event_pb.js";
import type { Execution } from "./gen/stepwire/v1/execution_pb.js";

/**
 * Returns the name of the event's kind as the contract has it and as `EventFilter.kinds` takes it, such as
 * "step_completed"; "" for a kind that a newer server has. In code, `event.kind.case` ("stepCompleted") says the same
 * and narrows the type.
 */
export function eventType(event: Event): string {
  return event.kind.case === undefined ? "" : EventSchema.field[event.kind.case].name;
}

/** Tells whether the event is the execution's last. */
export function isTerminal(event: Event): boolean {
  return (
    event.kind.case === "planCompleted" || event.kind.case === "planFailed" || event.kind.case === "planCancelled"
  );
}

/** Tells whether the snapshot is that of an ended execution. */
export function hasEnded(execution: Execution): boolean {
  return (
    execution.state === ExecutionState.COMPLETED ||
    execution.state === ExecutionState.FAILED ||
    execution.state === ExecutionState.CANCELLED
  );
}

/**
 * Returns the output of an ended execution, by its terminal event or its snapshot. Throws ExecutionFailed or
 * ExecutionCancelled where it did not complete.
 */
export function outputOf(ended: Event | Execution): JsonValue {
  return ended.$typeName === "stepwire.v1.Event" ? outputOfEvent(ended) : outputOfExecution(ended);
}

function outputOfEvent({ kind, executionId }: Event): JsonValue {
  switch (kind.case) {
    case "planCompleted":
      return plain(kind.value.output);
    case "planFailed":
      throw new ExecutionFailed(kind.value.error, executionId);
    case "planCancelled":
      throw new ExecutionCancelled(kind.value.reason || "The execution was cancelled.", executionId);
    default:
      throw new TypeError("The event is not a terminal one.");
  }
}

function outputOfExecution({ state, result, executionId }: Execution): JsonValue {
  switch (state) {
    case ExecutionState.COMPLETED:
      return plain(result.case === "output" ? result.value : undefined);
    case ExecutionState.FAILED:
      throw new ExecutionFailed(result.case === "error" ? result.value : undefined, executionId);
    case ExecutionState.CANCELLED:
      throw new ExecutionCancelled("The execution was cancelled.", executionId);
    default:
      throw new TypeError("The execution has not ended.");
  }
}

function plain(value: Value | undefined): JsonValue {
  return value === undefined ? null : toJson(ValueSchema, value);
}
