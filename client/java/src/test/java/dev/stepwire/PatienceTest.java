package dev.stepwire;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import org.junit.jupiter.api.Test;

/** Waits double up to a bound and any share of them is waited; failures and their time are counted. */
class PatienceTest {
    private static final long MILLISECOND = 1_000_000;

    @Test
    void waitsDoubleUpToTheBound() {
        double[] expected = {100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000};
        for (int failures = 1; failures <= expected.length; failures++) {
            assertEquals((long) expected[failures - 1] * MILLISECOND, Patience.DEFAULT.backoff(failures, () -> 1.0));
        }
        assertEquals(5_000 * MILLISECOND, Patience.DEFAULT.backoff(Integer.MAX_VALUE, () -> 1.0));
    }

    @Test
    void anyShareOfAWaitIsWaited() {
        assertEquals(0, Patience.DEFAULT.backoff(3, () -> 0.0));
        assertEquals(100 * MILLISECOND, Patience.DEFAULT.backoff(3, () -> 0.25));
    }

    @Test
    void isSpentByFailuresOrByTime() {
        Patience patience = Patience.DEFAULT
                .withStartFailures(2)
                .withStartTime(Duration.ofMillis(30))
                .withResumeFailures(4)
                .withResumeTime(Duration.ofMillis(50));
        assertFalse(patience.isSpent(1, 0, 30 * MILLISECOND, false));
        assertTrue(patience.isSpent(2, 0, 0, false));
        assertTrue(patience.isSpent(1, MILLISECOND, 30 * MILLISECOND, false));
        assertFalse(patience.isSpent(3, MILLISECOND, 49 * MILLISECOND, true));
        assertTrue(patience.isSpent(4, 0, 0, true));
        assertTrue(patience.isSpent(1, 0, 51 * MILLISECOND, true));
        assertTrue(patience.isSpent(1, 0, Long.MAX_VALUE, true));
    }

    @Test
    void refusesWhatCanNotBe() {
        assertThrows(IllegalArgumentException.class, () -> Patience.DEFAULT.withStartFailures(0));
        assertThrows(IllegalArgumentException.class, () -> Patience.DEFAULT.withResumeFailures(0));
        assertThrows(IllegalArgumentException.class, () -> Patience.DEFAULT.withMaxDelay(Duration.ofMillis(-1)));
    }
}
