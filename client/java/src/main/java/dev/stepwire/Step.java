package dev.stepwire;

/** What the state machine of a stream asks its driver to do next. Times are in nanoseconds. */
sealed interface Step {
    /**
     * End the call that there may be, wait, and open another.
     *
     * @param execute true: Execute; false: WatchExecution
     * @param afterSequence the cursor for WatchExecution, exclusive
     * @param delay the time to wait first
     * @param fresh true: over a new connection
     */
    record Open(boolean execute, long afterSequence, long delay, boolean fresh) implements Step {}

    /**
     * Wait for the next message, or for the end of the call.
     *
     * @param time at most so long; then it is silence. 0: what is there already may still be taken.
     */
    record Read(long time) implements Step {}

    /** The stream is over. */
    record Finish() implements Step {}

    /**
     * The stream can't go on.
     *
     * @param error why
     */
    record Refuse(StepwireException error) implements Step {}
}
