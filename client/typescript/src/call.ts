/** One open stream, read a message at a time. */

import type { CallOptions } from "@connectrpc/connect";

import { StepwireError } from "./errors.js";
import type { EventBatch } from "./gen/stepwire/v1/execution_pb.js";
import type { Link, Service } from "./wire.js";

/** What a stream gives: a message, or its end with what it ended with. */
export type Received = { batch: EventBatch } | { end: StepwireError | undefined };

export class Call {
  readonly #controller = new AbortController();
  readonly #batches: AsyncIterator<EventBatch>;
  #reading: Promise<Received> | undefined;

  constructor(
    link: Link,
    open: (service: Service, options: CallOptions) => AsyncIterable<EventBatch>,
  ) {
    this.#batches = open(link.service, { signal: this.#controller.signal })[Symbol.asyncIterator]();
  }

  /** Returns what is next, or undefined after so many seconds. What comes later is returned the next time. */
  async next(seconds: number): Promise<Received | undefined> {
    this.#reading ??= this.#read();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, seconds * 1000, undefined);
    });
    const received = await Promise.race([this.#reading, late]);
    clearTimeout(timer);
    if (received !== undefined) {
      this.#reading = undefined;
    }
    return received;
  }

  /** Ends the call. Whoever waits for a message gets its end. */
  cancel(): void {
    this.#controller.abort();
  }

  async #read(): Promise<Received> {
    try {
      const { done, value } = await this.#batches.next();
      return done ? { end: undefined } : { batch: value };
    } catch (failure) {
      return { end: StepwireError.from(failure) };
    }
  }
}
