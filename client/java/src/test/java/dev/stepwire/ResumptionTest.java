package dev.stepwire;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import stepwire.v1.EventOuterClass.Event;
import stepwire.v1.EventOuterClass.ExecutionState;
import stepwire.v1.EventOuterClass.PlanCompleted;
import stepwire.v1.ExecutionOuterClass.EventBatch;
import stepwire.v1.ExecutionOuterClass.EventBatch.Notice;
import stepwire.v1.ExecutionOuterClass.Execution;

/** A stream goes on from what was processed, gives each event once and in order, and ends with the terminal one. */
class ResumptionTest {
    private static final String ID = "e-1";
    private static final long SECOND = 1_000_000_000;
    private static final Patience PATIENCE = Patience.DEFAULT.withStartFailures(3).withResumeFailures(3);

    private final Resumption executing = machine("", 0, false);

    private long now = -5 * SECOND;

    @Test
    void beginsWithExecuteAndGoesOnWithWatchAfterTheFirstMessage() {
        assertEquals(new Step.Open(true, 0, 0, false), executing.step(now));
        open(executing);
        executing.ended(unavailable(), now);
        assertTrue(opening(executing).execute());
        open(executing);
        executing.received(welcome(), now);
        assertTrue(executing.welcomed());
        assertEquals(ID, executing.executionId());
        executing.ended(unavailable(), now);
        assertEquals(new Step.Open(false, 0, SECOND / 10, false), executing.step(now));
    }

    @Test
    void theCursorIsWhatWasProcessedAndNotWhatWasReceived() {
        Resumption machine = reading();
        machine.received(batch(0, 3, 1, 2, 3), now);
        assertEquals(0, machine.sequence());
        assertEquals(1, machine.take().getSequence());
        assertEquals(0, machine.sequence());
        assertEquals(2, machine.take().getSequence());
        assertEquals(1, machine.sequence());
        assertEquals(3, machine.take().getSequence());
        assertNull(machine.take());
        assertEquals(3, machine.sequence());
    }

    @Test
    void dropsDuplicates() {
        Resumption machine = reading();
        machine.received(batch(0, 2, 1, 2), now);
        machine.received(batch(0, 3, 1, 2, 3), now);
        machine.received(batch(1, 2, 2), now);
        assertEquals(List.of(1L, 2L, 3L), taken(machine));
        assertInstanceOf(Step.Read.class, machine.step(now));
    }

    @Test
    void refusesAHoleBetweenMessages() {
        Resumption machine = reading();
        machine.received(batch(0, 2, 1, 2), now);
        machine.received(batch(3, 4, 4), now);
        assertEquals(List.of(1L, 2L), taken(machine));
        assertEquals(2, opening(machine).afterSequence());
    }

    @Test
    void refusesAHoleWithinAMessageAndGivesWhatCameBefore() {
        Resumption machine = reading();
        machine.received(batch(0, 4, 1, 2, 4), now);
        assertEquals(List.of(1L, 2L), taken(machine));
        assertEquals(2, opening(machine).afterSequence());
    }

    @Test
    void refusesAMessageThatHasLessThanItCovers() {
        Resumption machine = reading();
        machine.received(batch(0, 3, 1, 2), now);
        assertEquals(List.of(1L, 2L), taken(machine));
        assertEquals(2, opening(machine).afterSequence());
    }

    @Test
    void refusesAnEventBeyondWhatItsMessageCovers() {
        Resumption machine = reading();
        machine.received(batch(0, 1, 1, 2), now);
        assertEquals(List.of(1L), taken(machine));
        assertEquals(1, opening(machine).afterSequence());
    }

    @Test
    void withAFilterOnlyTheRangesMustJoin() {
        Resumption machine = machine(ID, 0, true);
        open(machine);
        machine.received(welcome(), now);
        machine.received(batch(0, 6, 2, 5), now);
        assertEquals(List.of(2L, 5L), taken(machine));
        assertEquals(6, machine.sequence());
        machine.received(batch(7, 9, 9), now);
        assertEquals(6, opening(machine).afterSequence());
    }

