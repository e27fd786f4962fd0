// What the state machine does with what a server says, without a network and without a clock.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Code } from "@connectrpc/connect";

import { StepwireError, StreamBroken } from "../src/errors.js";
import { ExecutionState } from "../src/gen/stepwire/v1/event_pb.js";
import type { EventBatch } from "../src/gen/stepwire/v1/execution_pb.js";
import { DEFAULT_PATIENCE, type Patience } from "../src/patience.js";
import { Resumption, type Opening, type Subject } from "../src/resume.js";
import { batch, completed, draining, event, EXECUTION, heartbeat, pieces, welcome } from "./scripted.js";

const UNAVAILABLE = new StepwireError("away", Code.Unavailable);

/** A stream with a clock of its own, which says what `random` gives: 1, the longest back-off. */
class Stream {
  now = 100;
  readonly resumption: Resumption;

  constructor(subject: Partial<Subject> = {}, patience: Partial<Patience> = {}) {
    this.resumption = new Resumption(
      { executionId: "", afterSequence: 0n, filtered: false, heartbeatSeconds: 15, openingSeconds: 10, ...subject },
      { ...DEFAULT_PATIENCE, ...patience },
      () => 1,
    );
  }

  /** Opens a call, which must be what is asked for, and says these messages. */
  open(...batches: EventBatch[]): Opening {
    const opening = this.opening();
    this.now += opening.waitSeconds;
    this.resumption.opened(this.now);
    this.say(...batches);
    return opening;
  }

  opening(): Opening {
    const step = this.resumption.step(this.now);
    assert.equal(step.do, "open");
    const opening = step as Opening;
    return { ...opening, waitSeconds: Number(opening.waitSeconds.toFixed(6)) };
  }

  say(...batches: EventBatch[]): void {
    for (const message of batches) {
      this.reading();
      this.resumption.received(message, this.now);
    }
  }

  reading(): number {
    const step = this.resumption.step(this.now);
    assert.equal(step.do, "read");
    return (step as { seconds: number }).seconds;
  }

  end(error?: StepwireError): void {
    this.resumption.ended(error, this.now);
  }

  /** Takes all that there is. */
  taken(): number[] {
    const sequences: number[] = [];
    for (let next = this.resumption.take(); next !== undefined; next = this.resumption.take()) {
      sequences.push(Number(next.sequence));
    }
    return sequences;
  }

  refusal(): StepwireError {
    const step = this.resumption.step(this.now);
    assert.equal(step.do, "refuse");
    return (step as { error: StepwireError }).error;
  }

  broken(): StreamBroken {
    const error = this.refusal();
    assert.ok(error instanceof StreamBroken, error.message);
    return error;
  }

  assertFinished(): void {
    assert.equal(this.resumption.step(this.now).do, "finish");
  }
}

test("executes until the first message, and watches from the cursor then", () => {
  const stream = new Stream();
  assert.equal(stream.open().execute, true);
  stream.end(UNAVAILABLE);
  assert.equal(stream.open(welcome(), pieces(1, 2)).execute, true);
  assert.equal(stream.resumption.executionId, EXECUTION);
  assert.deepEqual(stream.taken(), [1, 2]);
  stream.end(UNAVAILABLE);
  const opening = stream.opening();
  assert.equal(opening.execute, false);
  assert.equal(opening.afterSequence, 2n);
  assert.equal(opening.newConnection, false);
});

test("does not execute again after a first message without events", () => {
  const stream = new Stream();
  stream.open(welcome());
  stream.end(UNAVAILABLE);
  assert.equal(stream.opening().execute, false);
});

test("watches from the cursor that the caller gives", () => {
  const stream = new Stream({ executionId: EXECUTION, afterSequence: 7n });
  const opening = stream.open(welcome(7), pieces(8));
  assert.equal(opening.execute, false);
  assert.equal(opening.afterSequence, 7n);
  assert.deepEqual(stream.taken(), [8]);
});

test("the cursor is the event before the one that was taken last", () => {
  const stream = new Stream();
  stream.open(welcome(), pieces(1, 2));
  stream.resumption.take();
  assert.equal(stream.resumption.sequence, 0n);
  stream.resumption.take();
  assert.equal(stream.resumption.sequence, 1n);
  stream.resumption.take();
  assert.equal(stream.resumption.sequence, 2n);
});

test("ends with the terminal event, whatever the call does afterwards", () => {
  const ends: ((stream: Stream) => void)[] = [
    (stream) => stream.end(),
    (stream) => stream.end(UNAVAILABLE),
    (stream) => stream.resumption.silent(stream.now),
  ];
  for (const end of ends) {
    const stream = new Stream();
    stream.open(welcome(), batch([event(1), completed(2)]));
    assert.deepEqual(stream.taken(), [1, 2]);
    assert.equal(stream.reading(), 1);
    end(stream);
    stream.assertFinished();
  }
});

