/** How long a client goes on trying, what it tries again, and how long it waits between. */

import { Code } from "@connectrpc/connect";

import { StepwireError } from "./errors.js";

/** How long a client goes on trying. The defaults give up after about 6 s at the start, and 2 min when resuming. */
export interface Patience {
  /** Failures in a row before the first message of a stream, and of a unary call. The last one is thrown. 8. */
  readonly startFailures: number;
  /** Seconds since the first of those failures. 30. */
  readonly startSeconds: number;
  /** Failures in a row without a new event or a heartbeat between them. Then StreamBroken is thrown. 50. */
  readonly resumeFailures: number;
  /** Seconds since the first of those failures. 120. */
  readonly resumeSeconds: number;
  /** Seconds: the most that the first wait can be. It doubles with each failure. 0.1. */
  readonly initialDelaySeconds: number;
  /** Seconds: no wait is longer, unless the server asked for it. 5. */
  readonly maxDelaySeconds: number;
}

export const DEFAULT_PATIENCE: Patience = {
  startFailures: 8,
  startSeconds: 30,
  resumeFailures: 50,
  resumeSeconds: 120,
  initialDelaySeconds: 0.1,
  maxDelaySeconds: 5,
};

/** What is left of a run's patience. */
export class Budget {
  /** Failures in a row. */
  failures = 0;
  #failingSince = 0;

  constructor(private readonly patience: Patience) {}

  /** Takes note of news, or of a call that has been healthy for long. */
  refill(): void {
    this.failures = 0;
  }

  /** Takes note that a call failed. */
  failed(now: number): void {
    if (this.failures === 0) {
      this.#failingSince = now;
    }
    this.failures++;
  }

  /** Takes note that nobody asked until now: that time is not held against the server. */
  rested(now: number): void {
    this.#failingSince = now;
  }

  /** Tells whether a try at that time would be too late, or one too many. */
  isSpent(at: number, resuming: boolean): boolean {
    const failures = resuming ? this.patience.resumeFailures : this.patience.startFailures;
    const seconds = resuming ? this.patience.resumeSeconds : this.patience.startSeconds;
    return this.failures >= failures || at - this.#failingSince > seconds;
  }
}

/** Returns the seconds to wait after so many failures in a row: any share of the doubled delay (full jitter). */
export function backoff(failures: number, patience: Patience, random: () => number): number {
  return random() * Math.min(patience.maxDelaySeconds, patience.initialDelaySeconds * 2 ** (failures - 1));
}

/** Codes of the transport that say nothing about the request. CANCELLED: a server that stops ends its calls so. */
const PASSING: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.Canceled,
  Code.Unknown,
  Code.Internal,
  Code.DeadlineExceeded,
]);

/** Tells whether the same call can do better later, or over another connection. */
export function canPass(error: StepwireError): boolean {
  if (error.code === Code.Unavailable) {
    return true;
  }
  if (error.code === Code.ResourceExhausted) {
    return error.retryAfterSeconds !== undefined;
  }
  return error.reason === "" && PASSING.has(error.code);
}

/**
 * Returns the seconds to wait before a unary call is sent again, or undefined where its error is to be thrown.
 * `failures` counts this one, `left` is the seconds to the call's deadline. The call must be safe to send twice.
 */
export function pauseBefore(
  error: StepwireError,
  failures: number,
  left: number,
  patience: Patience,
  random: () => number,
): number | undefined {
  const passing = error.code === Code.Unavailable || (error.code === Code.Canceled && error.reason === "");
  const pause = backoff(failures, patience, random) + Math.max(0, error.retryAfterSeconds ?? 0);
  return passing && failures < patience.startFailures && pause < left ? pause : undefined;
}

/** Returns the failure of a call that said nothing for too long. */
export function silence(): StepwireError {
  return new StepwireError("The server was silent for too long", Code.DeadlineExceeded);
}