    @Test
    void aHoleThatStaysSpendsTheBudget() {
        Resumption machine = reading();
        for (int times = 1; times <= 3; times++) {
            machine.received(batch(3, 4, 4), now);
            if (times < 3) {
                open(machine);
            }
        }
        StreamBrokenException error = assertInstanceOf(StreamBrokenException.class, refusal(machine));
        assertEquals("Gave up after 3 failures in a row: Events 1 to 3 are missing", error.getMessage());
        assertEquals(ID, error.executionId());
        assertEquals(0, error.sequence());
    }

    @Test
    void theTerminalEventEndsTheStreamWhateverStatusFollows() {
        Resumption machine = reading();
        machine.received(with(batch(0, 1), completed(1)), now);
        assertEquals(List.of(1L), taken(machine));
        assertEquals(1, machine.terminal().orElseThrow().getSequence());
        assertEquals(new Step.Read(SECOND), machine.step(now));
        machine.ended(unavailable(), now);
        assertEquals(new Step.Finish(), machine.step(now));
    }

    @Test
    void theTerminalEventEndsTheStreamWhereNothingFollows() {
        Resumption machine = reading();
        machine.received(with(batch(0, 1), completed(1)), now);
        machine.silent(now + SECOND);
        assertEquals(new Step.Finish(), machine.step(now));
    }

    @Test
    void anEventAfterTheTerminalOneBreaksTheContract() {
        Resumption behind = reading();
        behind.received(with(batch(0, 2), completed(1), event(2)), now);
        assertEquals(List.of(1L), taken(behind));
        assertInstanceOf(StreamBrokenException.class, refusal(behind));

        Resumption later = reading();
        later.received(with(batch(0, 1), completed(1)), now);
        later.received(batch(1, 2, 2), now);
        assertEquals(List.of(1L), taken(later));
        assertInstanceOf(StreamBrokenException.class, refusal(later));
    }

    @Test
    void okWithoutATerminalEventOpensAgain() {
        Resumption machine = reading();
        machine.received(batch(0, 2, 1, 2), now);
        machine.ended(null, now);
        assertEquals(List.of(1L, 2L), taken(machine));
        assertEquals(new Step.Open(false, 2, SECOND / 10, false), machine.step(now));
    }

    @Test
    void okIsTheEndWhereTheSnapshotEndedAtTheCursor() {
        Resumption machine = machine(ID, 9, false);
        open(machine);
        machine.received(snapshot(9, ExecutionState.EXECUTION_STATE_CANCELLED), now);
        machine.ended(null, now);
        assertEquals(new Step.Finish(), machine.step(now));
        assertTrue(machine.terminal().isEmpty());
    }

    @Test
    void okIsNoEndWhereTheSnapshotEndedBehindTheCursor() {
        Resumption machine = machine(ID, 8, false);
        open(machine);
        machine.received(snapshot(9, ExecutionState.EXECUTION_STATE_CANCELLED), now);
        machine.ended(null, now);
        assertEquals(8, opening(machine).afterSequence());
    }

    @Test
    void drainingMovesOnAtOnceAndThenWithBackOff() {
        Resumption machine = reading();
        machine.received(notice(Notice.NOTICE_DRAINING), now);
        assertEquals(new Step.Open(false, 0, 0, true), machine.step(now));
        for (int times = 0; times < 10; times++) {
            open(machine);
            machine.received(notice(Notice.NOTICE_DRAINING), now);
            assertTrue(opening(machine).delay() > 0);
        }
        now += 6 * SECOND;
        open(machine);
        machine.received(batch(0, 1, 1), now);
        machine.received(batch(1, 1).toBuilder().setNotice(Notice.NOTICE_DRAINING).build(), now);
        assertEquals(List.of(1L), taken(machine));
        assertEquals(new Step.Open(false, 1, 0, true), machine.step(now));
    }

    @Test
    void theStatusDrainingNeedsANewConnection() {
        executing.opened(now);
        executing.ended(StepwireException.of(status(Code.UNAVAILABLE, "DRAINING")), now);
        assertEquals(new Step.Open(true, 0, SECOND / 10, true), executing.step(now));
        executing.opened(now);
        executing.ended(unavailable(), now);
        assertFalse(opening(executing).fresh());
    }

    @Test
    void aFinalStatusIsThrownAsItIs() {
        Resumption machine = reading();
        StepwireException gone = StepwireException.of(status(Code.NOT_FOUND, "EXECUTION_NOT_FOUND"));
        machine.ended(gone, now);
        assertSame(gone, refusal(machine));
    }

