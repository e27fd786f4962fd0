package dev.stepwire.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.OneofDescriptor;
import dev.stepwire.ProgressTracker;
import dev.stepwire.StepwireException;
import dev.stepwire.StreamBrokenException;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import stepwire.v1.EventOuterClass.Content;
import stepwire.v1.EventOuterClass.Event;
import stepwire.v1.ExecutionOuterClass.Execution;

/** Says what the client saw: lines of JSON on standard output. */
final class Report {
    private static final OneofDescriptor KIND = oneofOf(Event.KindCase.CONTENT.getNumber());

    private final PrintStream out =
            new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    void event(Event event) {
        JsonObject line = new JsonObject();
        line.addProperty("sequence", event.getSequence());
        FieldDescriptor kind = event.getOneofFieldDescriptor(KIND);
        line.addProperty("kind", kind == null ? "" : kind.getName());
        line.addProperty("step_id", event.getStepId());
        if (event.hasContent()) {
            Content content = event.getContent();
            ByteString piece = content.hasText() ? content.getTextBytes() : content.getData();
            line.addProperty("size", piece.size());
            line.addProperty("sha256", sha256(piece));
        }
        print("event", line);
    }

    void progress(ProgressTracker progress) {
        JsonObject line = new JsonObject();
        line.addProperty("percentage", progress.percentage());
        line.addProperty("completed_steps", progress.completedSteps());
        line.addProperty("total_steps", progress.totalSteps());
        line.addProperty("events", progress.eventCount());
        print("progress", line);
    }

    void execution(Execution execution) {
        JsonObject line = new JsonObject();
        line.addProperty("execution_id", execution.getExecutionId());
        line.addProperty("state", execution.getState().name());
        print("execution", line);
    }

    void decoded(JsonElement message) {
        print("decoded", message);
    }

    void end(JsonObject end) {
        print("end", end);
    }

    static JsonObject errorOf(StepwireException error) {
        JsonObject line = new JsonObject();
        line.addProperty("kind", error instanceof StreamBrokenException ? "broken" : "refused");
        line.addProperty("code", error.code().name());
        line.addProperty("reason", error.reason());
        line.addProperty("message", error.getMessage());
        JsonObject metadata = new JsonObject();
        error.metadata().forEach(metadata::addProperty);
        line.add("metadata", metadata);
        line.add("violations", violationsOf(error.violations()));
        error.retryAfter().ifPresent(delay -> line.addProperty("retry_after_seconds", delay.toNanos() / 1e9));
        line.addProperty("request_id", error.requestId());
        return line;
    }

    private static JsonArray violationsOf(List<StepwireException.Violation> violations) {
        JsonArray lines = new JsonArray();
        for (StepwireException.Violation violation : violations) {
            JsonObject line = new JsonObject();
            line.addProperty("field", violation.field());
            line.addProperty("description", violation.description());
            lines.add(line);
        }
        return lines;
    }

    private void print(String name, JsonElement value) {
        JsonObject line = new JsonObject();
        line.add(name, value);
        out.println(line);
    }

    private static OneofDescriptor oneofOf(int field) {
        return Event.getDescriptor().findFieldByNumber(field).getContainingOneof();
    }

    private static String sha256(ByteString bytes) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            bytes.asReadOnlyByteBufferList().forEach(digest::update);
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("Every Java has SHA-256", e);
        }
    }
}
