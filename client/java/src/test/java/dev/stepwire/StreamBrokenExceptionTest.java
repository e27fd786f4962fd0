package dev.stepwire;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.grpc.Metadata;
import io.grpc.Status;
import org.junit.jupiter.api.Test;

/** A broken stream has the status code of what broke it. */
class StreamBrokenExceptionTest {
    @Test
    void hasTheCodeOfItsCause() {
        assertEquals(Status.Code.UNAVAILABLE, broken(StepwireException.of(Status.UNAVAILABLE, new Metadata())).code());
        assertEquals(Status.Code.DEADLINE_EXCEEDED, broken(StepwireException.silence()).code());
    }

    @Test
    void isUnknownWhereTheCauseHasNoCode() {
        assertEquals(Status.Code.UNKNOWN, broken(null).code());
        assertEquals(Status.Code.UNKNOWN, broken(new IllegalStateException()).code());
    }

    private static StreamBrokenException broken(Throwable cause) {
        return new StreamBrokenException("Gave up", "e-1", 3, cause);
    }
}