    @Test
    void theLastErrorIsThrownWhereTheStartDoesNotSucceed() {
        StepwireException last = unavailable();
        for (int times = 1; times <= 3; times++) {
            executing.opened(now);
            executing.ended(times < 3 ? unavailable() : last, now);
        }
        assertSame(last, refusal(executing));
    }

    @Test
    void givesUpResumingAfterTheTimeForIt() {
        Patience sevenSeconds = PATIENCE.withResumeFailures(100).withResumeTime(Duration.ofSeconds(7));
        Resumption machine = machine(ID, 0, false, sevenSeconds);
        open(machine);
        machine.received(welcome(), now);
        machine.ended(unavailable(), now);
        now += 7 * SECOND - SECOND / 10;
        open(machine);
        machine.ended(unavailable(), now);
        StreamBrokenException error = assertInstanceOf(StreamBrokenException.class, refusal(machine));
        assertEquals("Gave up after 2 failures in a row: from the transport", error.getMessage());
        assertEquals("from the transport", error.getCause().getMessage());
    }

    @Test
    void newsAndHeartbeatsFillTheBudgetAndNothingElseDoes() {
        Resumption machine = reading();
        for (int sequence = 1; sequence <= 5; sequence++) {
            machine.received(batch(sequence - 1, sequence, sequence), now);
            machine.ended(unavailable(), now);
            open(machine);
        }
        for (int times = 0; times < 5; times++) {
            machine.received(notice(5, Notice.NOTICE_HEARTBEAT), now);
            machine.ended(unavailable(), now);
            open(machine);
        }
        // One failure is counted since the last heartbeat.
        machine.received(notice(5, Notice.NOTICE_CAUGHT_UP), now);
        machine.ended(unavailable(), now);
        open(machine);
        machine.ended(unavailable(), now);
        taken(machine);
        assertInstanceOf(StreamBrokenException.class, refusal(machine));
    }

    @Test
    void theServersDelayIsAddedToTheBackOff() {
        executing.opened(now);
        executing.ended(StepwireException.of(retryIn(2)), now);
        assertEquals(2 * SECOND + SECOND / 10, opening(executing).delay());
        now += SECOND;
        assertEquals(SECOND + SECOND / 10, opening(executing).delay());
    }

    @Test
    void aDelayBeyondThePatienceIsNotWaitedFor() {
        executing.opened(now);
        executing.ended(StepwireException.of(retryIn(Long.MAX_VALUE)), now);
        assertEquals("from the transport", refusal(executing).getMessage());
    }

    @Test
    void silenceOpensAgainOnANewConnection() {
        Resumption machine = reading();
        assertEquals(new Step.Read(5 * SECOND), machine.step(now));
        now += 5 * SECOND;
        machine.silent(now);
        assertEquals(new Step.Open(false, 0, SECOND / 10, true), machine.step(now));
    }

    @Test
    void aCallThatDoesNotBeginIsSilent() {
        executing.opened(now);
        assertEquals(new Step.Read(10 * SECOND), executing.step(now));
        executing.silent(now + 10 * SECOND);
        assertTrue(opening(executing).fresh());
    }

    @Test
    void aReaderThatWasAwayListensBeforeItFindsSilence() {
        Resumption machine = reading();
        now += 60 * SECOND;
        assertEquals(new Step.Read(SECOND), machine.step(now));
        machine.received(batch(0, 1, 1), now);
        assertEquals(new Step.Read(5 * SECOND), machine.step(now));
        // A process that was stopped while it listened gets a moment more, once.
        now += 60 * SECOND;
        machine.silent(now);
        assertEquals(new Step.Read(SECOND), machine.step(now));
        now += SECOND;
        machine.silent(now);
        taken(machine);
        assertTrue(opening(machine).fresh());
    }

    @Test
    void anotherExecutionBreaksTheContract() {
        Resumption machine = reading();
        machine.received(with(batch(0, 1), event(1).toBuilder().setExecutionId("e-2").build()), now);
        assertNull(machine.take());
        assertEquals("The server sent events of e-2", refusal(machine).getMessage());

        Resumption behind = reading();
        Event foreign = event(2).toBuilder().setExecutionId("e-2").build();
        behind.received(with(batch(0, 2, 1), foreign), now);
        assertEquals(List.of(1L), taken(behind));
        assertEquals("The server sent events of e-2", refusal(behind).getMessage());

        Resumption watching = machine("e-3", 0, false);
        open(watching);
        watching.received(welcome(), now);
        assertEquals("The server sent events of e-1", refusal(watching).getMessage());
    }

