package dev.stepwire;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.function.DoubleSupplier;

/**
 * How long a client goes on trying. The default gives up after about 6 s at the start, and 2 min when resuming.
 *
 * <pre>{@code
 * StepwireClient.builder("localhost:50051").patience(Patience.DEFAULT.withStartFailures(3)).build();
 * }</pre>
 *
 * @param startFailures failures in a row before the first message of a stream, and of a unary call; at least 1. The
 *     last one is thrown.
 * @param startTime the longest from the first of those failures to another try
 * @param resumeFailures failures in a row without a new event or a heartbeat between them; at least 1. Then
 *     {@link StreamBrokenException} is thrown.
 * @param resumeTime the longest from the first of those failures to another try
 * @param initialDelay the most that the first wait can be. It doubles with each failure.
 * @param maxDelay no wait is longer, unless the server asked for it
 */
public record Patience(
        int startFailures,
        Duration startTime,
        int resumeFailures,
        Duration resumeTime,
        Duration initialDelay,
        Duration maxDelay) {
    /** 8 failures or 30 s at the start, 50 failures or 2 min when resuming, waits of 100 ms to 5 s. */
    public static final Patience DEFAULT = new Patience(
            8, Duration.ofSeconds(30), 50, Duration.ofMinutes(2), Duration.ofMillis(100), Duration.ofSeconds(5));

    /** @throws IllegalArgumentException if a number of failures is below 1, or a time is negative */
    public Patience {
        if (startFailures < 1 || resumeFailures < 1) {
            throw new IllegalArgumentException("It takes at least one failure to give up");
        }
        for (Duration time : new Duration[] {startTime, resumeTime, initialDelay, maxDelay}) {
            if (Objects.requireNonNull(time).isNegative()) {
                throw new IllegalArgumentException("A time is negative: " + time);
            }
        }
    }

    /** Returns the same patience with other {@code startFailures}. */
    public Patience withStartFailures(int failures) {
        return new Patience(failures, startTime, resumeFailures, resumeTime, initialDelay, maxDelay);
    }

    /** Returns the same patience with another {@code startTime}. */
    public Patience withStartTime(Duration time) {
        return new Patience(startFailures, time, resumeFailures, resumeTime, initialDelay, maxDelay);
    }

    /** Returns the same patience with other {@code resumeFailures}. */
    public Patience withResumeFailures(int failures) {
        return new Patience(startFailures, startTime, failures, resumeTime, initialDelay, maxDelay);
    }

    /** Returns the same patience with another {@code resumeTime}. */
    public Patience withResumeTime(Duration time) {
        return new Patience(startFailures, startTime, resumeFailures, time, initialDelay, maxDelay);
    }

    /** Returns the same patience with another {@code initialDelay}. */
    public Patience withInitialDelay(Duration delay) {
        return new Patience(startFailures, startTime, resumeFailures, resumeTime, delay, maxDelay);
    }

    /** Returns the same patience with another {@code maxDelay}. */
    public Patience withMaxDelay(Duration delay) {
        return new Patience(startFailures, startTime, resumeFailures, resumeTime, initialDelay, delay);
    }

    /**
     * Returns the nanoseconds to wait after so many failures in a row: any share of the doubled delay (full jitter).
     *
     * @param random gives 0 to 1
     */
    long backoff(int failures, DoubleSupplier random) {
        double doubled = nanos(initialDelay) * Math.pow(2, failures - 1);
        return (long) (random.getAsDouble() * Math.min(nanos(maxDelay), doubled));
    }

    /** Tells whether a try after this delay would be too late, or one too many. All times are in nanoseconds. */
    boolean isSpent(int failures, long failingFor, long delay, boolean resuming) {
        int most = resuming ? resumeFailures : startFailures;
        long longest = nanos(resuming ? resumeTime : startTime);
        return failures >= most || delay > longest - failingFor;
    }

    /** Returns a time in nanoseconds; the largest long where it is longer. */
    static long nanos(Duration time) {
        return TimeUnit.NANOSECONDS.convert(time);
    }
}
