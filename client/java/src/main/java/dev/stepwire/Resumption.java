package dev.stepwire;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Optional;
import java.util.function.DoubleSupplier;
import stepwire.v1.EventOuterClass.Event;
import stepwire.v1.ExecutionOuterClass.EventBatch;
import stepwire.v1.ExecutionOuterClass.Execution;

/**
 * How a stream of events outlives its connections: a state machine without IO, without a clock and without threads.
 *
 * <p>Its driver calls {@link #take} for the next event. Where there is none, {@link #step} says what to do, and what
 * came of it is told with {@link #opened}, {@link #received}, {@link #ended} or {@link #silent}. The rules:
 *
 * <ol>
 *   <li>The cursor is the last event that the caller has processed, which it says by asking for the next.
 *   <li>An event at or below the last accepted one is a duplicate and is dropped.
 *   <li>A hole is refused: what came before it is given, the call is ended, and another is opened from the cursor.
 *       Without a filter each event is checked, with one only the ranges that the messages say they cover.
 *   <li>The terminal event ends the stream. An event after it breaks the contract.
 *   <li>A call that ends OK without the terminal event is opened again, unless its snapshot says that the execution
 *       ended at or before the cursor: then there is nothing left to give.
 *   <li>NOTICE_DRAINING opens again on a new connection, and is no failure: the first time at once, then with
 *       back-off. As a status it is a failure, and needs a new connection, too.
 *   <li>A status that can pass opens again with back-off. Any other is final.
 *   <li>Before the first message Execute is opened, with a request id that makes it safe to send again; after it
 *       WatchExecution.
 *   <li>Two budgets, one for the start and one for resuming. A new event or a heartbeat fills them again: a heartbeat
 *       comes only over a call that has been healthy for a whole interval.
 *   <li>A call that says nothing for two heartbeat intervals and a second is dead. The next one is on a new connection.
 *   <li>A message about another execution breaks the contract.
 * </ol>
 *
 * <p>All times are nanoseconds of one clock that never goes back.
 */
final class Resumption {
    /** After this the server says that it lives, where the request does not say otherwise. */
    static final Duration DEFAULT_HEARTBEAT = Duration.ofSeconds(15);

    private static final long SECOND = 1_000_000_000;

    /** The time that the status may take after the terminal event. Nothing depends on it any more. */
    private static final long END_OF_CALL = SECOND;

    private enum State {
        TO_OPEN,
        READING,
        ENDING,
        FINISHED,
        BROKEN
    }

    private final boolean filtered;
    private final long silence;
    private final long opening;
    private final Patience patience;
    private final DoubleSupplier random;
    private final Listening listening = new Listening();
    private final Deque<Event> pending = new ArrayDeque<>();

    private State state = State.TO_OPEN;
    private String executionId;
    private Execution execution = Execution.getDefaultInstance();
    private Event terminal;
    private StepwireException error;

    /** Everything up to here has been received, without a hole. */
    private long accepted;
    /** The last event that {@link #take} gave. */
    private long given;
    /** The last event that was processed. */
    private long cursor;
    /** A first message came, once, over any call. */
    private boolean welcomed;

    private boolean backingOff;
    private long openAt;
    private boolean fresh;
    private int failures;
    private long failingSince;
    private int drains;

    /**
     * @param executionId empty: begin with Execute; else with WatchExecution after {@code afterSequence}
     * @param filtered whether the request has a filter of events
     * @param heartbeat the interval that the request asks for
     * @param opening the longest that the first message of a call may take
     * @param random gives 0 to 1
     */
    Resumption(
            String executionId,
            long afterSequence,
            boolean filtered,
            Duration heartbeat,
            Duration opening,
            Patience patience,
            DoubleSupplier random) {
        this.executionId = executionId;
        this.accepted = afterSequence;
        this.given = afterSequence;
        this.cursor = afterSequence;
        this.filtered = filtered;
        this.silence = 2 * Patience.nanos(heartbeat) + SECOND;
        this.opening = Patience.nanos(opening);
        this.patience = patience;
        this.random = random;
    }

    /** Returns the execution. Empty until Execute's first message has come. */
    String executionId() {
        return executionId;
    }

    /** Returns the newest snapshot that a call began with. */
    Execution execution() {
        return execution;
    }

    /** Returns the event that ended the execution, once it has been received. */
    Optional<Event> terminal() {
        return Optional.ofNullable(terminal);
    }

    /** Returns the cursor: the last event that the caller has processed. */
    long sequence() {
        return cursor;
    }

    /** Tells whether a first message has come, over any call. */
    boolean welcomed() {
        return welcomed;
    }

    /** Returns the next event, or null where {@link #step} must be asked. The one before it counts as processed. */
    Event take() {
        Event event = pending.poll();
        if (event == null) {
            // All is processed, and what a filter left out of the end of the last message with it.
            given = accepted;
            cursor = accepted;
        } else {
            cursor = given;
            given = event.getSequence();
        }
        return event;
    }

    /** Returns what to do next. */
    Step step(long now) {
        return switch (state) {
            case TO_OPEN -> new Step.Open(
                    executionId.isEmpty(), accepted, backingOff ? Math.max(0, openAt - now) : 0, fresh);
            case READING, ENDING -> new Step.Read(listening.left(now));
            case FINISHED -> new Step.Finish();
            case BROKEN -> new Step.Refuse(error);
        };
    }

    /** Takes note that the call that {@link #step} asked for is under way. */
    void opened(long now) {
        fresh = false;
        state = State.READING;
        listening.expect(now, opening);
    }

