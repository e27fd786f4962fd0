// What a status becomes, and what is tried again.

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import { ExecutionCancelled, reasonOf, StepwireError } from "../src/errors.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { backoff, canPass, DEFAULT_PATIENCE, pauseBefore } from "../src/patience.js";
import { refusal, type Detail } from "./serving.js";

function received(code: Code, ...details: Detail[]): StepwireError {
  return StepwireError.from(refusal(code, ...details));
}

test("a status has its reason, its metadata, its violations and its time to wait", () => {
  const violations = [
    { field: "plan.steps[0].id", description: "must not be empty" },
    { field: "plan.steps[3].depends_on[0]", description: "is no step of this plan" },
  ];
  const error = received(
    Code.InvalidArgument,
    { desc: ErrorInfoSchema, value: { domain: "stepwire", reason: "PLAN_INVALID", metadata: { steps: "4" } } },
    { desc: BadRequestSchema, value: { fieldViolations: violations } },
    { desc: RetryInfoSchema, value: { retryDelay: { seconds: 1n, nanos: 500_000_000 } } },
  );
  assert.equal(error.message, "from the server");
  assert.equal(error.code, Code.InvalidArgument);
  assert.equal(error.reason, "PLAN_INVALID");
  assert.deepEqual(error.metadata, { steps: "4" });
  assert.deepEqual(error.violations, violations);
  assert.equal(error.retryAfterSeconds, 1.5);
});

test("the text of an error has its reason, and ten violations beside the one in its message", () => {
  const violations = Array.from({ length: 13 }, (_, index) => {
    return { field: `plan.steps[${index}].id`, description: "is empty" };
  });
  const message = "the plan is invalid: plan.steps[0].id is empty (and 12 more)";
  const error = new StepwireError(message, Code.InvalidArgument, { reason: "PLAN_INVALID", violations });
  const lines = String(error).split("\n");
  assert.equal(lines[0], `StepwireError: PLAN_INVALID: ${message}`);
  assert.equal(lines[1], "  plan.steps[1].id: is empty");
  assert.equal(lines[10], "  plan.steps[10].id: is empty");
  assert.deepEqual(lines.slice(11), ["  and 2 more"]);
});

test("the text of an error without a reason is its class and its message", () => {
  assert.equal(String(new StepwireError("No route.", Code.Unavailable)), "StepwireError: No route.");
  assert.equal(String(new ExecutionCancelled("sold", "e-1")), "ExecutionCancelled: sold");
});

test("a reason of another domain is none of ours", () => {
  const theirs = { desc: ErrorInfoSchema, value: { domain: "proxy.example", reason: "NO_UPSTREAM" } };
  const error = received(Code.Unavailable, theirs);
  assert.equal(error.reason, "");
  assert.equal(error.code, Code.Unavailable);
});

test("a connection that was reset is UNAVAILABLE, and an ABORTED of the server is not", () => {
  const reset = new ConnectError("read ECONNRESET", Code.Aborted, undefined, undefined, new Error("ECONNRESET"));
  assert.equal(StepwireError.from(reset).code, Code.Unavailable);
  assert.equal(received(Code.Aborted).code, Code.Aborted);
});

test("what passes: UNAVAILABLE, what is the transport's, and limits that say when", () => {
  const ours = { desc: ErrorInfoSchema, value: { domain: "stepwire", reason: "A_REASON" } };
  const retry = { desc: RetryInfoSchema, value: { retryDelay: { seconds: 1n } } };
  const passing: [Code, Detail[], boolean][] = [
    [Code.Unavailable, [], true],
    [Code.Unavailable, [ours], true],
    [Code.Canceled, [], true],
    [Code.Unknown, [], true],
    [Code.Internal, [], true],
    [Code.DeadlineExceeded, [], true],
    [Code.Internal, [ours], false],
    [Code.DeadlineExceeded, [ours], false],
    [Code.ResourceExhausted, [], false],
    [Code.ResourceExhausted, [ours], false],
    [Code.ResourceExhausted, [ours, retry], true],
    [Code.ResourceExhausted, [retry], true],
    [Code.PermissionDenied, [], false],
    [Code.NotFound, [ours], false],
    [Code.Aborted, [], false],
  ];
  for (const [code, details, expected] of passing) {
    assert.equal(canPass(received(code, ...details)), expected, `${Code[code]} with ${details.length} details`);
  }
});

test("the back-off is a random share of the doubled delay", () => {
  const waits = [1, 2, 3, 7, 2000].map((failures) => backoff(failures, DEFAULT_PATIENCE, () => 0.5));
  assert.deepEqual(waits, [0.05, 0.1, 0.2, 2.5, 2.5]);
});

test("a unary call is tried again within its deadline and its budget", () => {
  const away = received(Code.Unavailable);
  const pause = (error: StepwireError, failures: number, left: number) =>
    pauseBefore(error, failures, left, DEFAULT_PATIENCE, () => 1);
  assert.equal(pause(away, 1, 10), 0.1);
  assert.equal(pause(away, 1, 0.1), undefined);
  assert.equal(pause(away, 8, 10), undefined);
  assert.equal(pause(received(Code.Canceled), 1, 10), 0.1);
  assert.equal(pause(received(Code.DeadlineExceeded), 1, 10), undefined);
  assert.equal(pause(received(Code.NotFound), 1, 10), undefined);
});

test("the reason of a status in an event", () => {
  const info = create(ErrorInfoSchema, { domain: "stepwire", reason: "TIME_LIMIT" });
  assert.equal(reasonOf(create(StatusSchema, { details: [anyPack(ErrorInfoSchema, info)] })), "TIME_LIMIT");
  assert.equal(reasonOf(create(StatusSchema)), "");
});
