package dev.stepwire.conformance;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.TypeRegistry;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.ErrorDetailsProto;
import dev.stepwire.ProgressTracker;
import dev.stepwire.Run;
import dev.stepwire.StepwireClient;
import dev.stepwire.StepwireException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.function.Supplier;
import java.util.stream.Stream;
import stepwire.v1.EventOuterClass;
import stepwire.v1.EventOuterClass.Event;
import stepwire.v1.ExecutionOuterClass;
import stepwire.v1.ExecutionOuterClass.Execution;
import stepwire.v1.ExecutionServiceOuterClass;
import stepwire.v1.PlanOuterClass;

/** Does what the conformance kit asks of the client, and says what it saw, as tests/conformance/README.md has it. */
public final class Adapter {
    private final Command command;
    private final Report report = new Report();

    private Adapter(Command command) {
        this.command = command;
    }

    public static void main(String[] args) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            new Adapter(new Command(JsonParser.parseString(line).getAsJsonObject())).obey();
        }
    }

    private void obey() throws IOException {
        if (command.action().equals("decode")) {
            report.decoded(JsonParser.parseString(decode()));
            report.end(outcome("answered"));
            return;
        }
        try (StepwireClient client = command.client()) {
            switch (command.action()) {
                case "execute", "watch" -> follow(client);
                case "get" -> answer(() -> client.get(command.text("execution_id")));
                case "cancel" -> answer(() -> client.cancel(command.text("execution_id"), command.text("reason")));
                default -> throw new IllegalArgumentException("No such command: " + command.action());
            }
        }
    }

    private void follow(StepwireClient client) throws InvalidProtocolBufferException {
        ProgressTracker progress = new ProgressTracker();
        JsonObject end;
        long start = System.nanoTime();
        try (Run run = command.action().equals("execute")
                ? client.execute(command.execute())
                : client.watch(command.watch())) {
            progress = run.progress();
            end = read(run);
        } catch (StepwireException refused) {
            end = failure(refused);
            end.addProperty("sequence", command.afterSequence());
        }
        report.progress(progress);
        if (command.silent()) {
            end.addProperty("events", progress.eventCount());
            end.addProperty("seconds", (System.nanoTime() - start) / 1e9);
        }
        report.end(end);
    }

    private JsonObject read(Run run) {
        JsonObject end;
        long last = command.afterSequence();
        try {
            while (run.progress().eventCount() < command.stopAfter() && run.hasNext()) {
                Event event = run.next();
                last = event.getSequence();
                if (!command.silent()) {
                    report.event(event);
                }
            }
            boolean stopped = run.progress().eventCount() == command.stopAfter();
            end = outcome(stopped ? "stopped" : run.terminal().map(Adapter::outcomeOf).orElse("over"));
        } catch (StepwireException failed) {
            end = failure(failed);
        }
        // The run counts an event as processed when the next one is asked for; this user was done with the last.
        end.addProperty("sequence", Math.max(last, run.sequence()));
        return end;
    }

    private static String outcomeOf(Event terminal) {
        return switch (terminal.getKindCase()) {
            case PLAN_COMPLETED -> "completed";
            case PLAN_FAILED -> "failed";
            default -> "cancelled";
        };
    }

    private void answer(Supplier<Execution> question) {
        JsonObject end;
        try {
            report.execution(question.get());
            end = outcome("answered");
        } catch (StepwireException refused) {
            end = failure(refused);
        }
        report.end(end);
    }

    private String decode() throws InvalidProtocolBufferException {
        byte[] encoded = Base64.getDecoder().decode(command.text("base64"));
        DynamicMessage message = DynamicMessage.parseFrom(typeNamed(command.text("type")), encoded);
        TypeRegistry details = TypeRegistry.newBuilder()
                .add(ErrorDetailsProto.getDescriptor().getMessageTypes())
                .build();
        return JsonFormat.printer().usingTypeRegistry(details).print(message);
    }

    private static Descriptor typeNamed(String name) {
        return Stream.of(
                        EventOuterClass.getDescriptor(),
                        ExecutionOuterClass.getDescriptor(),
                        ExecutionServiceOuterClass.getDescriptor(),
                        PlanOuterClass.getDescriptor())
                .flatMap((FileDescriptor file) -> file.getMessageTypes().stream())
                .filter(type -> type.getFullName().equals(name))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException("No such type: " + name));
    }

    private static JsonObject outcome(String name) {
        JsonObject end = new JsonObject();
        end.addProperty("outcome", name);
        return end;
    }

    private static JsonObject failure(StepwireException error) {
        JsonObject end = new JsonObject();
        end.add("error", Report.errorOf(error));
        return end;
    }
}