test("an event after the terminal one breaks the contract", () => {
  const within = new Stream();
  within.open(welcome(), batch([event(1), completed(2), event(3)]));
  assert.deepEqual(within.taken(), [1, 2]);
  assert.equal(within.broken().sequence, 2n);

  const behind = new Stream();
  behind.open(welcome(), batch([event(1), completed(2)]), pieces(3));
  assert.deepEqual(behind.taken(), [1, 2]);
  assert.match(behind.broken().message, /after the terminal one/);
});

test("drops duplicates, on one stream and on the next", () => {
  const stream = new Stream();
  stream.open(welcome(), pieces(1, 2), pieces(1, 2), pieces(2, 3));
  assert.deepEqual(stream.taken(), [1, 2, 3]);
  stream.end();
  stream.open(welcome(1), pieces(2, 3, 4));
  assert.deepEqual(stream.taken(), [4]);
});

const HOLES: [string, EventBatch][] = [
  ["between messages", pieces(4, 5)],
  ["within a message", batch([event(4)], { after: 2 })],
  ["at the end of a message", batch([], { after: 2, to: 3 })],
  ["beyond a message", batch([event(3)], { after: 2, to: 2 })],
];

for (const [where, message] of HOLES) {
  test(`a hole ${where} opens again from the cursor`, () => {
    const stream = new Stream();
    stream.open(welcome(), pieces(1, 2), message);
    assert.deepEqual(stream.taken(), [1, 2]);
    assert.equal(stream.opening().afterSequence, 2n);
  });
}

test("what came before a hole in its message is given", () => {
  const stream = new Stream();
  stream.open(welcome(), batch([event(1), event(2), event(4)], { after: 0 }));
  assert.equal(stream.opening().afterSequence, 2n);
  assert.deepEqual(stream.taken(), [1, 2]);
});

test("a hole that comes for ever breaks the stream, and tells the cursor", () => {
  const stream = new Stream({}, { resumeFailures: 3 });
  stream.open(welcome(), pieces(1, 2), pieces(4));
  assert.deepEqual(stream.taken(), [1, 2]);
  stream.open(welcome(2), pieces(4));
  stream.open(welcome(2), pieces(4));
  const error = stream.broken();
  assert.equal(error.sequence, 2n);
  assert.equal(error.executionId, EXECUTION);
  assert.match(error.message, /Gave up after 3 failures in a row: Events 3 to 3 are missing/);
});

test("with a filter the ranges count, and not the events", () => {
  const stream = new Stream({ filtered: true });
  stream.open(welcome(), batch([event(2), event(5)], { after: 0, to: 6 }));
  assert.deepEqual(stream.taken(), [2, 5]);
  assert.equal(stream.resumption.sequence, 6n);
  stream.say(batch([event(9)], { after: 7 }));
  assert.equal(stream.opening().afterSequence, 6n);
});

test("events of another execution break the contract", () => {
  const stream = new Stream();
  stream.open(welcome(), batch([event(1), event(2, undefined, "e-2")]));
  assert.deepEqual(stream.taken(), []);
  assert.match(stream.broken().message, /e-2/);

  const resumed = new Stream({ executionId: "e-2" });
  resumed.open(welcome());
  assert.match(resumed.broken().message, /e-1/);
});

test("a stream that does not say whose it is, is tried again", () => {
  const stream = new Stream();
  stream.open(batch([]));
  assert.equal(stream.opening().execute, true);
});

test("OK without a terminal event opens again, unless nothing is left", () => {
  const stream = new Stream({ executionId: EXECUTION, afterSequence: 9n });
  stream.open(welcome(9));
  stream.end();
  stream.open(welcome(9, ExecutionState.COMPLETED, 10));
  stream.end();
  stream.open(welcome(9, ExecutionState.COMPLETED, 9));
  stream.end();
  stream.assertFinished();
});

test("a draining notice opens at once over a new connection, and is no failure", () => {
  const stream = new Stream({}, { resumeFailures: 1 });
  stream.open(welcome(), pieces(1), draining(1));
  assert.deepEqual(stream.taken(), [1]);
  const opening = stream.open(welcome(1), draining(1));
  assert.equal(opening.newConnection, true);
  assert.equal(opening.waitSeconds, 0);
  // The next server goes, too: a back-off keeps it from being asked without end.
  assert.equal(stream.opening().waitSeconds, 0.2);
});

test("a draining status opens over a new connection, and is a failure", () => {
  const stream = new Stream();
  const error = new StepwireError("going", Code.Unavailable, { reason: "DRAINING", retryAfterSeconds: 2 });
  stream.open();
  stream.end(error);
  const opening = stream.opening();
  assert.equal(opening.newConnection, true);
  assert.equal(opening.waitSeconds, 2.1);
});

