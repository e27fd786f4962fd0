package dev.stepwire;

import io.grpc.Status;

/** An execution ended in {@code plan_cancelled}. */
public final class ExecutionCancelledException extends StepwireException {
    private static final long serialVersionUID = 1;

    private final String executionId;

    ExecutionCancelledException(String message, String executionId) {
        super(Status.Code.CANCELLED, message, Details.NONE, null);
        this.executionId = executionId;
    }

    /** Returns the execution. */
    public String executionId() {
        return executionId;
    }
}
