/** What can go wrong. */

import { anyUnpack, type Duration } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";

const DOMAIN = "stepwire";

/** As many violations are written out. A plan may have 10,000 steps, each of them wrong. */
const VIOLATIONS_IN_TEXT = 10;

/** The reasons that a call can be refused with. `stepwire/v1/execution_service.proto` says of each rpc which it has. */
export type Reason =
  | "AT_MOST_ONCE"
  | "CURSOR_AHEAD"
  | "CURSOR_EXPIRED"
  | "DRAINING"
  | "EXECUTION_ENDED"
  | "EXECUTION_NOT_FOUND"
  | "EXECUTION_RUNNING"
  | "FILTER_INVALID"
  | "INPUT_INVALID"
  | "INPUT_NOT_REQUESTED"
  | "INTERNAL_ERROR"
  | "JOURNAL_DAMAGED"
  | "JOURNAL_UNAVAILABLE"
  | "LIMIT_CALLS"
  | "LIMIT_EXECUTIONS"
  | "LIMIT_SIZE"
  | "LIMIT_WATCHERS"
  | "NOT_BUILT_YET"
  | "NO_PLANNER"
  | "OPERATION_NOT_FOUND"
  | "PAGE_TOKEN_INVALID"
  | "PLAN_INVALID"
  | "PLAN_NOT_FOUND"
  | "QUERY_NOT_UNDERSTOOD"
  | "REQUEST_ID_REUSED"
  | "REQUEST_INCOMPLETE"
  | "REQUEST_MALFORMED"
  | "STORAGE_FULL";

/** One thing that is wrong with a request. */
export interface Violation {
  /** Where, as a path: `plan.steps[3].depends_on[0]`. */
  readonly field: string;
  /** What is wrong, and what would be right. */
  readonly description: string;
}

/** What a StepwireError is made with, beside its message and code. */
export interface ErrorDetails {
  reason?: string;
  metadata?: Readonly<Record<string, string>>;
  violations?: readonly Violation[];
  retryAfterSeconds?: number | undefined;
  cause?: unknown;
}

/** A call could not be done. The root of all errors of this package. */
export class StepwireError extends Error {
  override readonly name: string = "StepwireError";
  /** The canonical status code. */
  readonly code: Code;
  /** Why the server refused. Empty where the status is not Stepwire's: the transport's, or a proxy's. */
  readonly reason: Reason | (string & {}) | "";
  /** More about the reason: CURSOR_EXPIRED has `first_sequence` and `last_sequence`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Everything that is wrong with the request. */
  readonly violations: readonly Violation[];
  /** Seconds after which the server wants to be asked again. */
  readonly retryAfterSeconds: number | undefined;
  /**
   * Of an `execute` that got no answer: the request id that it was sent with. The work may have been accepted all the
   * same; with this id it can be asked for again, and runs once. Empty elsewhere.
   */
  requestId = "";

  constructor(message: string, code: Code, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.reason = details.reason ?? "";
    this.metadata = details.metadata ?? {};
    this.violations = details.violations ?? [];
    this.retryAfterSeconds = details.retryAfterSeconds;
  }

  /** Returns the class, the reason, the message, and the first ten violations that the message does not have. */
  override toString(): string {
    const more = this.violations.filter(({ field, description }) => !this.message.includes(`${field} ${description}`));
    const lines = more.slice(0, VIOLATIONS_IN_TEXT).map(({ field, description }) => `\n  ${field}: ${description}`);
    if (more.length > lines.length) {
      lines.push(`\n  and ${more.length - lines.length} more`);
    }
    return `${this.name}: ${this.reason && `${this.reason}: `}${this.message}${lines.join("")}`;
  }

  /** Returns the error that a call of the generated client ended with as one of this package's. */
  static from(error: unknown): StepwireError {
    if (error instanceof StepwireError) {
      return error;
    }
    const failure = ConnectError.from(error);
    const info = failure.findDetails(ErrorInfoSchema).find((detail) => detail.domain === DOMAIN);
    const retry = failure.findDetails(RetryInfoSchema)[0]?.retryDelay;
    return new StepwireError(failure.rawMessage || Code[failure.code], codeOf(failure), {
      reason: info?.reason ?? "",
      metadata: info?.metadata ?? {},
      violations: failure
        .findDetails(BadRequestSchema)
        .flatMap((detail) => detail.fieldViolations)
        .map(({ field, description }) => ({ field, description })),
      retryAfterSeconds: retry && seconds(retry),
      cause: failure,
    });
  }
}

/** The stream broke the contract, or the patience to resume it is spent. Watch the execution again after `sequence`. */
export class StreamBroken extends StepwireError {
  override readonly name = "StreamBroken";

  constructor(
    message: string,
    /** The execution. Empty where it never became known. */
    readonly executionId: string,
    /** The last event that came without a hole. */
    readonly sequence: bigint,
    cause?: StepwireError,
  ) {
    super(message, cause?.code ?? Code.Unknown, { cause });
  }
}

/** What ran ended in `plan_failed`. `code`, `reason` and the message are those that the event carries. */
export class ExecutionFailed extends StepwireError {
  override readonly name = "ExecutionFailed";

  constructor(
    status: Status | undefined,
    /** The execution. */
    readonly executionId: string,
  ) {
    super(status?.message || "The execution failed.", status?.code ?? Code.Unknown, {
      reason: status === undefined ? "" : reasonOf(status),
    });
  }
}

/** What ran ended in `plan_cancelled`. */
export class ExecutionCancelled extends StepwireError {
  override readonly name = "ExecutionCancelled";

  constructor(
    message: string,
    /** The execution. */
    readonly executionId: string,
  ) {
    super(message, Code.Canceled);
  }
}

/** Returns the reason in a status of an event (`step_failed`, `step_retrying`, `plan_failed`, `error`), or "". */
export function reasonOf(status: Status): string {
  for (const detail of status.details) {
    const info = anyUnpack(detail, ErrorInfoSchema);
    if (info?.domain === DOMAIN) {
      return info.reason;
    }
  }
  return "";
}

/** Returns a duration in seconds. */
export function seconds(duration: Duration): number {
  return Number(duration.seconds) + duration.nanos / 1e9;
}

/** A failure with a cause is the connection's own, no status of a server: the transport says ABORTED or INTERNAL. */
function codeOf(failure: ConnectError): Code {
  const lost = failure.cause instanceof Error && (failure.code === Code.Aborted || failure.code === Code.Internal);
  return lost ? Code.Unavailable : failure.code;
}
