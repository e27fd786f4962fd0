/** One execution that is being followed. */

import type { JsonValue, MessageInitShape } from "@bufbuild/protobuf";
import type { CallOptions } from "@connectrpc/connect";

import { Call } from "./call.js";
import { StepwireError, StreamBroken } from "./errors.js";
import { outputOf } from "./events.js";
import type { Event } from "./gen/stepwire/v1/event_pb.js";
import type { EventBatch, Execution } from "./gen/stepwire/v1/execution_pb.js";
import type { ExecuteRequest, WatchExecutionRequestSchema } from "./gen/stepwire/v1/execution_service_pb.js";
import { canPass, type Patience } from "./patience.js";
import { ProgressTracker } from "./progress.js";
import { Resumption, type Opening, type Subject } from "./resume.js";
import { sleep } from "./sleep.js";
import type { Link, Service, Wire } from "./wire.js";

/** What a run follows. */
export interface Source {
  subject: Subject;
  /** What starts the execution. Undefined: it exists. */
  request: ExecuteRequest | undefined;
  following: Following;
}

/** What is asked for again with each WatchExecution. */
export type Following = Pick<MessageInitShape<typeof WatchExecutionRequestSchema>, "filter" | "heartbeatInterval">;

/**
 * An execution that is being followed: an async iterable of its events, in order, each once.
 *
 *     const run = await client.execute({ query: "..." });
 *     for await (const event of run) {
 *       console.log(event.progress?.percentage, event.message);
 *     }
 *     console.log(await run.result());
 *
 * Leaving the loop early, by `break` or by an exception, ends the call at once; the execution goes on. Another loop or
 * `result` then takes it up again where it was left. One loop at a time.
 */
export class Run implements AsyncIterable<Event>, AsyncDisposable {
  /** How far the execution is, by the events that were read so far. */
  readonly progress = new ProgressTracker();

  readonly #resumption: Resumption;
  readonly #closing = new AbortController();
  #call: Call | undefined;
  #link: Link | undefined;
  #isRead = false;

  /** @internal */
  constructor(
    private readonly wire: Wire,
    private readonly source: Source,
    patience: Patience,
    /** Called when there is nothing to close any more. */
    private readonly onEnd: () => void,
  ) {
    this.#resumption = new Resumption(source.subject, patience, Math.random);
  }

  /** The execution. Keep it to watch the execution again, from any process. */
  get executionId(): string {
    return this.#resumption.executionId;
  }

  /** The request id that the execution was asked for with. Empty for one that is only watched. */
  get requestId(): string {
    return this.source.request?.requestId ?? "";
  }

  /** The snapshot that the stream began with; of a resumed stream, that of its newest beginning. */
  get execution(): Execution | undefined {
    return this.#resumption.execution;
  }

  /**
   * The cursor: the last event that was processed, which is the one before the event that was read last. Watch on after
   * this. `Number(run.sequence)` is exact: no execution has 2^53 events.
   */
  get sequence(): bigint {
    return this.#resumption.sequence;
  }

  /** The event that ended the execution, once it has been received. */
  get terminal(): Event | undefined {
    return this.#resumption.terminal;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event, void, undefined> {
    if (this.#isRead) {
      throw new Error("The run is being read already.");
    }
    this.#isRead = true;
    try {
      for (;;) {
        this.#throwIfClosed();
        const event = this.#resumption.take();
        if (event !== undefined) {
          this.progress.add(event);
          yield event;
        } else if (!(await this.#advance())) {
          return;
        }
      }
    } finally {
      this.#isRead = false;
      this.#leave();
    }
  }

  /**
   * Reads what is left, and returns the execution's output.
   *
   * Throws ExecutionFailed or ExecutionCancelled where it did not complete, StreamBroken where the stream can't go on.
   */
  async result(): Promise<JsonValue> {
    for await (const _ of this);
    return outputOf((this.terminal ?? this.execution)!);
  }

  /** Ends the call. The execution goes on. Whoever reads gets `reason` thrown. Closing twice is once. */
  close(reason?: unknown): void {
    const text = `The run was closed. Watch ${this.executionId || "it"} again after ${this.sequence}.`;
    this.#closing.abort(reason ?? new StreamBroken(text, this.executionId, this.sequence));
    this.#leave();
    this.onEnd();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** @internal Returns once the stream has begun. Throws where it can't. */
  async begin(): Promise<void> {
    try {
      do {
        this.#throwIfClosed();
      } while (!this.#resumption.welcomed && (await this.#advance()));
    } catch (error) {
      this.close();
      if (error instanceof StepwireError && canPass(error)) {
        error.requestId = this.requestId;
      }
      throw error;
    }
  }

  /** Does what the state machine asks for next. Returns false where the stream is over. */
  async #advance(): Promise<boolean> {
    const resumption = this.#resumption;
    const { signal } = this.#closing;
    const step = resumption.step(now());
    switch (step.do) {
      case "open": {
        this.#hangUp();
        await sleep(step.waitSeconds, signal);
        if (signal.aborted) {
          return true;
        }
        this.#link = this.wire.link(step.newConnection ? this.#link : undefined);
        this.#call = new Call(this.#link, (service, options) => this.#open(step, service, options));
        resumption.opened(now());
        return true;
      }
      case "read": {
        const received = await this.#call!.next(step.seconds);
        if (signal.aborted) {
          return true;
        }
        if (received === undefined) {
          resumption.silent(now());
        } else if ("batch" in received) {
          resumption.received(received.batch, now());
        } else {
          resumption.ended(received.end, now());
        }
        return true;
      }
      case "finish":
        this.#hangUp();
        this.onEnd();
        return false;
      case "refuse":
        this.#hangUp();
        this.onEnd();
        throw step.error;
    }
  }

  #open(step: Opening, service: Service, options: CallOptions): AsyncIterable<EventBatch> {
    const { request, following } = this.source;
    if (step.execute) {
      return service.execute(request!, options);
    }
    const { executionId } = this;
    return service.watchExecution({ executionId, afterSequence: step.afterSequence, ...following }, options);
  }

  /** Once the terminal event is there nothing is lost by closing: what was received is given. */
  #throwIfClosed(): void {
    if (this.terminal === undefined) {
      this.#closing.signal.throwIfAborted();
    }
  }

  #leave(): void {
    this.#hangUp();
    this.#resumption.suspend();
  }

  #hangUp(): void {
    this.#call?.cancel();
    this.#call = undefined;
  }
}

function now(): number {
  return performance.now() / 1000;
}
