// The client for Node against a server of its own over HTTP/2.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, createSecureServer, type Http2Server } from "node:http2";
import { createServer as createSilentServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import { Code } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { ExecutionService } from "../src/gen/stepwire/v1/execution_service_pb.js";
import { Client, type ClientOptions } from "../src/node.js";
import { batch, completed, event, EXECUTION, piece, pieces, welcome } from "./scripted.js";
import { left, QUICK, type Handlers } from "./serving.js";

interface Served {
  client: Client;
  address: string;
  /** All connections that came, oldest first. */
  sockets: Socket[];
}

function handler(handlers: Handlers) {
  return connectNodeAdapter({ routes: ({ service }) => service(ExecutionService, handlers) });
}

/** Serves until the test is over. */
async function serve(t: TestContext, server: Http2Server, options: ClientOptions = {}): Promise<Served> {
  const sockets: Socket[] = [];
  server.on("connection", (socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `localhost:${(server.address() as AddressInfo).port}`;
  const client = new Client(address, { patience: QUICK, ...options });
  t.after(() => {
    client.close();
    sockets.forEach((socket) => socket.destroy());
    server.close();
  });
  return { client, address, sockets };
}

test("an address is HOST:PORT", () => {
  for (const address of ["localhost:50051", "127.0.0.1:1", "[::1]:50051", "a.example:443"]) {
    new Client(address).close();
  }
  for (const address of ["http://localhost:50051", "localhost", "localhost:", ":50051", "a/b:1", ""]) {
    assert.throws(() => new Client(address), TypeError, address);
  }
});

/** Takes connections and says nothing. Resolves `met` when a caller has said something. */
async function beSilent(t: TestContext): Promise<{ address: string; met: Promise<unknown> }> {
  const server = createSilentServer();
  const met = new Promise((resolve) => {
    server.on("connection", (socket) => {
      socket.once("data", resolve).on("error", () => {});
      t.after(() => socket.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, met };
}

const SILENCES: [string, ClientOptions, number[]][] = [
  ["a server that does not take a connection is given up after 5 s", { tls: true }, [5_000]],
  ["a line that is dead is noticed within 15 s", {}, [10_000, 5_000]],
];

for (const [what, options, ticks] of SILENCES) {
  test(what, async (t) => {
    const { address, met } = await beSilent(t);
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const client = new Client(address, { ...options, timeoutSeconds: 60, patience: { ...QUICK, startFailures: 1 } });
    t.after(() => client.close());
    const refused = assert.rejects(client.get(EXECUTION), { code: Code.Unavailable, reason: "" });
    await met;
    for (const milliseconds of ticks) {
      t.mock.timers.tick(milliseconds);
    }
    await refused;
  });
}

test("a message with an event of 1 MiB comes through, and one beyond all bounds is refused", async (t) => {
  const text = "x".repeat((1 << 20) - 200);
  const handlers: Handlers = {
    async *execute() {
      yield welcome();
      yield batch([event(1, piece(text))]);
      yield batch([completed(2)]);
    },
    async *watchExecution() {
      yield welcome();
      yield batch([1, 2, 3, 4, 5].map((sequence) => event(sequence, piece(text))));
    },
  };
  const { client } = await serve(t, createServer(handler(handlers)));
  const run = await client.execute({ query: "much" });
  for await (const { kind } of run) {
    if (kind.case === "content") {
      assert.equal(kind.value.piece.value?.length, text.length);
    }
  }
  assert.equal(run.progress.eventCount, 2);

  const watch = await client.watch(EXECUTION);
  await assert.rejects(watch.result(), { code: Code.ResourceExhausted, reason: "" });
});

test("a connection that goes within a stream is made again, and the stream goes on", async (t) => {
  const handlers: Handlers = {
    async *execute(_, context) {
      yield welcome();
      yield pieces(1, 2);
      await left(context);
    },
    async *watchExecution({ afterSequence }) {
      assert.equal(afterSequence, 2n);
      yield welcome(2);
      yield batch([completed(3)]);
    },
  };
  const { client, sockets } = await serve(t, createServer(handler(handlers)));
  const run = await client.execute({ query: "build a house" });
  for await (const { sequence } of run) {
    if (sequence === 2n) {
      sockets[0]!.destroy();
    }
  }
  assert.equal(run.progress.isCompleted, true);
  assert.equal(sockets.length, 2);
});

test("leaving the loop tells the server, and keeps the connection", async (t) => {
  let told: Promise<void> | undefined;
  const handlers: Handlers = {
    async *execute(_, context) {
      told = left(context);
      yield welcome();
      yield pieces(1);
      await told;
    },
  };
  const { client, sockets } = await serve(t, createServer(handler(handlers)));
  for await (const _ of await client.execute({ query: "build a house" })) {
    break;
  }
  await told;
  assert.equal(sockets[0]!.destroyed, false);
});

test("closing cancels the calls, and ends the connection without an error", async (t) => {
  const handlers: Handlers = {
    async *execute(_, context) {
      yield welcome();
      await left(context);
    },
  };
  const server = createServer(handler(handlers));
  const goodbye = new Promise((resolve) => {
    const said = new Set<string>();
    server.on("stream", (stream) => stream.on("close", () => said.add(`RST_STREAM ${stream.rstCode}`)));
    server.on("session", (session) => {
      session.on("goaway", (code) => said.add(`GOAWAY ${code}`));
      session.on("close", () => resolve([...said].sort()));
    });
  });
  const { client } = await serve(t, server);
  await client.execute({ query: "build a house" });
  client.close();
  assert.deepEqual(await goodbye, ["GOAWAY 0", "RST_STREAM 8"]);
});

test("where nobody listens, a call is UNAVAILABLE after so many tries", async (t) => {
  const server = createServer();
  const { client } = await serve(t, server);
  await new Promise((resolve) => server.close(resolve));
  await assert.rejects(client.get(EXECUTION), { code: Code.Unavailable, reason: "" });
  await assert.rejects(client.execute({ query: "q" }), { code: Code.Unavailable, reason: "" });
});

test("speaks TLS", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "stepwire-tls-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  try {
    const kind = ["-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    execFileSync("openssl", ["req", ...kind, ...subject, "-keyout", key, "-out", cert], { stdio: "ignore" });
  } catch {
    t.skip("openssl, which makes the certificate, is missing");
    return;
  }
  const ca = readFileSync(cert);
  const handlers: Handlers = { getExecution: ({ executionId }) => ({ execution: { executionId } }) };
  const server = createSecureServer({ key: readFileSync(key), cert: ca }, handler(handlers));
  const names: unknown[] = [];
  server.on("secureConnection", (socket) => names.push(socket.servername));
  const { client, address } = await serve(t, server, { tls: { ca } });
  assert.equal((await client.get(EXECUTION)).executionId, EXECUTION);

  assert.deepEqual(names, ["localhost"]);

  const distrustful = new Client(address, { tls: true, patience: QUICK });
  t.after(() => distrustful.close());
  await assert.rejects(distrustful.get(EXECUTION), { code: Code.Unavailable });
});
