package dev.stepwire.example;

import com.google.protobuf.Struct;
import dev.stepwire.Run;
import dev.stepwire.StepwireClient;
import stepwire.v1.EventOuterClass.Event;

/** Runs a plan on a server on this machine, and prints how far it is. */
public final class Example {
    private Example() {}

    public static void main(String[] args) {
        try (StepwireClient client = StepwireClient.connect("localhost:50051");
                Run run = client.execute("Bauantrag für Einfamilienhaus in Stuttgart")) {
            for (Event event : run) {
                System.out.printf("%3.0f %%  %s%n", event.getProgress().getPercentage(), event.getMessage());
            }
            Struct output = run.result().getStructValue();
            System.out.println(output.getFieldsOrThrow("title").getStringValue());
        }
    }
}