test("a new connection is asked for once", () => {
  const stream = new Stream();
  stream.open(welcome(), draining(0));
  stream.open(welcome());
  stream.end(UNAVAILABLE);
  assert.equal(stream.opening().newConnection, false);
});

test("waits are doubled with each failure, up to the longest", () => {
  const stream = new Stream({}, { startSeconds: 1000, maxDelaySeconds: 0.7 });
  const waits = [0.1, 0.2, 0.4, 0.7, 0.7].map(() => {
    stream.open();
    stream.end(UNAVAILABLE);
    return stream.opening().waitSeconds;
  });
  assert.deepEqual(waits, [0.1, 0.2, 0.4, 0.7, 0.7]);
});

test("the last error of the start is thrown when its budget is spent", () => {
  const stream = new Stream({}, { startFailures: 2 });
  stream.open();
  stream.end(UNAVAILABLE);
  stream.open();
  const last = new StepwireError("the last", Code.Unavailable);
  stream.end(last);
  assert.equal(stream.refusal(), last);
});

test("seconds are a budget, too, and a wait beyond them is not begun", () => {
  const stream = new Stream({}, { startSeconds: 5 });
  stream.open();
  const busy = new StepwireError("busy", Code.ResourceExhausted, { reason: "LIMIT_WATCHERS", retryAfterSeconds: 6 });
  stream.end(busy);
  assert.equal(stream.refusal(), busy);
});

test("time in which events are processed is not held against the server", () => {
  const stream = new Stream({}, { resumeSeconds: 5 });
  stream.open(welcome(), batch([event(1), event(3)], { after: 0 }));
  assert.equal(stream.resumption.take()?.sequence, 1n);
  stream.now += 60;
  stream.taken();
  stream.open();
  stream.end(UNAVAILABLE);
  assert.equal(stream.opening().afterSequence, 1n);
});

test("a first message alone does not fill the budget for resuming", () => {
  const stream = new Stream({}, { resumeFailures: 2 });
  stream.open(welcome(), pieces(1));
  stream.taken();
  stream.end(UNAVAILABLE);
  stream.open(welcome(1));
  stream.end(UNAVAILABLE);
  assert.equal(stream.broken().cause, UNAVAILABLE);
});

for (const [what, message] of [
  ["a new event", pieces(1)],
  ["a heartbeat", heartbeat(0)],
] as const) {
  test(`${what} fills the budget for resuming`, () => {
    const stream = new Stream({}, { resumeFailures: 2 });
    stream.open(welcome());
    stream.end(UNAVAILABLE);
    stream.open(welcome(), message);
    stream.taken();
    stream.end(UNAVAILABLE);
    stream.opening();
  });
}

test("what is final is thrown as it is, at the start and later", () => {
  const refused = new StepwireError("no", Code.NotFound, { reason: "EXECUTION_NOT_FOUND" });
  const stream = new Stream();
  stream.open();
  stream.end(refused);
  assert.equal(stream.refusal(), refused);

  const later = new Stream();
  later.open(welcome(), pieces(1));
  later.end(refused);
  assert.deepEqual(later.taken(), [1]);
  assert.equal(later.refusal(), refused);
});

test("a call is dead after two heartbeats and a second of silence", () => {
  const stream = new Stream({ heartbeatSeconds: 3, openingSeconds: 4 });
  stream.open();
  assert.equal(stream.reading(), 4);
  stream.say(welcome());
  assert.equal(stream.reading(), 7);
  stream.now += 5;
  stream.say(heartbeat(0));
  assert.equal(stream.reading(), 7);
  stream.now += 7;
  stream.resumption.silent(stream.now);
  assert.equal(stream.opening().newConnection, true);
});

test("a reader that was away listens before it finds silence", () => {
  const stream = new Stream({ heartbeatSeconds: 3 });
  stream.open(welcome());
  stream.now += 60;
  assert.equal(stream.reading(), 1);

  // Something blocked the process while it listened.
  stream.now += 60;
  stream.resumption.silent(stream.now);
  assert.equal(stream.reading(), 1);
  stream.now += 1;
  stream.resumption.silent(stream.now);
  stream.opening();
});

test("an event of an unknown kind is an event", () => {
  const stream = new Stream();
  stream.open(welcome(), batch([event(1), event(2, { case: undefined }), event(3)]));
  assert.deepEqual(stream.taken(), [1, 2, 3]);
});

test("a stream that was left goes on behind what was received", () => {
  const stream = new Stream();
  stream.open(welcome(), pieces(1, 2, 3));
  assert.equal(stream.resumption.take()?.sequence, 1n);
  stream.resumption.suspend();
  assert.deepEqual(stream.taken(), [2, 3]);
  assert.equal(stream.opening().afterSequence, 3n);

  const ended = new Stream();
  ended.open(welcome(), batch([completed(1)]));
  ended.resumption.suspend();
  assert.deepEqual(ended.taken(), [1]);
  ended.assertFinished();
});
