package dev.stepwire;

import stepwire.v1.EventOuterClass.Event;
import stepwire.v1.ExecutionOuterClass.Execution;

/** What events and snapshots say about an execution's end. */
public final class Events {
    private Events() {}

    /** Tells whether the event is its execution's last: {@code plan_completed}, {@code plan_failed} or
     * {@code plan_cancelled}. */
    public static boolean isTerminal(Event event) {
        return switch (event.getKindCase()) {
            case PLAN_COMPLETED, PLAN_FAILED, PLAN_CANCELLED -> true;
            default -> false;
        };
    }

    /** Tells whether the execution had ended when the snapshot was made. */
    public static boolean hasEnded(Execution execution) {
        return switch (execution.getState()) {
            case EXECUTION_STATE_COMPLETED, EXECUTION_STATE_FAILED, EXECUTION_STATE_CANCELLED -> true;
            default -> false;
        };
    }
}
