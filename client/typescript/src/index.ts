/** Starts, follows and controls executions on a Stepwire server. */

export { Code } from "@connectrpc/connect";

export {
  BaseClient,
  type BaseClientOptions,
  type CancelOptions,
  type FollowOptions,
  type Start,
  type UnaryOptions,
  type WatchOptions,
  type Work,
} from "./client.js";
export {
  ExecutionCancelled,
  ExecutionFailed,
  StepwireError,
  StreamBroken,
  reasonOf,
  type ErrorDetails,
  type Reason,
  type Violation,
} from "./errors.js";
export { eventType, hasEnded, isTerminal, outputOf } from "./events.js";
export * from "./gen/stepwire/v1/event_pb.js";
export * from "./gen/stepwire/v1/execution_pb.js";
export * from "./gen/stepwire/v1/execution_service_pb.js";
export * from "./gen/stepwire/v1/plan_pb.js";
export { Client, type ClientOptions } from "./node.js";
export type { Patience } from "./patience.js";
export { ProgressTracker } from "./progress.js";
export type { Run } from "./run.js";
export type { Connect, Connection, Service } from "./wire.js";
