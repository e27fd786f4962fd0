/** The client, over any transport. */

import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { CallOptions } from "@connectrpc/connect";

import { StepwireError } from "./errors.js";
import type { EventFilterSchema, Execution, ExecutionOptionsSchema } from "./gen/stepwire/v1/execution_pb.js";
import { ExecuteRequestSchema, type ExecuteRequest } from "./gen/stepwire/v1/execution_service_pb.js";
import { PlanCallSchema, PlanSchema } from "./gen/stepwire/v1/plan_pb.js";
import { DEFAULT_PATIENCE, pauseBefore, type Patience } from "./patience.js";
import { Run, type Following } from "./run.js";
import { sleep } from "./sleep.js";
import { Wire, type Connect, type Service } from "./wire.js";

const DEFAULT_TIMEOUT_SECONDS = 10;
const DEFAULT_HEARTBEAT_SECONDS = 15;

/** What to run: exactly one of `query`, `plan` and `call`. */
export type Work = Start & (
  | {
      /** A question or task for the server's planner. */
      query: string;
      plan?: never;
      call?: never;
    }
  | {
      /** A plan. */
      plan: MessageInitShape<typeof PlanSchema>;
      query?: never;
      call?: never;
    }
  | {
      /** The name of a plan that the server keeps, and its input. */
      call: MessageInitShape<typeof PlanCallSchema>;
      query?: never;
      plan?: never;
    }
);

/** How to start work. */
export interface Start {
  /**
   * Makes the start idempotent: the same id with the same work is the same execution. Matches `[A-Za-z0-9_-]{1,64}`.
   * A new one when absent.
   */
  requestId?: string | undefined;
  /** Groups executions. Matches `[A-Za-z0-9_-]{1,64}`. */
  sessionId?: string | undefined;
  /** Free pairs to select by. At most 32. */
  labels?: Record<string, string> | undefined;
  /** How to run it. */
  options?: MessageInitShape<typeof ExecutionOptionsSchema> | undefined;
}

/** How to follow an execution. */
export interface FollowOptions {
  /** Which events: by kind ("step_completed") and by step. The terminal event comes whatever it says. */
  filter?: MessageInitShape<typeof EventFilterSchema> | undefined;
  /**
   * After so long a silence the server says that it lives; after twice that and a second it counts as lost. 0.1 to
   * 3600, 15 when absent.
   */
  heartbeatSeconds?: number | undefined;
  /** Ends the call, and throws the signal's reason where the run is read. The execution goes on. */
  signal?: AbortSignal | undefined;
}

/** How to watch an execution that exists. */
export interface WatchOptions extends FollowOptions {
  /** Watch what comes after this event (exclusive). 0. */
  afterSequence?: bigint | number | undefined;
}

/** How to make a unary call. */
export interface UnaryOptions {
  /** The call's deadline, with all tries. The client's `timeoutSeconds` when absent. */
  timeoutSeconds?: number | undefined;
  /** Ends the call, which throws the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** How to cancel an execution. */
export interface CancelOptions extends UnaryOptions {
  /** Why. At most 1,000 characters. */
  reason?: string | undefined;
  /** Who asks. At most 200 characters. */
  actor?: string | undefined;
}

/** How a client behaves. */
export interface BaseClientOptions {
  /** The deadline of each unary call, and the longest that a stream may take to begin. 10. */
  timeoutSeconds?: number | undefined;
  /** How long it goes on trying. What is absent is the default. */
  patience?: Partial<Patience> | undefined;
}

/** Starts, follows and controls executions on one server, over what `connect` makes. `Client` is the one for Node. */
export class BaseClient implements AsyncDisposable {
  readonly #wire: Wire;
  readonly #timeoutSeconds: number;
  readonly #patience: Patience;
  readonly #runs = new Set<Run>();

  constructor(connect: Connect, options: BaseClientOptions = {}) {
    this.#timeoutSeconds = options.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS;
    this.#patience = { ...DEFAULT_PATIENCE, ...options.patience };
    this.#wire = new Wire(connect, this.#timeoutSeconds);
  }

  /**
   * The generated client, for every rpc. Unary calls have the client's deadline unless `timeoutMs` says another; no
   * call is tried again. Throws StepwireError. End a stream with a signal: leaving its loop does not.
   */
  get service(): Service {
    return this.#wire.service;
  }

