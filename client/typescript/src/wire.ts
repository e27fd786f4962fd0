/** The connections under a client: calls are counted, and one connection takes over from another. */

import { createClient, type Client as ServiceClient, type Transport } from "@connectrpc/connect";

import { StepwireError } from "./errors.js";
import { ExecutionService } from "./gen/stepwire/v1/execution_service_pb.js";

/** One connection to the server. */
export interface Connection {
  /** What calls are made over. It speaks gRPC, or anything else that carries the service. */
  readonly transport: Transport;
  /** Ends the connection, and with it its calls. */
  close(): void;
}

/** Makes another connection. Called where the one before is dead, or leads to a server that goes. */
export type Connect = () => Connection;

/** The generated client of the service. Its calls end with a StepwireError. */
export type Service = ServiceClient<typeof ExecutionService>;

/** A connection that knows its calls. One that is retired is closed after the last of them. */
export class Link {
  /** The service over this connection. */
  readonly service: Service = createClient(ExecutionService, {
    unary: (...call) => this.unary(...call),
    stream: (...call) => this.stream(...call),
  });
  #calls = 0;
  #retired = false;

  constructor(
    private readonly connection: Connection,
    private readonly timeoutSeconds: number,
    private readonly onClose: (link: Link) => void,
  ) {}

  get isRetired(): boolean {
    return this.#retired;
  }

  readonly unary: Transport["unary"] = async (method, signal, timeoutMs, ...call) => {
    const release = this.#take();
    try {
      // It travels as a whole number.
      const timeout = Math.ceil(timeoutMs ?? this.timeoutSeconds * 1000);
      return await this.connection.transport.unary(method, signal, timeout, ...call);
    } catch (failure) {
      throw this.#errorOf(failure);
    } finally {
      release();
    }
  };

  readonly stream: Transport["stream"] = async (method, signal, ...call) => {
    const release = this.#take();
    // Who leaves a stream has only its signal to say so.
    signal?.addEventListener("abort", release);
    const end = () => {
      signal?.removeEventListener("abort", release);
      release();
    };
    const errorOf = (failure: unknown) => this.#errorOf(failure);
    try {
      const response = await this.connection.transport.stream(method, signal, ...call);
      const { message } = response;
      async function* messages() {
        try {
          yield* message;
        } catch (failure) {
          throw errorOf(failure);
        } finally {
          end();
        }
      }
      return { ...response, message: messages() };
    } catch (failure) {
      end();
      throw errorOf(failure);
    }
  };

  /** Closes the connection once its calls are over. */
  retire(): void {
    this.#retired = true;
    this.#closeIdle();
  }

  /** Closes the connection, and with it its calls. */
  close(): void {
    this.connection.close();
    this.onClose(this);
  }

  /** Counts a call. Returns what ends it; ending it twice is once. */
  #take(): () => void {
    this.#calls++;
    let over = false;
    return () => {
      if (!over) {
        over = true;
        this.#calls--;
        this.#closeIdle();
      }
    };
  }

  #closeIdle(): void {
    if (this.#retired && this.#calls === 0) {
      this.close();
    }
  }

  #errorOf(failure: unknown): StepwireError {
    const error = StepwireError.from(failure);
    if (error.reason === "DRAINING") {
      this.#retired = true;
    }
    return error;
  }
}

/** The connections of a client: the newest, and those that still have calls. */
export class Wire {
  readonly #links = new Set<Link>();
  #link: Link | undefined;
  #closed = false;

  constructor(
    private readonly connect: Connect,
    private readonly timeoutSeconds: number,
  ) {}

  /** The service, over whatever connection is the newest. */
  readonly service: Service = createClient(ExecutionService, {
    unary: (...call) => this.link().unary(...call),
    stream: (...call) => this.link().stream(...call),
  });

  /** Returns the connection for one more call: another one than `insteadOf`. */
  link(insteadOf?: Link): Link {
    if (this.#closed) {
      throw new Error("The client is closed.");
    }
    if (this.#link === undefined || this.#link.isRetired || this.#link === insteadOf) {
      this.#link?.retire();
      this.#link = new Link(this.connect(), this.timeoutSeconds, (link) => this.#links.delete(link));
      this.#links.add(this.#link);
    }
    return this.#link;
  }

  close(): void {
    this.#closed = true;
    for (const link of this.#links) {
      link.close();
    }
  }
}
