/**
 * How a stream of events outlives its connections: a state machine without IO and without a clock.
 *
 * `take` gives the next event. When it gives none, `step` says what to do, and what came of it is told with `opened`,
 * `received`, `ended` or `silent`. All times are in seconds of any clock that never goes back. The rules:
 *
 * 1.  The cursor is the last event that the caller has processed, which it says by asking for the next.
 * 2.  An event at or below the last accepted one is a duplicate and is dropped.
 * 3.  A hole is refused: what came before it is given, and another call is opened from the cursor. Without a filter
 *     each event is checked, with one only the ranges that the messages say they cover.
 * 4.  The terminal event ends the stream. An event after it breaks the contract.
 * 5.  A call that ends OK without the terminal event is opened again, unless its snapshot says that the execution ended
 *     at or before the cursor: then there is nothing left to give.
 * 6.  DRAINING opens again over a new connection. As a notice it is no failure: the first time at once, then with
 *     back-off. As a status it is one.
 * 7.  A status that can pass (`canPass`) opens again after a back-off.
 * 8.  Before the first message Execute is opened, with a request id that makes it safe to send again; after it
 *     WatchExecution.
 * 9.  Two budgets of failures, one for the start and one for resuming. A new event or a heartbeat fills the second
 *     again: a heartbeat comes only over a call that has been healthy for a whole interval.
 * 10. A call that says nothing for two heartbeat intervals and a second is dead. The next one is over a new connection.
 * 11. An event of an unknown kind is an event.
 *
 *              opened            terminal event         OK, an error, or silence
 *     toOpen ----------> reading ----------------> ending ----------------------> finished
 *       ^                 | | |                      |
 *       '-----------------' | '----------------------'--------> broken
 *     lost, within budget   '---> finished            refused, budget spent, contract broken
 *                                 nothing left
 */

import type { StepwireError } from "./errors.js";
import { StreamBroken } from "./errors.js";
import { hasEnded, isTerminal } from "./events.js";
import type { Event } from "./gen/stepwire/v1/event_pb.js";
import { EventBatch_Notice as Notice, type EventBatch, type Execution } from "./gen/stepwire/v1/execution_pb.js";
import { Listening } from "./listening.js";
import { backoff, Budget, canPass, silence, type Patience } from "./patience.js";

/** Seconds that the status may take after the terminal event. Nothing depends on it any more. */
const END_OF_CALL = 1;

/** End the call that there may be, wait, and open another: Execute, or WatchExecution after the cursor. */
export interface Opening {
  do: "open";
  execute: boolean;
  afterSequence: bigint;
  waitSeconds: number;
  newConnection: boolean;
}

/** What to do next. */
export type Step =
  | Opening
  /** Wait for the next message, or for the end of the call, at most so long. */
  | { do: "read"; seconds: number }
  /** The stream is over. */
  | { do: "finish" }
  /** The stream can't go on. */
  | { do: "refuse"; error: StepwireError };

/** What a stream is about. */
export interface Subject {
  /** The execution to watch. Empty: Execute starts one. */
  executionId: string;
  /** Watch what comes after this event. */
  afterSequence: bigint;
  /** Whether a filter leaves events out. */
  filtered: boolean;
  /** The interval after which the server says that it lives. */
  heartbeatSeconds: number;
  /** What the first message of a call may take. */
  openingSeconds: number;
}

export class Resumption {
  /** The execution. Empty until Execute's first message has come. */
  executionId: string;
  /** The newest snapshot that a stream began with. */
  execution: Execution | undefined;
  /** The event that ended the execution, once it has been received. */
  terminal: Event | undefined;

