// The client behind the lines that tests/conformance/README.md describes: commands in, what was seen out.

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

import { createRegistry, fromBinary, fromJson, toJson, type JsonObject } from "@bufbuild/protobuf";
import {
  Client,
  Code,
  EventFilterSchema,
  ExecutionStateSchema,
  PlanSchema,
  ProgressTracker,
  StepwireError,
  StreamBroken,
  eventType,
  file_stepwire_v1_event,
  file_stepwire_v1_execution,
  file_stepwire_v1_execution_service,
  file_stepwire_v1_plan,
  type Event,
  type Execution,
  type Patience,
  type Run,
} from "@stepwire/client";

import { file_google_rpc_error_details } from "../src/gen/google/rpc/error_details_pb.js";

interface Command {
  do: "execute" | "watch" | "get" | "cancel" | "decode";
  target: string;
  patience?: Record<string, number>;
  opening_seconds?: number;
  timeout_seconds?: number;
  heartbeat_seconds?: number;
  query?: string;
  plan?: JsonObject;
  filter?: JsonObject;
  request_id?: string;
  execution_id?: string;
  after_sequence?: number;
  reason?: string;
  stop_after?: number;
  silent?: boolean;
  type?: string;
  base64?: string;
}

const registry = createRegistry(
  file_stepwire_v1_event,
  file_stepwire_v1_execution,
  file_stepwire_v1_execution_service,
  file_stepwire_v1_plan,
  file_google_rpc_error_details,
);

function write(line: JsonObject): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function main(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    await obey(JSON.parse(line));
  }
}

async function obey(command: Command): Promise<void> {
  if (command.do === "decode") {
    const desc = registry.getMessage(command.type!)!;
    write({ decoded: toJson(desc, fromBinary(desc, Buffer.from(command.base64!, "base64")), { registry }) });
    write({ end: { outcome: "answered" } });
    return;
  }
  await using client = new Client(command.target, {
    timeoutSeconds: command.opening_seconds ?? command.timeout_seconds,
    patience: patience(command.patience ?? {}),
  });
  if (command.do === "execute" || command.do === "watch") {
    await follow(client, command);
  } else {
    await ask(client, command);
  }
}

/** Returns the settings under the names that they have here: `initial_delay` is `initialDelaySeconds`. */
function patience(settings: Record<string, number>): Partial<Patience> {
  const names: Record<string, keyof Patience> = {
    start_failures: "startFailures",
    start_seconds: "startSeconds",
    resume_failures: "resumeFailures",
    resume_seconds: "resumeSeconds",
    initial_delay: "initialDelaySeconds",
    max_delay: "maxDelaySeconds",
  };
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [names[name], value]));
}

async function follow(client: Client, command: Command): Promise<void> {
  const began = performance.now();
  let run: Run | undefined;
  let error: StepwireError | undefined;
  let count = 0;
  let last = BigInt(command.after_sequence ?? 0);
  try {
    run = await begin(client, command);
    for await (const event of run) {
      count++;
      last = event.sequence;
      if (!command.silent) {
        write({ event: describe(event) });
      }
      if (count === command.stop_after) {
        break;
      }
    }
  } catch (failure) {
    error = outcome(failure);
  }
  const { percentage, completedSteps, totalSteps, eventCount } = run?.progress ?? new ProgressTracker();
  write({
    progress: { percentage, completed_steps: completedSteps, total_steps: totalSteps, events: eventCount },
  });
  // The run counts an event as processed when the next one is asked for; this user was done with the last.
  const sequence = Number(run !== undefined && run.sequence > last ? run.sequence : last);
  const figures = command.silent ? { events: count, seconds: (performance.now() - began) / 1000 } : {};
  if (error !== undefined) {
    write({ end: { error: said(error), sequence, ...figures } });
  } else {
    const ended = run?.terminal === undefined ? "over" : eventType(run.terminal).replace("plan_", "");
    write({ end: { outcome: count === command.stop_after ? "stopped" : ended, sequence, ...figures } });
  }
}

function begin(client: Client, command: Command): Promise<Run> {
  const options = {
    filter: command.filter && fromJson(EventFilterSchema, command.filter),
    heartbeatSeconds: command.heartbeat_seconds,
  };
  if (command.do === "watch") {
    return client.watch(command.execution_id!, { afterSequence: command.after_sequence, ...options });
  }
  const work = command.plan ? { plan: fromJson(PlanSchema, command.plan) } : { query: command.query! };
  return client.execute({ ...work, requestId: command.request_id }, options);
}

async function ask(client: Client, command: Command): Promise<void> {
  try {
    const execution =
      command.do === "get"
        ? await client.get(command.execution_id!)
        : await client.cancel(command.execution_id!, { reason: command.reason });
    write({ execution: snapshot(execution) });
    write({ end: { outcome: "answered" } });
  } catch (failure) {
    write({ end: { error: said(outcome(failure)) } });
  }
}

/** Returns an error that is an outcome. Any other is a bug. */
function outcome(failure: unknown): StepwireError {
  if (failure instanceof StepwireError) {
    return failure;
  }
  throw failure;
}

function describe(event: Event): JsonObject {
  const seen = { sequence: Number(event.sequence), kind: eventType(event), step_id: event.stepId };
  if (event.kind.case !== "content") {
    return seen;
  }
  const data = Buffer.from(event.kind.value.piece.value ?? "");
  return { ...seen, size: data.length, sha256: createHash("sha256").update(data).digest("hex") };
}

function snapshot({ executionId, state }: Execution): JsonObject {
  return { execution_id: executionId, state: ExecutionStateSchema.value[state]?.name ?? state };
}

function said(error: StepwireError): JsonObject {
  if (error instanceof StreamBroken) {
    return { kind: "broken", message: error.message };
  }
  return {
    kind: "refused",
    code: codeName(error.code),
    reason: error.reason,
    message: error.message,
    metadata: { ...error.metadata },
    violations: error.violations.map(({ field, description }) => ({ field, description })),
    ...(error.retryAfterSeconds !== undefined && { retry_after_seconds: error.retryAfterSeconds }),
    request_id: error.requestId,
  };
}

/** Returns the name that gRPC has for a code: FailedPrecondition is FAILED_PRECONDITION. */
function codeName(code: Code): string {
  const name = code === Code.Canceled ? "Cancelled" : Code[code];
  return name.replace(/(?<!^)[A-Z]/g, "_$&").toUpperCase();
}

await main();
