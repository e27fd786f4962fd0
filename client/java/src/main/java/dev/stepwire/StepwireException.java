package dev.stepwire;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.Serializable;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * A call could not be done. It was refused by the server, which gives a {@link #reason}, or by what is between, which
 * does not.
 */
public class StepwireException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** The domain of every ErrorInfo that Stepwire sends. */
    private static final String DOMAIN = "stepwire";

    /** Codes of the transport that say nothing about the request. A server that stops ends its calls with CANCELLED. */
    private static final Set<Status.Code> PASSING =
            Set.of(Status.Code.CANCELLED, Status.Code.UNKNOWN, Status.Code.INTERNAL, Status.Code.DEADLINE_EXCEEDED);

    private final Status.Code code;
    private final Details details;
    private String requestId = "";

    /**
     * One thing that is wrong with a request.
     *
     * @param field where, as a path: {@code plan.steps[3].depends_on[0]}
     * @param description what is wrong, and what would be right
     */
    public record Violation(String field, String description) implements Serializable {}

    /** What a status says beside its code and message. {@code retryAfter} may be null. */
    record Details(String reason, Map<String, String> metadata, List<Violation> violations, Duration retryAfter)
            implements Serializable {
        static final Details NONE = new Details("", Map.of(), List.of(), null);
    }

    StepwireException(Status.Code code, String message, Details details, Throwable cause) {
        super(message, cause);
        this.code = code;
        this.details = details;
    }

    /** Returns the error that a failed call of the generated stub stands for. */
    public static StepwireException of(StatusRuntimeException failure) {
        return of(failure.getStatus(), failure.getTrailers(), failure);
    }

    /** Returns the error that a status in an event stands for: {@code step_failed}, {@code plan_failed} and others. */
    public static StepwireException of(com.google.rpc.Status status) {
        return new StepwireException(
                Status.fromCodeValue(status.getCode()).getCode(), status.getMessage(), detailsOf(status), null);
    }

    /** Returns the error that an ended call stands for. */
    static StepwireException of(Status status, Metadata trailers) {
        return of(status, trailers, status.getCause());
    }

    private static StepwireException of(Status status, Metadata trailers, Throwable cause) {
        String message = status.getDescription() == null ? status.getCode().name() : status.getDescription();
        if (status.getCause() != null) {
            // Of a connection that can't be made, gRPC says nothing but "io exception".
            message += ": " + status.getCause().getMessage();
        }
        return new StepwireException(status.getCode(), message, detailsOf(status, trailers), cause);
    }

    static StepwireException silence() {
        String message = "The server was silent for too long";
        return new StepwireException(Status.Code.DEADLINE_EXCEEDED, message, Details.NONE, null);
    }

    /** Returns the error for a thread that was interrupted while it waited, and keeps it interrupted. */
    static StepwireException interrupted(InterruptedException cause) {
        Thread.currentThread().interrupt();
        return new StepwireException(Status.Code.CANCELLED, "Interrupted while waiting", Details.NONE, cause);
    }

    /** Returns the canonical status code. */
    public Status.Code code() {
        return code;
    }

    /** Returns the server's reason, such as {@code PLAN_INVALID}. Empty where the status is not Stepwire's. */
    public String reason() {
        return details.reason();
    }

    /** Returns what belongs to the reason, such as {@code first_sequence}. May be empty. */
    public Map<String, String> metadata() {
        return details.metadata();
    }

    /** Returns all that is wrong with the request. May be empty. */
    public List<Violation> violations() {
        return details.violations();
    }

    /** Returns how long the server asks to wait before the next try. */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(details.retryAfter());
    }

    /**
     * Returns the request id of an {@code Execute} whose answer did not come: it may have been accepted all the same,
     * and the same request with this id attaches to it. Empty everywhere else.
     */
    public String requestId() {
        return requestId;
    }

    /** Tells whether the same call can do better later, or on another connection. */
    boolean canPass() {
        return switch (code) {
            case UNAVAILABLE -> true;
            case RESOURCE_EXHAUSTED -> retryAfter().isPresent();
            default -> reason().isEmpty() && PASSING.contains(code);
        };
    }

    /** Tells whether the server is going: the next try needs another connection. */
    boolean isDraining() {
        return reason().equals("DRAINING");
    }

    StepwireException withRequestId(String id) {
        requestId = id;
        return this;
    }

    /** Returns the class, the reason, the message and each violation. */
    @Override
    public String toString() {
        StringBuilder text = new StringBuilder(getClass().getName()).append(": ");
        if (!reason().isEmpty()) {
            text.append(reason()).append(": ");
        }
        text.append(getMessage());
        for (Violation violation : violations()) {
            text.append("\n  ").append(violation.field()).append(": ").append(violation.description());
        }
        return text.toString();
    }

    private static Details detailsOf(Status status, Metadata trailers) {
        try {
            com.google.rpc.Status rich = StatusProto.fromStatusAndTrailers(status, trailers);
            return rich == null ? Details.NONE : detailsOf(rich);
        } catch (IllegalArgumentException notOurs) {
            // What can't be read, or has another code, is not from a Stepwire server.
            return Details.NONE;
        }
    }

    static Details detailsOf(com.google.rpc.Status status) {
        ErrorInfo info = ErrorInfo.getDefaultInstance();
        BadRequest bad = BadRequest.getDefaultInstance();
        Duration retryAfter = null;
        try {
            for (Any detail : status.getDetailsList()) {
                if (detail.is(ErrorInfo.class)) {
                    info = detail.unpack(ErrorInfo.class);
                } else if (detail.is(BadRequest.class)) {
                    bad = detail.unpack(BadRequest.class);
                } else if (detail.is(RetryInfo.class)) {
                    retryAfter = delayOf(detail.unpack(RetryInfo.class));
                }
            }
        } catch (InvalidProtocolBufferException notOurs) {
            return Details.NONE;
        }
        if (!info.getDomain().equals(DOMAIN)) {
            return new Details("", Map.of(), List.of(), retryAfter);
        }
        List<Violation> violations = bad.getFieldViolationsList().stream()
                .map(violation -> new Violation(violation.getField(), violation.getDescription()))
                .toList();
        return new Details(info.getReason(), Map.copyOf(info.getMetadataMap()), violations, retryAfter);
    }

    private static Duration delayOf(RetryInfo info) {
        if (!info.hasRetryDelay()) {
            return null;
        }
        Duration delay = Duration.ofSeconds(info.getRetryDelay().getSeconds(), info.getRetryDelay().getNanos());
        return delay.isNegative() ? Duration.ZERO : delay;
    }
}
