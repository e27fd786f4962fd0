package dev.stepwire;

import com.google.rpc.Status;

/** An execution ended in {@code plan_failed}. The reason, such as {@code STEP_FAILED}, is the event's. */
public final class ExecutionFailedException extends StepwireException {
    private static final long serialVersionUID = 1;

    private final String executionId;

    ExecutionFailedException(Status error, String executionId) {
        super(io.grpc.Status.fromCodeValue(error.getCode()).getCode(), error.getMessage(), detailsOf(error), null);
        this.executionId = executionId;
    }

    /** Returns the execution. */
    public String executionId() {
        return executionId;
    }
}
