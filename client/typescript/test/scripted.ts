// Messages as a server sends them.

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { EventSchema, ExecutionState, type Event } from "../src/gen/stepwire/v1/event_pb.js";
import {
  EventBatchSchema,
  ExecutionSchema,
  EventBatch_Notice as Notice,
  type EventBatch,
} from "../src/gen/stepwire/v1/execution_pb.js";

export const EXECUTION = "e-1";

type Kind = MessageInitShape<typeof EventSchema>["kind"];

export function event(sequence: number, kind: Kind = piece(`piece ${sequence}`), executionId = EXECUTION): Event {
  return create(EventSchema, {
    executionId,
    sequence: BigInt(sequence),
    stepId: "a",
    executionState: ExecutionState.RUNNING,
    progress: { percentage: sequence, totalSteps: 2, completedSteps: 1 },
    ...(kind && { kind }),
  });
}

export function piece(text: string): Kind {
  return { case: "content", value: { piece: { case: "text", value: text } } };
}

export function completed(sequence: number): Event {
  const output = { kind: { case: "stringValue" as const, value: "done" } };
  return event(sequence, { case: "planCompleted", value: { output } });
}

/** A message of these events. It covers what they cover, unless `after` and `to` say otherwise. */
export function batch(events: Event[], { after, to }: { after?: number; to?: number } = {}): EventBatch {
  const first = events[0]?.sequence ?? 1n;
  return create(EventBatchSchema, {
    events,
    afterSequence: after === undefined ? first - 1n : BigInt(after),
    sequence: to === undefined ? (events.at(-1)?.sequence ?? 0n) : BigInt(to),
  });
}

export function pieces(...sequences: number[]): EventBatch {
  return batch(sequences.map((sequence) => event(sequence)));
}

/** The first message of a stream that begins after a sequence. */
export function welcome(after = 0, state = ExecutionState.RUNNING, last = after): EventBatch {
  const execution = create(ExecutionSchema, { executionId: EXECUTION, state, asOfSequence: BigInt(last) });
  return create(EventBatchSchema, { execution, afterSequence: BigInt(after), sequence: BigInt(after) });
}

export function heartbeat(sequence: number): EventBatch {
  return notice(sequence, Notice.HEARTBEAT);
}

export function draining(sequence: number): EventBatch {
  return notice(sequence, Notice.DRAINING);
}

function notice(sequence: number, said: Notice): EventBatch {
  const at = BigInt(sequence);
  return create(EventBatchSchema, { afterSequence: at, sequence: at, notice: said });
}
