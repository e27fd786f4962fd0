// A client as its user sees it, over a transport without a network.

import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, type HandlerContext } from "@connectrpc/connect";

import { ExecutionCancelled, ExecutionFailed, StepwireError, StreamBroken } from "../src/errors.js";
import { ExecutionState, type Event } from "../src/gen/stepwire/v1/event_pb.js";
import type { EventBatchSchema } from "../src/gen/stepwire/v1/execution_pb.js";
import type { ExecuteRequest, WatchExecutionRequest } from "../src/gen/stepwire/v1/execution_service_pb.js";
import { PlanSchema } from "../src/gen/stepwire/v1/plan_pb.js";
import { batch, completed, draining, event, EXECUTION, pieces, welcome } from "./scripted.js";
import { because, Bench, left, refusal } from "./serving.js";

type Batch = MessageInitShape<typeof EventBatchSchema>;

const WORK = { query: "build a house" };

async function* says(...batches: Batch[]): AsyncGenerator<Batch> {
  yield* batches;
}

/** Says these messages, and nothing more until the caller leaves. */
async function* saysAndHolds(context: HandlerContext, ...batches: Batch[]): AsyncGenerator<Batch> {
  yield* batches;
  await left(context);
}

async function sequencesOf(events: AsyncIterable<Event>): Promise<number[]> {
  const sequences = [];
  for await (const { sequence } of events) {
    sequences.push(Number(sequence));
  }
  return sequences;
}

test("gives the events to the end, their progress, and the output", async () => {
  const bench = new Bench({ execute: () => says(welcome(), pieces(1, 2), batch([completed(3)])) });
  const run = await bench.client.execute(WORK);
  assert.equal(run.executionId, EXECUTION);
  assert.deepEqual(await sequencesOf(run), [1, 2, 3]);
  assert.equal(run.sequence, 3n);
  assert.equal(run.progress.eventCount, 3);
  assert.equal(run.progress.isCompleted, true);
  assert.equal(await run.result(), "done");
});

test("sends the work and how to follow it, and how to follow it again when resuming", async () => {
  const requests: (ExecuteRequest | WatchExecutionRequest)[] = [];
  const bench = new Bench({
    execute: (request) => {
      requests.push(request);
      return says(welcome(), batch([event(2)], { after: 0, to: 4 }));
    },
    watchExecution: (request) => {
      requests.push(request);
      return says(welcome(4), batch([completed(5)]));
    },
  });
  const plan = { name: "house", steps: [{ id: "a", operation: "dig", input: { depth: 2 } }] };
  const following = { filter: { kinds: ["content"] }, heartbeatSeconds: 2.5 };
  const run = await bench.client.execute({ plan, labels: { site: "north" } }, following);
  assert.deepEqual(await sequencesOf(run), [2, 5]);
  const [execute, watch] = requests as [ExecuteRequest, WatchExecutionRequest];
  assert.deepEqual(execute.work, { case: "plan", value: create(PlanSchema, plan) });
  assert.match(execute.requestId, /^[\w-]{36}$/);
  assert.equal(run.requestId, execute.requestId);
  assert.deepEqual(execute.labels, { site: "north" });
  assert.equal(watch.executionId, EXECUTION);
  assert.equal(watch.afterSequence, 4n);
  for (const request of [execute, watch]) {
    assert.deepEqual(request.filter?.kinds, ["content"]);
    assert.equal(request.heartbeatInterval?.seconds, 2n);
    assert.equal(request.heartbeatInterval?.nanos, 500_000_000);
  }
});

test("work that can't be encoded is no call", async () => {
  const bench = new Bench({});
  await assert.rejects(
    bench.client.execute({ ...WORK, options: { maxParallelSteps: 0.5 } }),
    (error) => !(error instanceof StepwireError),
  );
  assert.deepEqual(bench.open, []);
});

test("leaving the loop ends the call, and another loop goes on where it was left", async () => {
  let ended: Promise<void> | undefined;
  const bench = new Bench({
    execute: (_, context) => {
      ended = left(context);
      return saysAndHolds(context, welcome(), pieces(1, 2, 3));
    },
    watchExecution: ({ afterSequence }) => {
      assert.equal(afterSequence, 3n);
      return says(welcome(3), batch([completed(4)]));
    },
  });
  const run = await bench.client.execute(WORK);
  for await (const { sequence } of run) {
    if (sequence === 2n) {
      break;
    }
  }
  await ended;
  assert.deepEqual(await sequencesOf(run), [3, 4]);
});

