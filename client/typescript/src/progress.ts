/** What a run has come to. */

import { seconds } from "./errors.js";
import { isTerminal } from "./events.js";
import { ExecutionState, type Event, type Progress } from "./gen/stepwire/v1/event_pb.js";

/**
 * Folds events into how far an execution is.
 *
 * The server counts; the tracker keeps what its newest event says. So it is right with a filter, and from the middle
 * of a stream on.
 */
export class ProgressTracker {
  /** All events that were added. */
  eventCount = 0;
  #last: Event | undefined;

  /** Takes an event. One that is not newer than the last changes nothing, so none counts twice. */
  add(event: Event): void {
    if (this.#last === undefined || event.sequence > this.#last.sequence) {
      this.#last = event;
      this.eventCount++;
    }
  }

  /** 0 to 100, of the whole execution. */
  get percentage(): number {
    return this.#progress?.percentage ?? 0;
  }

  /** The place, from 1, of the step that the newest event is about. */
  get currentStep(): number {
    return this.#progress?.currentStep ?? 0;
  }

  /** Steps in the plan. 0 before there is one. */
  get totalSteps(): number {
    return this.#progress?.totalSteps ?? 0;
  }

  /** Steps completed. */
  get completedSteps(): number {
    return this.#progress?.completedSteps ?? 0;
  }

  /** Steps failed for good. */
  get failedSteps(): number {
    return this.#progress?.failedSteps ?? 0;
  }

  /** Steps that will not run. */
  get skippedSteps(): number {
    return this.#progress?.skippedSteps ?? 0;
  }

  /** Seconds from the acceptance of the execution to the newest event, by the server's clock. */
  get elapsedSeconds(): number {
    const elapsed = this.#progress?.elapsed;
    return elapsed === undefined ? 0 : seconds(elapsed);
  }

  /** An estimate of the seconds to the end, as of the newest event. Undefined when unknown. */
  get remainingSeconds(): number | undefined {
    const remaining = this.#progress?.remaining;
    return remaining && seconds(remaining);
  }

  /** The execution's state. UNSPECIFIED before the first event. */
  get state(): ExecutionState {
    return this.#last?.executionState ?? ExecutionState.UNSPECIFIED;
  }

  /** Whether the terminal event was added. */
  get hasEnded(): boolean {
    return this.#last !== undefined && isTerminal(this.#last);
  }

  /** Whether the execution has ended well. */
  get isCompleted(): boolean {
    return this.#last?.kind.case === "planCompleted";
  }

  /** Whether a step failed for good, or the execution did. */
  get hasFailures(): boolean {
    return this.failedSteps > 0 || this.#last?.kind.case === "planFailed";
  }

  get #progress(): Progress | undefined {
    return this.#last?.progress;
  }
}
