package dev.stepwire.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import dev.stepwire.Patience;
import dev.stepwire.StepwireClient;
import java.util.function.BiFunction;
import stepwire.v1.ExecutionServiceOuterClass.ExecuteRequest;
import stepwire.v1.ExecutionServiceOuterClass.WatchExecutionRequest;

/** What the kit asks for: one line of JSON. */
record Command(JsonObject json) {
    private static final double NANOS = 1e9;

    String action() {
        return text("do");
    }

    StepwireClient client() {
        StepwireClient.Builder client = StepwireClient.builder(text("target")).patience(patience());
        for (String name : new String[] {"timeout_seconds", "opening_seconds"}) {
            if (json.has(name)) {
                client.timeout(time(json.get(name)));
            }
        }
        return client.build();
    }

    ExecuteRequest execute() throws InvalidProtocolBufferException {
        ExecuteRequest.Builder request = ExecuteRequest.newBuilder().setRequestId(text("request_id"));
        if (json.has("plan")) {
            merge("plan", request.getPlanBuilder());
        } else {
            request.setQuery(text("query"));
        }
        if (json.has("filter")) {
            merge("filter", request.getFilterBuilder());
        }
        if (json.has("heartbeat_seconds")) {
            request.setHeartbeatInterval(heartbeat());
        }
        return request.build();
    }

    WatchExecutionRequest watch() throws InvalidProtocolBufferException {
        WatchExecutionRequest.Builder request = WatchExecutionRequest.newBuilder()
                .setExecutionId(text("execution_id"))
                .setAfterSequence(afterSequence());
        if (json.has("filter")) {
            merge("filter", request.getFilterBuilder());
        }
        if (json.has("heartbeat_seconds")) {
            request.setHeartbeatInterval(heartbeat());
        }
        return request.build();
    }

    long afterSequence() {
        return number("after_sequence", 0);
    }

    /** Returns after how many events to stop. */
    long stopAfter() {
        return number("stop_after", Long.MAX_VALUE);
    }

    boolean silent() {
        return json.has("silent") && json.get("silent").getAsBoolean();
    }

    String text(String name) {
        return json.has(name) ? json.get(name).getAsString() : "";
    }

    private long number(String name, long otherwise) {
        return json.has(name) ? json.get(name).getAsLong() : otherwise;
    }

    private void merge(String name, Message.Builder message) throws InvalidProtocolBufferException {
        JsonFormat.parser().merge(json.get(name).toString(), message);
    }

    private Duration heartbeat() {
        java.time.Duration interval = time(json.get("heartbeat_seconds"));
        return Duration.newBuilder()
                .setSeconds(interval.getSeconds())
                .setNanos(interval.getNano())
                .build();
    }

    private Patience patience() {
        Patience patience = Patience.DEFAULT;
        if (json.has("patience")) {
            JsonObject asked = json.getAsJsonObject("patience");
            patience = with(patience, asked, "initial_delay", (p, value) -> p.withInitialDelay(time(value)));
            patience = with(patience, asked, "max_delay", (p, value) -> p.withMaxDelay(time(value)));
            patience = with(patience, asked, "start_failures", (p, value) -> p.withStartFailures(value.getAsInt()));
            patience = with(patience, asked, "resume_failures", (p, value) -> p.withResumeFailures(value.getAsInt()));
            patience = with(patience, asked, "start_seconds", (p, value) -> p.withStartTime(time(value)));
            patience = with(patience, asked, "resume_seconds", (p, value) -> p.withResumeTime(time(value)));
        }
        return patience;
    }

    private static Patience with(
            Patience patience, JsonObject asked, String name, BiFunction<Patience, JsonElement, Patience> setter) {
        return asked.has(name) ? setter.apply(patience, asked.get(name)) : patience;
    }

    private static java.time.Duration time(JsonElement seconds) {
        return java.time.Duration.ofNanos((long) (seconds.getAsDouble() * NANOS));
    }
}