test("an exception in the loop ends the call, and the event counts as not processed", async () => {
  let ended: Promise<void> | undefined;
  const bench = new Bench({
    execute: (_, context) => {
      ended = left(context);
      return saysAndHolds(context, welcome(), pieces(1, 2));
    },
  });
  const run = await bench.client.execute(WORK);
  await assert.rejects(async () => {
    for await (const { sequence } of run) {
      assert.notEqual(sequence, 2n);
    }
  });
  await ended;
  assert.equal(run.sequence, 1n);
});

test("one loop at a time", async () => {
  const bench = new Bench({ execute: (_, context) => saysAndHolds(context, welcome(), pieces(1, 2)) });
  const run = await bench.client.execute(WORK);
  for await (const _ of run) {
    await assert.rejects(run.result(), /being read already/);
    break;
  }
});

test("a signal ends the call, and its reason is thrown", async () => {
  let ended: Promise<void> | undefined;
  const bench = new Bench({
    watchExecution: (_, context) => {
      ended = left(context);
      return saysAndHolds(context, welcome(), pieces(1));
    },
  });
  const controller = new AbortController();
  const reason = new Error("enough");
  const run = await bench.client.watch(EXECUTION, { signal: controller.signal });
  await assert.rejects(async () => {
    for await (const _ of run) {
      setImmediate(() => controller.abort(reason));
    }
  }, reason);
  await ended;
  await assert.rejects(bench.client.watch(EXECUTION, { signal: controller.signal }), reason);
});

test("a signal ends an execute that has no answer yet, and one that waits", async () => {
  const reason = new Error("enough");
  const silent = new Bench({ execute: (_, context) => saysAndHolds(context) });
  const controller = new AbortController();
  setImmediate(() => controller.abort(reason));
  await assert.rejects(silent.client.execute(WORK, { signal: controller.signal }), reason);

  const waiting = new AbortController();
  const away = new Bench(
    {
      execute: () => {
        setImmediate(() => waiting.abort(reason));
        throw refusal(Code.Unavailable);
      },
    },
    { patience: { initialDelaySeconds: 1e6, maxDelaySeconds: 1e6, startSeconds: 1e9 } },
  );
  await assert.rejects(away.client.execute(WORK, { signal: waiting.signal }), reason);
});

test("closing the client ends its runs", async () => {
  let ended: Promise<void> | undefined;
  const bench = new Bench({
    execute: (_, context) => {
      ended = left(context);
      return saysAndHolds(context, welcome(), pieces(1));
    },
  });
  const run = await bench.client.execute(WORK);
  setImmediate(() => bench.client.close());
  await assert.rejects(run.result(), (error) => error instanceof StreamBroken && error.sequence === 1n);
  await ended;
  assert.deepEqual(bench.open, [false]);
  await assert.rejects(bench.client.execute(WORK), /The client is closed/);
});

test("a refused start has no request id to ask with again, and one without an answer has", async () => {
  const refused = new Bench({
    execute: () => {
      throw refusal(Code.FailedPrecondition, because("NO_PLANNER"));
    },
  });
  await assert.rejects(refused.client.execute(WORK), { reason: "NO_PLANNER", requestId: "" });

  const away = new Bench({
    execute: () => {
      throw refusal(Code.Unavailable);
    },
  });
  const work = { ...WORK, requestId: "r-1" };
  await assert.rejects(away.client.execute(work), { code: Code.Unavailable, requestId: "r-1" });
});

test("a server that drains is left for a new connection, and the old one is closed", async () => {
  const bench = new Bench({
    execute: (_, context) => saysAndHolds(context, welcome(), pieces(1), draining(1)),
    watchExecution: () => says(welcome(1), batch([completed(2)])),
  });
  const run = await bench.client.execute(WORK);
  assert.deepEqual(await sequencesOf(run), [1, 2]);
  assert.deepEqual(bench.open, [false, true]);
});

