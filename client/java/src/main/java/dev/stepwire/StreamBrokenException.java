package dev.stepwire;

import io.grpc.Status;

/**
 * A stream can't be gone on with: it broke the contract, the patience to resume it is spent (then the cause is the last
 * failure), or it was closed. The execution goes on: watch it again after {@link #sequence}.
 * {@link #code} is that of the cause, and UNKNOWN where there is none.
 */
public final class StreamBrokenException extends StepwireException {
    private static final long serialVersionUID = 1;

    private final String executionId;
    private final long sequence;

    StreamBrokenException(String message, String executionId, long sequence, Throwable cause) {
        super(codeOf(cause), message, Details.NONE, cause);
        this.executionId = executionId;
        this.sequence = sequence;
    }

    private static Status.Code codeOf(Throwable cause) {
        return cause instanceof StepwireException failure ? failure.code() : Status.Code.UNKNOWN;
    }

    /** Returns the execution. Empty where the server did not say which it is. */
    public String executionId() {
        return executionId;
    }

    /** Returns the last event that was received without a hole. */
    public long sequence() {
        return sequence;
    }
}
