package dev.stepwire;

/**
 * When a call that says nothing is given up. All times are nanoseconds of a clock that the caller reads.
 *
 * <p>It is the server that must have been silent, not the reader that was away: what came while the loop's body
 * computed, or the process was stopped, has yet to be read. So who begins to listen late listens for a moment at
 * least, and a silence that is noticed late gets a moment more, once.
 */
final class Listening {
    /** In this time what is there already will be read. */
    private static final long MOMENT = 1_000_000_000;

    /** Later than this after its time nobody notices a silence who has listened all the while. */
    private static final long LATE = 100_000_000;

    private long until;
    private long least;
    private boolean begun;
    private boolean extended;

    /** Takes note that the next message is due within this time. */
    void expect(long now, long within) {
        until = now + within;
        least = Math.min(within, MOMENT);
        begun = false;
        extended = false;
    }

    /** Returns the time to listen for. Who asks listens from now on. */
    long left(long now) {
        if (!begun) {
            begun = true;
            until = now + Math.max(until - now, least);
        }
        return Math.max(0, until - now);
    }

    /** Tells whether nothing came in that time because nothing was said. */
    boolean isOver(long now) {
        if (extended || now - until <= LATE) {
            return true;
        }
        extended = true;
        until = now + MOMENT;
        return false;
    }
}
