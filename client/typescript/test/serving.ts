// A server within the test's own process, over a transport without a network.

import {
  ConnectError,
  createRouterTransport,
  type Code,
  type HandlerContext,
  type ServiceImpl,
} from "@connectrpc/connect";

import { BaseClient, type BaseClientOptions } from "../src/client.js";
import { ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { ExecutionService } from "../src/gen/stepwire/v1/execution_service_pb.js";

/** A detail of a status, as a server gives it. */
export type Detail = NonNullable<ConstructorParameters<typeof ConnectError>[3]>[number];

export type Handlers = Partial<ServiceImpl<typeof ExecutionService>>;

/** Waits are short. */
export const QUICK = { initialDelaySeconds: 0.001, maxDelaySeconds: 0.002, startFailures: 3, resumeFailures: 3 };

/** A client, and the connections that it makes: each serves what its handlers say. */
export class Bench {
  readonly client: BaseClient;
  /** Whether each connection that was made is open. */
  readonly open: boolean[] = [];

  constructor(handlers: Handlers, options: BaseClientOptions = {}) {
    const connect = () => {
      const number = this.open.push(true) - 1;
      return {
        transport: createRouterTransport(({ service }) => service(ExecutionService, handlers)),
        close: () => {
          this.open[number] = false;
        },
      };
    };
    this.client = new BaseClient(connect, { patience: QUICK, ...options });
  }
}

export function refusal(code: Code, ...details: Detail[]): ConnectError {
  return new ConnectError("from the server", code, undefined, details);
}

export function because(reason: string): Detail {
  return { desc: ErrorInfoSchema, value: { domain: "stepwire", reason } };
}

/** Resolves when the caller has left. */
export function left({ signal }: HandlerContext): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    }
    signal.addEventListener("abort", () => resolve());
  });
}
