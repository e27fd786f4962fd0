package dev.stepwire;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Timestamp;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import stepwire.v1.EventOuterClass.Event;
import stepwire.v1.EventOuterClass.ExecutionState;
import stepwire.v1.EventOuterClass.PlanCompleted;
import stepwire.v1.EventOuterClass.PlanFailed;
import stepwire.v1.EventOuterClass.StepState;

/** The tracker says what its newest event says, and counts each event once. */
class ProgressTrackerTest {
    private final ProgressTracker tracker = new ProgressTracker();

    @Test
    void isEmptyAtFirst() {
        assertEquals(0, tracker.eventCount());
        assertEquals(0, tracker.percentage());
        assertEquals(ExecutionState.EXECUTION_STATE_UNSPECIFIED, tracker.state());
        assertEquals(Optional.empty(), tracker.startTime());
        assertEquals(Optional.empty(), tracker.remaining());
        assertFalse(tracker.hasEnded());
    }

    @Test
    void saysWhatTheNewestEventSays() {
        tracker.add(event(4, 25));
        tracker.add(event(7, 50));
        assertEquals(2, tracker.eventCount());
        assertEquals(50, tracker.percentage());
        assertEquals(7, tracker.currentStep());
        assertEquals(3, tracker.totalSteps());
        assertEquals(2, tracker.completedSteps());
        assertEquals(ExecutionState.EXECUTION_STATE_RUNNING, tracker.state());
        assertEquals(Optional.of(Instant.ofEpochSecond(4)), tracker.startTime());
        assertEquals(Duration.ofMillis(1_500), tracker.elapsed());
        assertEquals(Optional.of(Duration.ofSeconds(7)), tracker.remaining());
        assertEquals(Optional.empty(), tracker.remainingMargin());
    }

    @Test
    void countsNoEventTwice() {
        tracker.add(event(4, 25));
        tracker.add(event(4, 99));
        tracker.add(event(3, 99));
        assertEquals(1, tracker.eventCount());
        assertEquals(25, tracker.percentage());
    }

    @Test
    void knowsTheEnd() {
        tracker.add(event(1, 100).toBuilder()
                .setPlanCompleted(PlanCompleted.getDefaultInstance())
                .build());
        assertTrue(tracker.hasEnded());
        assertFalse(tracker.hasFailures());
        tracker.add(event(2, 100).toBuilder()
                .setPlanFailed(PlanFailed.getDefaultInstance())
                .build());
        assertTrue(tracker.hasFailures());
    }

    @Test
    void keepsQuestionsUntilTheyAreClosed() {
        tracker.add(asked(1, "a", "q1"));
        tracker.add(asked(2, "b", "q2"));
        tracker.add(asked(3, "c", "q3"));
        tracker.add(asked(4, "a", "q4"));
        assertEquals(List.of("q2", "q3", "q4"), open());
        tracker.add(event(5, 50).toBuilder()
                .setStepId("a")
                .setStepState(StepState.STEP_STATE_RUNNING)
                .build());
        assertEquals(List.of("q2", "q3", "q4"), open());
        Event.Builder received = event(6, 50).toBuilder();
        received.getInputReceivedBuilder().setInputId("q2");
        tracker.add(received.build());
        assertEquals(List.of("q3", "q4"), open());
        tracker.add(event(7, 50).toBuilder()
                .setStepId("c")
                .setStepState(StepState.STEP_STATE_FAILED)
                .build());
        assertEquals(List.of("q4"), open());
        tracker.add(event(8, 50).toBuilder()
                .setPlanFailed(PlanFailed.getDefaultInstance())
                .build());
        assertEquals(List.of(), open());
    }

    private List<String> open() {
        return tracker.questions().stream()
                .map(asked -> asked.getInputRequested().getInputId())
                .toList();
    }

    private static Event asked(long sequence, String stepId, String inputId) {
        Event.Builder event = event(sequence, 50).toBuilder().setStepId(stepId);
        event.getInputRequestedBuilder().setInputId(inputId);
        return event.build();
    }

    private static Event event(long sequence, double percentage) {
        Event.Builder event = Event.newBuilder()
                .setSequence(sequence)
                .setEventTime(Timestamp.newBuilder().setSeconds(sequence))
                .setExecutionState(ExecutionState.EXECUTION_STATE_RUNNING);
        event.getProgressBuilder()
                .setPercentage(percentage)
                .setCurrentStep((int) sequence)
                .setTotalSteps(3)
                .setCompletedSteps(2);
        event.getProgressBuilder().getElapsedBuilder().setSeconds(1).setNanos(500_000_000);
        event.getProgressBuilder().getRemainingBuilder().setSeconds(sequence);
        return event.build();
    }
}
