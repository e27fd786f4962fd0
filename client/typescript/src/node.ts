/** The client for Node: gRPC over HTTP/2. Nothing else here imports connect-node. */

import type { ClientHttp2Stream, Http2Session } from "node:http2";
import { connect as connectSocket, isIP, type Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";

import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { BaseClient, type BaseClientOptions } from "./client.js";
import type { Connect } from "./wire.js";

/** A dead line is noticed within 15 s, also while nothing is said. The server allows a ping each 5 s. */
const PING = { pingIntervalMs: 10_000, pingTimeoutMs: 5_000 };
/** What one try to connect may take. */
const CONNECT_MS = 5_000;
/** A message has 256 KiB, or one event of 1 MiB; an answer has a plan of 768 KiB at most, and an output. */
const READ_MAX_BYTES = 4 * 1024 * 1024;

/** How a client for Node behaves. */
export interface ClientOptions extends BaseClientOptions {
  /** Whether to speak TLS, and how: `ca`, `cert`, `key` and what else `tls.connect` takes. Plaintext when absent. */
  tls?: boolean | ConnectionOptions | undefined;
}

/**
 * Starts, follows and controls executions on one server. Connects when it is first used.
 *
 *     await using client = new Client("localhost:50051");
 *     const run = await client.execute({ query: "Bauantrag für Einfamilienhaus in Stuttgart" });
 *     for await (const event of run) {
 *       console.log(event.message);
 *     }
 */
export class Client extends BaseClient {
  /** `address` is `HOST:PORT`, with an IPv6 address in brackets. Throws TypeError for anything else, such as a URL. */
  constructor(address: string, options: ClientOptions = {}) {
    super(connectTo(address, options.tls ?? false), options);
  }
}

function connectTo(address: string, tls: boolean | ConnectionOptions): Connect {
  const [, host, port] = /^\[?([^/[\]]+)\]?:(\d{1,5})$/.exec(address) ?? [];
  if (host === undefined) {
    throw new TypeError(`${JSON.stringify(address)} is no address; say HOST:PORT, and give \`tls\` for TLS`);
  }
  const baseUrl = `${tls === false ? "http" : "https"}://${address}`;
  const createConnection = () => {
    const target = { host, port: Number(port) };
    if (tls === false) {
      return bounded(connectSocket(target), "connect");
    }
    const servername = isIP(host) ? {} : { servername: host };
    const options = tls === true ? {} : tls;
    return bounded(connectTls({ ...target, ...servername, ALPNProtocols: ["h2"], ...options }), "secureConnect");
  };
  return () => {
    const sessionManager = new SessionManager(baseUrl, PING, { createConnection });
    return {
      transport: createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: READ_MAX_BYTES }),
      close: () => sessionManager.close(),
    };
  };
}

/** Closes a connection in order. To abort it is an error for the server, and what ends its calls would be lost. */
class SessionManager extends Http2SessionManager {
  #session: Http2Session | undefined;

  override async request(...call: Parameters<Http2SessionManager["request"]>): Promise<ClientHttp2Stream> {
    const stream = await super.request(...call);
    if (stream.session !== this.#session) {
      this.#session = stream.session;
      // A manager that is aborted listens no more, and an error that comes then would end the process.
      this.#session?.on("error", () => {});
    }
    return stream;
  }

  close(): void {
    this.#session?.close();
    // By then what ends the calls is on its way. Calls that go on are ended now.
    setImmediate(() => this.abort());
  }
}

/** Gives up a socket that does not connect in time: a host that swallows everything would be waited for for minutes. */
function bounded(socket: Socket, connected: "connect" | "secureConnect"): Socket {
  const late = Object.assign(new Error(`No connection within ${CONNECT_MS / 1000} s`), { code: "ETIMEDOUT" });
  const timer = setTimeout(() => socket.destroy(late), CONNECT_MS);
  const stop = () => clearTimeout(timer);
  return socket.once(connected, stop).once("close", stop);
}