  #state: "toOpen" | "reading" | "ending" | "finished" | "broken" = "toOpen";
  #pending: Event[] = [];
  #taken = 0; // of those that are pending
  #accepted: bigint; // everything up to here has been received, without a hole
  #given: bigint; // the last event that `take` gave
  #cursor: bigint; // the last event that was processed
  #gave = false; // since the last step
  #welcomed = false;
  #openAt = 0;
  #newConnection = false;
  #drains = 0; // in a row
  #error: StepwireError | undefined;
  readonly #listening = new Listening();
  readonly #budget: Budget;

  /** `random` gives 0 to 1. */
  constructor(
    private readonly subject: Subject,
    private readonly patience: Patience,
    private readonly random: () => number,
  ) {
    this.executionId = subject.executionId;
    this.#accepted = this.#given = this.#cursor = subject.afterSequence;
    this.#budget = new Budget(patience);
  }

  /** The cursor: the last event that the caller has processed. */
  get sequence(): bigint {
    return this.#cursor;
  }

  /** Whether a first message has come, over any call. */
  get welcomed(): boolean {
    return this.#welcomed;
  }

  /** Returns the next event, or undefined where `step` must be asked. The one before it counts as processed. */
  take(): Event | undefined {
    const event = this.#pending[this.#taken];
    if (event !== undefined) {
      this.#taken++;
      this.#cursor = this.#given;
      this.#given = event.sequence;
      this.#gave = true;
      return event;
    }
    this.#pending = [];
    this.#taken = 0;
    // All is processed, and what a filter left out of the end of the last message with it.
    this.#cursor = this.#given = this.#accepted;
    return undefined;
  }