  /**
   * Starts an execution and follows it. Resolves once the server has accepted it. Losing the connection, or this
   * process, does not end the execution.
   *
   * Throws StepwireError, with the reasons of `ExecutionService.Execute`.
   */
  async execute(work: Work, options: FollowOptions = {}): Promise<Run> {
    return this.#follow(options, "", 0, executeRequest(work, options));
  }

  /**
   * Follows an execution that exists, ended or not. Resolves once the server has begun to answer.
   *
   * Throws StepwireError, with the reasons of `ExecutionService.WatchExecution`.
   */
  async watch(executionId: string, options: WatchOptions = {}): Promise<Run> {
    return this.#follow(options, executionId, options.afterSequence ?? 0);
  }

  /** Returns a snapshot, without its plan. */
  async get(executionId: string, options: UnaryOptions = {}): Promise<Execution> {
    const { execution } = await this.#unary(options, (call) => this.service.getExecution({ executionId }, call));
    return execution!;
  }

  /**
   * Asks an execution to end. Resolves once that is recorded; the end comes later. Throws StepwireError, with
   * EXECUTION_ENDED where it has ended.
   */
  async cancel(executionId: string, options: CancelOptions = {}): Promise<Execution> {
    const { reason = "", actor = "" } = options;
    const request = { executionId, reason, actor };
    const { execution } = await this.#unary(options, (call) => this.service.cancelExecution(request, call));
    return execution!;
  }

  /** Ends all runs and connections. What runs on the server goes on. Closing twice is once. */
  close(): void {
    for (const run of this.#runs) {
      run.close();
    }
    this.#wire.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  async #follow(
    options: FollowOptions,
    executionId: string,
    afterSequence: bigint | number,
    request?: ExecuteRequest,
  ): Promise<Run> {
    const { signal } = options;
    signal?.throwIfAborted();
    const subject = {
      executionId,
      afterSequence: BigInt(afterSequence),
      filtered: isSelective(options.filter),
      heartbeatSeconds: options.heartbeatSeconds ?? DEFAULT_HEARTBEAT_SECONDS,
      openingSeconds: this.#timeoutSeconds,
    };
    const abort = () => run.close(signal!.reason);
    const run = new Run(this.#wire, { subject, request, following: following(options) }, this.#patience, () => {
      signal?.removeEventListener("abort", abort);
      this.#runs.delete(run);
    });
    signal?.addEventListener("abort", abort);
    this.#runs.add(run);
    await run.begin();
    return run;
  }

  /** Makes a call that is safe to send twice, again and again until its deadline. */
  async #unary<T>(options: UnaryOptions, send: (call: CallOptions) => Promise<T>): Promise<T> {
    const { signal, timeoutSeconds = this.#timeoutSeconds } = options;
    const deadline = performance.now() + timeoutSeconds * 1000;
    for (let failures = 1; ; failures++) {
      const left = deadline - performance.now();
      try {
        return await send({ timeoutMs: Math.max(1, left), ...(signal && { signal }) });
      } catch (error) {
        signal?.throwIfAborted();
        const pause =
          error instanceof StepwireError
            ? pauseBefore(error, failures, (deadline - performance.now()) / 1000, this.#patience, Math.random)
            : undefined;
        if (pause === undefined) {
          throw error;
        }
        await sleep(pause, signal);
      }
    }
  }
}

function executeRequest(work: Work, follow: FollowOptions): ExecuteRequest {
  const { query, plan, call, requestId, sessionId = "", labels = {}, options } = work;
  const request = create(ExecuteRequestSchema, {
    requestId: requestId || crypto.randomUUID(),
    sessionId,
    labels,
    options,
    ...following(follow),
  });
  if (query !== undefined) {
    request.work = { case: "query", value: query };
  } else if (plan !== undefined) {
    request.work = { case: "plan", value: create(PlanSchema, plan) };
  } else {
    request.work = { case: "call", value: create(PlanCallSchema, call) };
  }
  // What can't be encoded fails here, and not as a call that is tried again.
  toBinary(ExecuteRequestSchema, request);
  return request;
}

/** Returns what Execute and WatchExecution are asked for alike. */
function following({ filter, heartbeatSeconds }: FollowOptions): Following {
  return {
    filter,
    heartbeatInterval:
      heartbeatSeconds === undefined ? undefined : durationFromMs(Math.round(heartbeatSeconds * 1000)),
  };
}

function isSelective(filter: FollowOptions["filter"]): boolean {
  return (filter?.kinds?.length ?? 0) + (filter?.stepIds?.length ?? 0) > 0;
}
