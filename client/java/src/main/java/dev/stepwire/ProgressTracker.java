package dev.stepwire;

import java.time.Duration;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import stepwire.v1.EventOuterClass.Event;
import stepwire.v1.EventOuterClass.ExecutionState;
import stepwire.v1.EventOuterClass.Progress;

/**
 * Folds events into how far an execution is. The server counts; the tracker keeps what its newest event says. So it
 * is right with a filter, and from the middle of a stream on.
 */
public final class ProgressTracker {
    private Event first = Event.getDefaultInstance();
    private Event last = Event.getDefaultInstance();
    private long eventCount;
    /** The open questions by step: a step has one at a time. */
    private final Map<String, Event> questions = new LinkedHashMap<>();

    /** Takes an event. One that is not newer than the last changes nothing, so none counts twice. */
    public void add(Event event) {
        if (event.getSequence() <= last.getSequence()) {
            return;
        }
        if (eventCount == 0) {
            first = event;
        }
        last = event;
        eventCount++;
        if (event.hasInputRequested()) {
            questions.remove(event.getStepId());
            questions.put(event.getStepId(), event);
        } else if (event.hasInputReceived()) {
            String answered = event.getInputReceived().getInputId();
            questions.values().removeIf(asked -> asked.getInputRequested().getInputId().equals(answered));
        } else if (Events.isTerminal(event)) {
            questions.clear();
        } else if (endsStep(event)) {
            questions.remove(event.getStepId());
        }
    }

    /** Returns how many events were added. */
    public long eventCount() {
        return eventCount;
    }

    /** Returns how far the whole execution is: 0 to 100. */
    public double percentage() {
        return progress().getPercentage();
    }

    /** Returns the steps in the plan. 0 before there is one. */
    public int totalSteps() {
        return progress().getTotalSteps();
    }

    /** Returns the steps completed. */
    public int completedSteps() {
        return progress().getCompletedSteps();
    }

    /** Returns the steps failed for good. */
    public int failedSteps() {
        return progress().getFailedSteps();
    }

    /** Returns the steps that will not run. */
    public int skippedSteps() {
        return progress().getSkippedSteps();
    }

    /** Returns the place, from 1, of the step that the newest event is about. */
    public int currentStep() {
        return progress().getCurrentStep();
    }

    /** Returns the execution's state. {@code EXECUTION_STATE_UNSPECIFIED} before the first event. */
    public ExecutionState state() {
        return last.getExecutionState();
    }

    /** Returns when the first event that was added happened, by the server's clock. */
    public Optional<Instant> startTime() {
        if (eventCount == 0) {
            return Optional.empty();
        }
        return Optional.of(Instant.ofEpochSecond(
                first.getEventTime().getSeconds(), first.getEventTime().getNanos()));
    }

    /** Returns the time from the acceptance of the execution to the newest event, by the server's clock. */
    public Duration elapsed() {
        return duration(progress().getElapsed());
    }

    /** Returns an estimate of the time to the end, as of the newest event. Empty when unknown. */
    public Optional<Duration> remaining() {
        return progress().hasRemaining() ? Optional.of(duration(progress().getRemaining())) : Optional.empty();
    }

    /** Returns how sure {@link #remaining} is: about every second execution ends within this much of it. */
    public Optional<Duration> remainingMargin() {
        return progress().hasRemainingMargin()
                ? Optional.of(duration(progress().getRemainingMargin()))
                : Optional.empty();
    }

    /**
     * Returns what steps ask people and nobody has answered: the {@code input_requested} events, oldest first. A
     * filter of events must let those, {@code input_received} and the ends of steps through.
     */
    public List<Event> questions() {
        return List.copyOf(questions.values());
    }

    /** Tells whether the terminal event was added. */
    public boolean hasEnded() {
        return Events.isTerminal(last);
    }

    /** Tells whether a step failed for good, or the execution did. */
    public boolean hasFailures() {
        return failedSteps() > 0 || last.hasPlanFailed();
    }

    private Progress progress() {
        return last.getProgress();
    }

    private static boolean endsStep(Event event) {
        return switch (event.getStepState()) {
            case STEP_STATE_COMPLETED, STEP_STATE_FAILED, STEP_STATE_SKIPPED, STEP_STATE_CANCELLED -> true;
            default -> false;
        };
    }

    private static Duration duration(com.google.protobuf.Duration time) {
        return Duration.ofSeconds(time.getSeconds(), time.getNanos());
    }
}
