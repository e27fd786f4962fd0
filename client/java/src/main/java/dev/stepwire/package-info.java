/**
 * The client of Stepwire: {@link dev.stepwire.StepwireClient} starts and follows executions, {@link dev.stepwire.Run}
 * is one that is being followed. The messages are those that protoc makes of the contract, in {@code stepwire.v1}.
 */
package dev.stepwire;
