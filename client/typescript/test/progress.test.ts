// What the tracker makes of events.

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { EventSchema, ExecutionState } from "../src/gen/stepwire/v1/event_pb.js";
import { ProgressTracker } from "../src/progress.js";
import { completed, event } from "./scripted.js";

test("says nothing before the first event", () => {
  const tracker = new ProgressTracker();
  assert.equal(tracker.percentage, 0);
  assert.equal(tracker.totalSteps, 0);
  assert.equal(tracker.elapsedSeconds, 0);
  assert.equal(tracker.remainingSeconds, undefined);
  assert.equal(tracker.state, ExecutionState.UNSPECIFIED);
  assert.equal(tracker.hasEnded, false);
});

test("keeps what the newest event says, and counts none twice", () => {
  const tracker = new ProgressTracker();
  tracker.add(event(40));
  tracker.add(event(50));
  tracker.add(event(50));
  tracker.add(event(40));
  assert.equal(tracker.percentage, 50);
  assert.equal(tracker.eventCount, 2);
  assert.equal(tracker.completedSteps, 1);
  assert.equal(tracker.state, ExecutionState.RUNNING);
});

test("gives times in seconds", () => {
  const tracker = new ProgressTracker();
  const progress = { elapsed: { seconds: 90n, nanos: 500_000_000 }, remaining: { seconds: 3n } };
  tracker.add(create(EventSchema, { sequence: 1n, progress }));
  assert.equal(tracker.elapsedSeconds, 90.5);
  assert.equal(tracker.remainingSeconds, 3);
});

test("knows the end", () => {
  const ended = new ProgressTracker();
  ended.add(completed(1));
  assert.deepEqual([ended.hasEnded, ended.isCompleted, ended.hasFailures], [true, true, false]);

  const failed = new ProgressTracker();
  failed.add(event(1, { case: "planFailed", value: {} }));
  assert.deepEqual([failed.hasEnded, failed.isCompleted, failed.hasFailures], [true, false, true]);

  const ailing = new ProgressTracker();
  ailing.add(create(EventSchema, { sequence: 1n, progress: { failedSteps: 1 } }));
  assert.deepEqual([ailing.hasEnded, ailing.hasFailures], [false, true]);
});