    @Test
    void aFirstMessageThatNamesNoExecutionIsAFailure() {
        executing.opened(now);
        executing.received(notice(Notice.NOTICE_CAUGHT_UP), now);
        assertTrue(opening(executing).execute());
    }

    @Test
    void anEventOfAnUnknownKindIsAnEvent() {
        Resumption machine = reading();
        machine.received(batch(0, 1, 1), now);
        assertEquals(Event.KindCase.KIND_NOT_SET, machine.take().getKindCase());
    }

    private Resumption reading() {
        Resumption machine = machine(ID, 0, false);
        open(machine);
        machine.received(welcome(), now);
        return machine;
    }

    private static Resumption machine(String executionId, long after, boolean filtered) {
        return machine(executionId, after, filtered, PATIENCE);
    }

    private static Resumption machine(String executionId, long after, boolean filtered, Patience patience) {
        // The share of each wait is all of it, so that waits are known.
        return new Resumption(
                executionId, after, filtered, Duration.ofSeconds(2), Duration.ofSeconds(10), patience, () -> 1.0);
    }

    private void open(Resumption machine) {
        assertInstanceOf(Step.Open.class, machine.step(now));
        machine.opened(now);
    }

    private Step.Open opening(Resumption machine) {
        return assertInstanceOf(Step.Open.class, machine.step(now));
    }

    private StepwireException refusal(Resumption machine) {
        return assertInstanceOf(Step.Refuse.class, machine.step(now)).error();
    }

    private static List<Long> taken(Resumption machine) {
        List<Long> sequences = new ArrayList<>();
        for (Event event = machine.take(); event != null; event = machine.take()) {
            sequences.add(event.getSequence());
        }
        return sequences;
    }

    private static EventBatch welcome() {
        return snapshot(0, ExecutionState.EXECUTION_STATE_RUNNING);
    }

    private static EventBatch snapshot(long sequence, ExecutionState state) {
        Execution.Builder execution =
                Execution.newBuilder().setExecutionId(ID).setAsOfSequence(sequence).setState(state);
        return EventBatch.newBuilder().setExecution(execution).build();
    }

    private static EventBatch notice(Notice notice) {
        return notice(0, notice);
    }

    private static EventBatch notice(long sequence, Notice notice) {
        return batch(sequence, sequence).toBuilder().setNotice(notice).build();
    }

    private static EventBatch batch(long after, long to, long... sequences) {
        EventBatch.Builder batch = EventBatch.newBuilder().setAfterSequence(after).setSequence(to);
        for (long sequence : sequences) {
            batch.addEvents(event(sequence));
        }
        return batch.build();
    }

    private static EventBatch with(EventBatch batch, Event... events) {
        return batch.toBuilder().addAllEvents(List.of(events)).build();
    }

    private static Event event(long sequence) {
        return Event.newBuilder().setExecutionId(ID).setSequence(sequence).build();
    }

    private static Event completed(long sequence) {
        return event(sequence).toBuilder()
                .setPlanCompleted(PlanCompleted.getDefaultInstance())
                .build();
    }

    private static StepwireException unavailable() {
        return StepwireException.of(Status.newBuilder()
                .setCode(Code.UNAVAILABLE_VALUE)
                .setMessage("from the transport")
                .build());
    }

    private static Status status(Code code, String reason) {
        ErrorInfo info =
                ErrorInfo.newBuilder().setDomain("stepwire").setReason(reason).build();
        return Status.newBuilder()
                .setCode(code.getNumber())
                .addDetails(Any.pack(info))
                .build();
    }

    private static Status retryIn(long seconds) {
        RetryInfo.Builder retry = RetryInfo.newBuilder();
        retry.getRetryDelayBuilder().setSeconds(seconds);
        return Status.newBuilder()
                .setCode(Code.RESOURCE_EXHAUSTED_VALUE)
                .setMessage("from the transport")
                .addDetails(Any.pack(retry.build()))
                .build();
    }
}