  /** Returns what to do next. */
  step(now: number): Step {
    if (this.#gave) {
      this.#gave = false;
      this.#budget.rested(now);
    }
    switch (this.#state) {
      case "toOpen":
        return {
          do: "open",
          execute: this.executionId === "",
          afterSequence: this.#accepted,
          waitSeconds: Math.max(0, this.#openAt - now),
          newConnection: this.#newConnection,
        };
      case "reading":
      case "ending":
        return { do: "read", seconds: this.#listening.left(now) };
      case "finished":
        return { do: "finish" };
      case "broken":
        return { do: "refuse", error: this.#error! };
    }
  }

  /** Takes note that the call that `step` asked for is under way. */
  opened(now: number): void {
    this.#state = "reading";
    this.#newConnection = false;
    this.#listening.expect(now, this.subject.openingSeconds);
  }

  /** Takes note that the call was ended from our side. Asked again, the stream goes on where it was. */
  suspend(): void {
    if (this.#state === "reading") {
      this.#state = "toOpen";
    } else if (this.#state === "ending") {
      this.#state = "finished";
    }
  }

  /** Takes a message. */
  received(batch: EventBatch, now: number): void {
    if (this.#state === "ending") {
      if (batch.events.some((event) => event.sequence > this.#accepted)) {
        this.#break(this.#broken("The server sent an event after the terminal one"));
      }
      return;
    }
    this.#listening.expect(now, 2 * this.subject.heartbeatSeconds + 1);
    if (!this.#welcome(batch, now)) {
      return;
    }
    const hole = this.#accept(batch);
    if (this.#state === "broken") {
      return;
    }
    if (this.terminal !== undefined) {
      this.#state = "ending";
      this.#listening.expect(now, END_OF_CALL);
    } else if (hole !== "") {
      this.#lose(this.#broken(hole), now);
    } else if (batch.notice === Notice.DRAINING) {
      this.#moveOn(now);
    } else if (batch.notice === Notice.HEARTBEAT) {
      this.#refill();
    }
  }

  /** Takes the end of the call: its error, or undefined for OK. */
  ended(error: StepwireError | undefined, now: number): void {
    if (this.#state === "ending") {
      this.#state = "finished";
    } else if (error !== undefined) {
      if (canPass(error)) {
        this.#lose(error, now);
      } else {
        this.#break(error);
      }
    } else if (this.execution && hasEnded(this.execution) && this.execution.asOfSequence <= this.#accepted) {
      this.#state = "finished";
    } else {
      this.#lose(this.#broken("The stream ended before the execution did"), now);
    }
  }

  /** Takes note that nothing came in the time that `step` gave. */
  silent(now: number): void {
    if (this.#state === "ending") {
      this.#state = "finished";
    } else if (this.#listening.isOver(now)) {
      this.#newConnection = true;
      this.#lose(silence(), now);
    }
  }

  /** Takes what a message says about the execution. Returns whether to go on with it. */
  #welcome(batch: EventBatch, now: number): boolean {
    const told = batch.execution?.executionId ?? batch.events[0]?.executionId ?? this.executionId;
    if (told === "") {
      this.#lose(this.#broken("The server did not say which execution the stream is about"), now);
      return false;
    }
    this.executionId ||= told;
    const strange = [told, ...batch.events.map((event) => event.executionId)].find((id) => id !== this.executionId);
    if (strange !== undefined) {
      this.#break(this.#broken(`The server sent events of ${strange}`));
      return false;
    }
    this.execution = batch.execution ?? this.execution;
    if (!this.#welcomed) {
      this.#welcomed = true;
      this.#refill();
    }
    return true;
  }

  /** Takes the events of a message up to the first hole. Returns what is wrong, or "". */
  #accept(batch: EventBatch): string {
    if (batch.afterSequence > this.#accepted) {
      return `Events ${this.#accepted + 1n} to ${batch.afterSequence} are missing`;
    }
    const before = this.#accepted;
    const hole = this.#acceptEvents(batch.events, batch.sequence);
    if (this.#accepted > before) {
      this.#refill();
    }
    return hole;
  }

  #acceptEvents(events: readonly Event[], last: bigint): string {
    for (const event of events) {
      const { sequence } = event;
      if (sequence <= this.#accepted) {
        continue;
      }
      if (this.terminal !== undefined) {
        this.#break(this.#broken("The server sent an event after the terminal one"));
        return "";
      }
      if (sequence > last) {
        return `Event ${sequence} is out of place`;
      }
      if (!this.subject.filtered && sequence !== this.#accepted + 1n) {
        return `Event ${this.#accepted + 1n} is missing`;
      }
      this.#pending.push(event);
      this.#accepted = sequence;
      if (isTerminal(event)) {
        this.terminal = event;
      }
    }
    if (this.#accepted < last) {
      if (!this.subject.filtered) {
        return `Events ${this.#accepted + 1n} to ${last} are missing`;
      }
      this.#accepted = last;
    }
    return "";
  }

  #refill(): void {
    this.#budget.refill();
    this.#drains = 0;
  }

  /** Opens again after a failure, within the budget. */
  #lose(error: StepwireError, now: number): void {
    this.#budget.failed(now);
    const wait = Math.max(0, error.retryAfterSeconds ?? 0) + this.#backoff();
    if (this.#budget.isSpent(now + wait, this.#welcomed)) {
      this.#giveUp(error);
      return;
    }
    this.#newConnection ||= error.reason === "DRAINING";
    this.#openAt = now + wait;
    this.#state = "toOpen";
  }

  /** Opens again because the server is going. */
  #moveOn(now: number): void {
    this.#drains++;
    this.#newConnection = true;
    this.#openAt = now + (this.#drains > 1 ? this.#backoff() : 0);
    this.#state = "toOpen";
  }

  #backoff(): number {
    return backoff(this.#budget.failures + this.#drains, this.patience, this.random);
  }

  #giveUp(error: StepwireError): void {
    const { failures } = this.#budget;
    const text = `Gave up after ${failures} failures in a row: ${error.message}`;
    this.#break(this.#welcomed ? this.#broken(text, error) : error);
  }

  #broken(text: string, cause?: StepwireError): StreamBroken {
    return new StreamBroken(text, this.executionId, this.#accepted, cause);
  }

  #break(error: StepwireError): void {
    this.#error = error;
    this.#state = "broken";
  }
}