    /** Takes a message. */
    void received(EventBatch batch, long now) {
        if (state == State.ENDING) {
            if (batch.getEventsList().stream().anyMatch(event -> event.getSequence() > accepted)) {
                breakOff(broken("The server sent an event after the terminal one", null));
            }
            return;
        }
        listening.expect(now, silence);
        if (!welcome(batch, now)) {
            return;
        }
        String hole = accept(batch);
        if (state == State.BROKEN) {
            return;
        }
        if (terminal != null) {
            state = State.ENDING;
            listening.expect(now, END_OF_CALL);
        } else if (!hole.isEmpty()) {
            lose(broken(hole, null), now, false);
        } else if (batch.getNotice() == EventBatch.Notice.NOTICE_DRAINING) {
            moveOn(now);
        } else if (batch.getNotice() == EventBatch.Notice.NOTICE_HEARTBEAT) {
            refill();
        }
    }

    /** Takes the end of the call: its error, or null for OK. */
    void ended(StepwireException failure, long now) {
        if (state == State.ENDING) {
            state = State.FINISHED;
        } else if (failure != null && !failure.canPass()) {
            breakOff(failure);
        } else if (failure != null) {
            lose(failure, now, failure.isDraining());
        } else if (Events.hasEnded(execution) && execution.getAsOfSequence() <= accepted) {
            state = State.FINISHED;
        } else {
            lose(broken("The stream ended before the execution did", null), now, false);
        }
    }

    /** Takes note that nothing came in the time that {@link #step} gave. */
    void silent(long now) {
        if (state == State.ENDING) {
            state = State.FINISHED;
        } else if (listening.isOver(now)) {
            lose(StepwireException.silence(), now, true);
        }
    }

    /** Takes what a message says about the execution. Returns whether to go on with the message. */
    private boolean welcome(EventBatch batch, long now) {
        String told = batch.getExecution().getExecutionId();
        if (batch.hasExecution()) {
            execution = batch.getExecution();
        } else if (batch.getEventsCount() > 0) {
            told = batch.getEvents(0).getExecutionId();
        } else {
            told = executionId;
        }
        if (told.isEmpty()) {
            lose(broken("The server did not say which execution the stream is about", null), now, false);
            return false;
        }
        if (!executionId.isEmpty() && !told.equals(executionId)) {
            breakOff(broken("The server sent events of " + told, null));
            return false;
        }
        if (!welcomed) {
            welcomed = true;
            refill();
        }
        executionId = told;
        return true;
    }

    /** Takes the events of a message up to the first hole. Returns what is wrong, or an empty string. */
    private String accept(EventBatch batch) {
        if (batch.getAfterSequence() > accepted) {
            return missing(accepted + 1, batch.getAfterSequence());
        }
        long last = batch.getSequence();
        for (Event event : batch.getEventsList()) {
            long sequence = event.getSequence();
            if (!event.getExecutionId().equals(executionId)) {
                breakOff(broken("The server sent events of " + event.getExecutionId(), null));
                return "";
            }
            if (sequence <= accepted) {
                continue;
            }
            if (terminal != null) {
                breakOff(broken("The server sent an event after the terminal one", null));
                return "";
            }
            if (sequence > last) {
                return "Event " + sequence + " is out of place";
            }
            if (!filtered && sequence != accepted + 1) {
                return missing(accepted + 1, sequence - 1);
            }
            pending.add(event);
            accepted = sequence;
            refill();
            if (Events.isTerminal(event)) {
                terminal = event;
            }
        }
        if (last > accepted && filtered) {
            accepted = last;
            refill();
        }
        return last > accepted ? missing(accepted + 1, last) : "";
    }

    private static String missing(long from, long to) {
        return from == to ? "Event " + from + " is missing" : "Events " + from + " to " + to + " are missing";
    }

    private void refill() {
        failures = 0;
        drains = 0;
    }

    /** Opens again at once, but not again and again: the server is going, and nothing has failed. */
    private void moveOn(long now) {
        drains++;
        openAgain(now, drains == 1 ? 0 : patience.backoff(failures + drains, random), true);
    }

    /** Opens again after a failure, within the budget. */
    private void lose(StepwireException failure, long now, boolean onNewConnection) {
        if (failures == 0) {
            failingSince = now;
        }
        failures++;
        // No server means it; and the sum must not run over.
        long asked = Math.min(failure.retryAfter().map(Patience::nanos).orElse(0L), Long.MAX_VALUE / 2);
        long delay = asked + patience.backoff(failures + drains, random);
        if (patience.isSpent(failures, now - failingSince, delay, welcomed)) {
            breakOff(welcomed ? gaveUp(failure) : failure);
        } else {
            openAgain(now, delay, onNewConnection);
        }
    }

    private void openAgain(long now, long delay, boolean onNewConnection) {
        state = State.TO_OPEN;
        backingOff = true;
        openAt = now + delay;
        fresh = fresh || onNewConnection;
    }

    private StreamBrokenException gaveUp(StepwireException failure) {
        String times = failures == 1 ? "a failure" : failures + " failures in a row";
        return broken("Gave up after " + times + ": " + failure.getMessage(), failure);
    }

    private StreamBrokenException broken(String text, StepwireException cause) {
        return new StreamBrokenException(text, executionId, accepted, cause);
    }

    private void breakOff(StepwireException cause) {
        error = cause;
        state = State.BROKEN;
    }
}