test("a connection that is left stays open for the other calls over it", async () => {
  const firsts = [says(welcome(), draining(0))];
  const bench = new Bench({
    execute: (_, context) => saysAndHolds(context, welcome()),
    watchExecution: (_, context) => firsts.shift() ?? saysAndHolds(context, welcome(), pieces(1)),
  });
  const other = await bench.client.execute(WORK);
  for await (const _ of await bench.client.watch(EXECUTION)) {
    assert.deepEqual(bench.open, [true, true]);
    other.close();
    assert.deepEqual(bench.open, [false, true]);
    break;
  }
});

test("a silent call is left for a new connection", { timeout: 10_000 }, async () => {
  const bench = new Bench({
    execute: (_, context) => saysAndHolds(context, welcome(), pieces(1)),
    watchExecution: () => says(welcome(1), batch([completed(2)])),
  });
  const run = await bench.client.execute(WORK, { heartbeatSeconds: 0.01 });
  assert.deepEqual(await sequencesOf(run), [1, 2]);
  assert.deepEqual(bench.open, [false, true]);
});

test("the result of what did not complete is an error", async () => {
  const failed = event(1, { case: "planFailed", value: { error: { code: Code.Aborted, message: "Step a failed." } } });
  const bench = new Bench({ execute: () => says(welcome(), batch([failed])) });
  const failing = await bench.client.execute(WORK);
  await assert.rejects(failing.result(), (error) => {
    assert.ok(error instanceof ExecutionFailed);
    assert.equal(error.message, "Step a failed.");
    assert.equal(error.code, Code.Aborted);
    return error.executionId === EXECUTION;
  });

  const cancelled = event(1, { case: "planCancelled", value: { reason: "sold" } });
  const cancelling = new Bench({ execute: () => says(welcome(), batch([cancelled])) });
  const run = await cancelling.client.execute(WORK);
  await assert.rejects(run.result(), (error) => error instanceof ExecutionCancelled && error.message === "sold");
});

test("the result of what was over before it was watched is that of its snapshot", async () => {
  const over = welcome(9, ExecutionState.COMPLETED);
  over.execution!.result = { case: "output", value: create(ValueSchema, { kind: { case: "boolValue", value: true } }) };
  const bench = new Bench({ watchExecution: () => says(over) });
  const run = await bench.client.watch(EXECUTION, { afterSequence: 9 });
  assert.equal(await run.result(), true);
  assert.equal(run.terminal, undefined);
});

test("a unary call is sent again where the server was away, over a new connection where it drains", async () => {
  const failures = [refusal(Code.Unavailable), refusal(Code.Unavailable, because("DRAINING"))];
  const bench = new Bench({
    getExecution: ({ executionId }) => {
      const failure = failures.shift();
      if (failure !== undefined) {
        throw failure;
      }
      return { execution: { executionId } };
    },
  });
  assert.equal((await bench.client.get(EXECUTION)).executionId, EXECUTION);
  assert.deepEqual(bench.open, [false, true]);
});

test("a unary call has a deadline, and a signal", async () => {
  const bench = new Bench({
    getExecution: async (_, context) => {
      await left(context);
      return {};
    },
    cancelExecution: async (request, context) => {
      assert.equal(request.reason, "sold");
      await left(context);
      return {};
    },
  });
  await assert.rejects(bench.client.get(EXECUTION, { timeoutSeconds: 0.01 }), { code: Code.DeadlineExceeded });
  const reason = new Error("enough");
  const controller = new AbortController();
  setImmediate(() => controller.abort(reason));
  await assert.rejects(bench.client.cancel(EXECUTION, { reason: "sold", signal: controller.signal }), reason);
});

test("the generated client has a deadline, and throws the same errors", async () => {
  const bench = new Bench(
    {
      buildPlan: () => {
        throw refusal(Code.InvalidArgument, because("QUERY_NOT_UNDERSTOOD"));
      },
      getServerInfo: async (_, context) => {
        await left(context);
        return {};
      },
      watchExecutions: async function* () {
        yield {};
        throw refusal(Code.OutOfRange, because("CURSOR_EXPIRED"));
      },
    },
    { timeoutSeconds: 0.01 },
  );
  const { service } = bench.client;
  await assert.rejects(service.buildPlan(WORK, { timeoutMs: 5000 }), { reason: "QUERY_NOT_UNDERSTOOD" });
  await assert.rejects(service.getServerInfo({}), { code: Code.DeadlineExceeded });
  await assert.rejects(async () => {
    for await (const _ of service.watchExecutions({}));
  }, { reason: "CURSOR_EXPIRED" });
});
