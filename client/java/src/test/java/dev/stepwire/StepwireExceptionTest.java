package dev.stepwire;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** An error says what the server said, and nothing that only seems to come from it. */
class StepwireExceptionTest {
    private static final Metadata.Key<byte[]> DETAILS =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

    @Test
    void hasReasonMetadataViolationsAndDelay() {
        StepwireException error = of(status(
                Code.INVALID_ARGUMENT,
                ErrorInfo.newBuilder()
                        .setDomain("stepwire")
                        .setReason("PLAN_INVALID")
                        .putMetadata("plan", "p")
                        .build(),
                BadRequest.newBuilder()
                        .addFieldViolations(FieldViolation.newBuilder().setField("steps[0]").setDescription("no id"))
                        .build(),
                retryIn(1, 500_000_000)));
        assertEquals(io.grpc.Status.Code.INVALID_ARGUMENT, error.code());
        assertEquals("PLAN_INVALID", error.reason());
        assertEquals(Map.of("plan", "p"), error.metadata());
        assertEquals(List.of(new StepwireException.Violation("steps[0]", "no id")), error.violations());
        assertEquals(Optional.of(Duration.ofMillis(1_500)), error.retryAfter());
        assertEquals("What is wrong", error.getMessage());
        assertEquals(
                "dev.stepwire.StepwireException: PLAN_INVALID: What is wrong\n  steps[0]: no id", error.toString());
    }

    @Test
    void takesNoReasonFromAnotherDomain() {
        ErrorInfo proxy = ErrorInfo.newBuilder()
                .setDomain("proxy.example")
                .setReason("NO_UPSTREAM")
                .build();
        StepwireException error = of(status(Code.INTERNAL, proxy, retryIn(1, 0)));
        assertEquals("", error.reason());
        assertEquals(Optional.of(Duration.ofSeconds(1)), error.retryAfter());
        assertTrue(error.canPass());
    }

    @Test
    void readsNoDetailsThatAreDamagedOrOfAnotherCode() {
        Metadata damaged = new Metadata();
        damaged.put(DETAILS, new byte[] {1, 2, 3});
        assertEquals("", StepwireException.of(io.grpc.Status.NOT_FOUND, damaged).reason());

        Metadata another = new Metadata();
        another.put(DETAILS, status(Code.NOT_FOUND, info("EXECUTION_NOT_FOUND")).toByteArray());
        StepwireException error = StepwireException.of(io.grpc.Status.UNAVAILABLE, another);
        assertEquals("", error.reason());
        assertEquals("UNAVAILABLE", error.getMessage());

        Any broken = Any.newBuilder()
                .setTypeUrl("type.googleapis.com/google.rpc.ErrorInfo")
                .setValue(ByteString.copyFrom(new byte[] {-1}))
                .build();
        Status status = Status.newBuilder().setCode(Code.ABORTED_VALUE).addDetails(broken).build();
        assertEquals("", StepwireException.of(status).reason());
    }

    @Test
    void readsTheErrorOfTheGeneratedStub() {
        Status status = status(Code.NOT_FOUND, info("EXECUTION_NOT_FOUND"));
        StatusRuntimeException failure = StatusProto.toStatusRuntimeException(status);
        StepwireException error = StepwireException.of(failure);
        assertEquals("EXECUTION_NOT_FOUND", error.reason());
        assertEquals(failure, error.getCause());
    }

    @Test
    void theTransportsCodesCanPassAndTheServersOwnCanNot() {
        for (Code code : List.of(Code.CANCELLED, Code.UNKNOWN, Code.INTERNAL, Code.DEADLINE_EXCEEDED)) {
            assertTrue(of(status(code)).canPass(), code.name());
            assertFalse(of(status(code, info("SOME_REASON"))).canPass(), code.name());
        }
        assertTrue(of(status(Code.UNAVAILABLE)).canPass());
        assertTrue(of(status(Code.UNAVAILABLE, info("DRAINING"))).canPass());
        assertTrue(of(status(Code.RESOURCE_EXHAUSTED, info("LIMIT_CALLS"), retryIn(1, 0))).canPass());
        assertFalse(of(status(Code.RESOURCE_EXHAUSTED, info("LIMIT_SIZE"))).canPass());
        assertFalse(of(status(Code.PERMISSION_DENIED)).canPass());
        assertFalse(of(status(Code.UNIMPLEMENTED)).canPass());
    }

    @Test
    void aDelayIsNeverNegative() {
        assertEquals(Optional.of(Duration.ZERO), of(status(Code.UNAVAILABLE, retryIn(-3, 0))).retryAfter());
    }

    private static StepwireException of(Status status) {
        return StepwireException.of(StatusProto.toStatusRuntimeException(status));
    }

    private static ErrorInfo info(String reason) {
        return ErrorInfo.newBuilder().setDomain("stepwire").setReason(reason).build();
    }

    private static RetryInfo retryIn(long seconds, int nanos) {
        RetryInfo.Builder retry = RetryInfo.newBuilder();
        retry.getRetryDelayBuilder().setSeconds(seconds).setNanos(nanos);
        return retry.build();
    }

    private static Status status(Code code, com.google.protobuf.Message... details) {
        Status.Builder status = Status.newBuilder().setCode(code.getNumber()).setMessage("What is wrong");
        for (com.google.protobuf.Message detail : details) {
            status.addDetails(Any.pack(detail));
        }
        return status.build();
    }
}
