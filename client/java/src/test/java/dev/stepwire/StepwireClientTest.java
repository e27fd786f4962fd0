package dev.stepwire;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Value;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import stepwire.v1.EventOuterClass.Event;
import stepwire.v1.ExecutionOuterClass.EventBatch;
import stepwire.v1.ExecutionOuterClass.EventBatch.Notice;
import stepwire.v1.ExecutionOuterClass.EventFilter;
import stepwire.v1.ExecutionServiceOuterClass.ExecuteRequest;
import stepwire.v1.ExecutionServiceOuterClass.GetExecutionRequest;
import stepwire.v1.ExecutionServiceOuterClass.GetExecutionResponse;
import stepwire.v1.ExecutionServiceOuterClass.WatchExecutionRequest;

/** The client does over real connections what the state machine says, and leaves none behind. */
@Timeout(60)
class StepwireClientTest {
    private static final String ID = "e-1";
    private static final Patience QUICK =
            Patience.DEFAULT.withInitialDelay(Duration.ofMillis(1)).withMaxDelay(Duration.ofMillis(5));

    private ScriptedServer server;
    private StepwireClient client;

    @BeforeEach
    void connect() throws Exception {
        server = new ScriptedServer(0);
        client = StepwireClient.builder(server.target()).patience(QUICK).build();
    }

    @AfterEach
    void leave() throws Exception {
        client.close();
        server.close();
    }

    @Test
    void executesAndFollowsToTheEnd() {
        server.then(sends(welcome(), batch(0, event(1), event(2)), batch(2, completed(3))));
        try (Run run = client.execute("build a house")) {
            assertEquals(ID, run.executionId());
            assertEquals(List.of(1L, 2L, 3L), sequences(run));
            assertEquals(3, run.sequence());
            assertEquals(3, run.progress().eventCount());
            assertEquals(3, run.terminal().orElseThrow().getSequence());
            assertEquals("done", run.result().getStringValue());
            assertThrows(NoSuchElementException.class, run::next);
            run.close();
            assertEquals("done", run.result().getStringValue());
        }
        assertEquals("build a house", server.executes.get(0).getQuery());
    }

    @Test
    void sendsTheSameRequestIdAgainAndThenWatchesWithTheSameFilter() {
        EventFilter filter = EventFilter.newBuilder().addKinds("content").build();
        server.then(fails(Status.UNAVAILABLE))
                .then(fails(Status.INTERNAL, welcome(), batch(0, 4, event(2))))
                .then(sends(welcome(), batch(4, 9, completed(9))));
        try (Run run = client.execute(
                ExecuteRequest.newBuilder().setQuery("q").setFilter(filter).build())) {
            assertEquals(List.of(2L, 9L), sequences(run));
            assertEquals(run.requestId(), server.executes.get(0).getRequestId());
        }
        assertEquals(server.executes.get(0), server.executes.get(1));
        WatchExecutionRequest expected = WatchExecutionRequest.newBuilder()
                .setExecutionId(ID)
                .setAfterSequence(4)
                .setFilter(filter)
                .build();
        assertEquals(List.of(expected), server.watches);
    }

    @Test
    void movesToANewConnectionWhereTheServerDrains() {
        EventBatch draining =
                batch(1).toBuilder().setNotice(Notice.NOTICE_DRAINING).build();
        CountDownLatch ended = new CountDownLatch(1);
        server.then(holds(ended, welcome(), batch(0, event(1)), draining))
                .then(fails(status(Code.UNAVAILABLE, "DRAINING")))
                .then(fails(Status.UNAVAILABLE, welcome()))
                .then(sends(welcome(), batch(1, completed(2))));
        try (Run run = client.watch(ID)) {
            assertEquals(List.of(1L, 2L), sequences(run));
        }
        assertNotEquals(server.callers.get(0), server.callers.get(1));
        assertNotEquals(server.callers.get(1), server.callers.get(2));
        assertEquals(server.callers.get(2), server.callers.get(3));
        assertComes(ended);
    }

    @Test
    void movesToANewConnectionWhereTheServerIsSilent() {
        CountDownLatch ended = new CountDownLatch(1);
        server.then(holds(ended)).then(sends(welcome(), batch(0, completed(1))));
        try (StepwireClient hasty = StepwireClient.builder(server.target())
                        .patience(QUICK)
                        .timeout(Duration.ofSeconds(1))
                        .build();
                Run run = hasty.watch(ID)) {
            assertEquals(List.of(1L), sequences(run));
        }
        assertNotEquals(server.callers.get(0), server.callers.get(1));
        assertComes(ended);
    }

    @Test
    void saysThatThereIsNoServer() throws Exception {
        server.close();
        StepwireException refused = assertThrows(StepwireException.class, () -> client.execute("q"));
        assertEquals(Status.Code.UNAVAILABLE, refused.code());
        assertEquals("", refused.reason());
        assertTrue(refused.getMessage().contains("Connection refused"), refused.getMessage());
        assertFalse(refused.requestId().isEmpty());
    }

    @Test
    void findsAServerThatComesBack() throws Exception {
        int port = server.port();
        server.close();
        CountDownLatch tried = new CountDownLatch(3);
        try (StepwireClient patient = StepwireClient.builder("127.0.0.1:" + port)
                .patience(QUICK.withStartFailures(Integer.MAX_VALUE))
                .channelOptions(channel -> channel.intercept(counting(tried)))
                .build()) {
            CompletableFuture<Run> run = CompletableFuture.supplyAsync(() -> patient.watch(ID));
            assertComes(tried);
            server = new ScriptedServer(port).then(sends(welcome(), batch(0, completed(1))));
            assertEquals(List.of(1L), sequences(run.get(10, TimeUnit.SECONDS)));
        }
    }

    @Test
    void aRefusalIsThrownAtOnce() {
        server.then(fails(status(Code.INVALID_ARGUMENT, "PLAN_INVALID")));
        StepwireException refused = assertThrows(StepwireException.class, () -> client.execute("q"));
        assertEquals("PLAN_INVALID", refused.reason());
        assertEquals("", refused.requestId());
        assertEquals(1, server.executes.size());
    }

    @Test
    void givesUpWithTheCursor() {
        for (int times = 0; times < 50; times++) {
            server.then(fails(Status.UNAVAILABLE.withDescription("no"), welcome(), batch(0, event(1))));
        }
        try (Run run = client.watch(ID)) {
            assertEquals(1, run.next().getSequence());
            StreamBrokenException broken = assertThrows(StreamBrokenException.class, run::hasNext);
            assertEquals("Gave up after 50 failures in a row: no", broken.getMessage());
            assertEquals(1, broken.sequence());
            assertEquals(1, run.sequence());
        }
    }

    @Test
    void theResultIsTheOutputOrWhyThereIsNone() {
        Event.Builder failed = event(1).toBuilder();
        failed.getPlanFailedBuilder().setError(StatusProto.fromThrowable(status(Code.ABORTED, "STEP_FAILED")));
        server.then(sends(welcome(), batch(0, failed.build())));
        try (Run run = client.watch(ID)) {
            ExecutionFailedException error = assertThrows(ExecutionFailedException.class, run::result);
            assertEquals("STEP_FAILED", error.reason());
            assertEquals(ID, error.executionId());
        }
        Event.Builder cancelled = event(1).toBuilder();
        cancelled.getPlanCancelledBuilder().setReason("sold");
        server.then(sends(welcome(), batch(0, cancelled.build())));
        try (Run run = client.watch(ID)) {
            ExecutionCancelledException error = assertThrows(ExecutionCancelledException.class, run::result);
            assertEquals("The execution was cancelled: sold", error.getMessage());
        }
    }

    @Test
    void closingEndsTheCall() {
        CountDownLatch ended = new CountDownLatch(1);
        server.then(holds(ended, welcome(), batch(0, event(1), event(2))));
        try (Run run = client.watch(ID)) {
            for (Event event : run) {
                assertEquals(1, event.getSequence());
                break;
            }
            run.close();
            assertComes(ended);
            assertEquals(0, run.sequence());
        }
    }

    @Test
    void closingWakesWhoReads() throws Exception {
        CountDownLatch ended = new CountDownLatch(1);
        server.then(holds(ended, welcome(), batch(0, event(1))));
        try (Run run = client.watch(ID)) {
            CountDownLatch reading = new CountDownLatch(1);
            CompletableFuture<List<Long>> reader = CompletableFuture.supplyAsync(() -> {
                run.next();
                reading.countDown();
                return sequences(run);
            });
            assertComes(reading);
            run.close();
            ExecutionException thrown =
                    assertThrows(ExecutionException.class, () -> reader.get(5, TimeUnit.SECONDS));
            StreamBrokenException broken = assertInstanceOf(StreamBrokenException.class, thrown.getCause());
            assertEquals(1, broken.sequence());
        }
    }

    @Test
    void anInterruptionEndsTheWaitAndLosesNothing() {
        CountDownLatch ended = new CountDownLatch(1);
        server.then(holds(ended, welcome(), batch(0, event(1)), batch(1, completed(2))));
        try (Run run = client.watch(ID)) {
            Thread.currentThread().interrupt();
            StepwireException interrupted = assertThrows(StepwireException.class, run::hasNext);
            assertInstanceOf(InterruptedException.class, interrupted.getCause());
            assertTrue(Thread.interrupted());
            assertEquals(1, run.next().getSequence());
            assertEquals(2, run.next().getSequence());
        }
        assertEquals(1, server.watches.size());
    }

    @Test
    void aSlowReaderHoldsTheServerBack() {
        int messages = 200;
        AtomicInteger sent = new AtomicInteger();
        server.then(stream -> {
            stream.onNext(welcome());
            stream.setOnReadyHandler(() -> {
                while (stream.isReady() && sent.get() < messages) {
                    stream.onNext(batch(sent.get(), large(sent.get() + 1)));
                    sent.incrementAndGet();
                }
            });
        });
        try (Run run = client.watch(ID)) {
            for (int read = 1; read <= messages; read++) {
                assertEquals(read, run.next().getSequence());
                if (read == 1) {
                    // Time enough for a server that nothing holds back to send all.
                    for (int calls = 0; calls < 200; calls++) {
                        client.get(ID);
                    }
                }
                assertTrue(sent.get() <= read + 10, "After " + read + " were read " + sent + " have been sent");
            }
        }
    }

    @Test
    void anEventMayHaveOneMebibyte() {
        Event.Builder event = event(1).toBuilder();
        event.getContentBuilder().setData(ByteString.copyFrom(new byte[(1 << 20) - 100]));
        server.then(sends(welcome(), batch(0, event.build()), batch(1, completed(2))));
        try (Run run = client.watch(ID)) {
            assertEquals(event.build(), run.next());
            assertEquals(2, run.next().getSequence());
        }
    }

    @Test
    void aUnaryCallIsMadeAgainWhereItsFailureCanPass() {
        server.onGet(caller -> caller.onError(Status.UNAVAILABLE.asRuntimeException()));
        assertThrows(StepwireException.class, () -> client.get(ID));
        assertEquals(8, server.gets.get());
        server.onGet(caller -> caller.onError(status(Code.NOT_FOUND, "EXECUTION_NOT_FOUND")));
        StepwireException refused = assertThrows(StepwireException.class, () -> client.get(ID));
        assertEquals("EXECUTION_NOT_FOUND", refused.reason());
        assertEquals(9, server.gets.get());
    }

    @Test
    void aUnaryCallMovesToANewConnectionWhereTheServerDrains() {
        server.onGet(caller -> {
            server.onGet(again -> {
                again.onNext(GetExecutionResponse.getDefaultInstance());
                again.onCompleted();
            });
            caller.onError(status(Code.UNAVAILABLE, "DRAINING"));
        });
        client.get(ID);
        assertEquals(2, server.gets.get());
        assertNotEquals(server.callers.get(0), server.callers.get(1));
    }

    @Test
    void aUnaryCallHasADeadline() {
        server.onGet(caller -> {});
        try (StepwireClient hasty = StepwireClient.builder(server.target())
                .timeout(Duration.ofMillis(200))
                .build()) {
            StepwireException late = assertThrows(StepwireException.class, () -> hasty.get(ID));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, late.code());
            GetExecutionRequest request = GetExecutionRequest.getDefaultInstance();
            StatusRuntimeException raw =
                    assertThrows(StatusRuntimeException.class, () -> hasty.stub().getExecution(request));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, raw.getStatus().getCode());
        }
    }

    @Test
    void aUnaryCallHeedsAnInterruption() {
        Thread.currentThread().interrupt();
        StepwireException interrupted = assertThrows(StepwireException.class, () -> client.get(ID));
        assertTrue(Thread.interrupted());
        assertEquals(Status.Code.CANCELLED, interrupted.code());
    }

    @Test
    void aClosedClientRefusesCalls() {
        server.then(sends(welcome(), batch(0, event(1))));
        Run run = client.watch(ID);
        client.close();
        assertThrows(IllegalStateException.class, () -> client.get(ID));
        assertThrows(IllegalStateException.class, () -> sequences(run));
    }

    @Test
    void aUrlIsNoTarget() {
        assertThrows(IllegalArgumentException.class, () -> StepwireClient.connect("HTTP://localhost:50051"));
        assertThrows(IllegalArgumentException.class, () -> StepwireClient.connect("https://localhost:50051"));
    }

    private static List<Long> sequences(Run run) {
        List<Long> sequences = new ArrayList<>();
        run.forEach(event -> sequences.add(event.getSequence()));
        return sequences;
    }

    private static void assertComes(CountDownLatch latch) {
        try {
            assertTrue(latch.await(5, TimeUnit.SECONDS));
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    private static ClientInterceptor counting(CountDownLatch calls) {
        return new ClientInterceptor() {
            @Override
            public <Q, A> ClientCall<Q, A> interceptCall(
                    MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
                calls.countDown();
                return next.newCall(method, options);
            }
        };
    }

    private static Consumer<ServerCallStreamObserver<EventBatch>> sends(EventBatch... batches) {
        return stream -> {
            sendAll(stream, batches);
            stream.onCompleted();
        };
    }

    private static Consumer<ServerCallStreamObserver<EventBatch>> fails(Status status, EventBatch... batches) {
        return fails(status.asRuntimeException(), batches);
    }

    private static Consumer<ServerCallStreamObserver<EventBatch>> fails(
            StatusRuntimeException status, EventBatch... batches) {
        return stream -> {
            sendAll(stream, batches);
            stream.onError(status);
        };
    }

    /** Says nothing more after the messages, until the caller leaves. */
    private static Consumer<ServerCallStreamObserver<EventBatch>> holds(CountDownLatch ended, EventBatch... batches) {
        return stream -> {
            stream.setOnCancelHandler(ended::countDown);
            sendAll(stream, batches);
        };
    }

    private static void sendAll(StreamObserver<EventBatch> stream, EventBatch... batches) {
        for (EventBatch batch : batches) {
            stream.onNext(batch);
        }
    }

    private static EventBatch welcome() {
        EventBatch.Builder batch = EventBatch.newBuilder();
        batch.getExecutionBuilder().setExecutionId(ID);
        return batch.build();
    }

    private static EventBatch batch(long after, Event... events) {
        return batch(after, after + events.length, events);
    }

    private static EventBatch batch(long after, long to, Event... events) {
        return EventBatch.newBuilder()
                .setAfterSequence(after)
                .setSequence(to)
                .addAllEvents(List.of(events))
                .build();
    }

    private static Event event(long sequence) {
        return Event.newBuilder().setExecutionId(ID).setSequence(sequence).build();
    }

    private static Event large(long sequence) {
        Event.Builder event = event(sequence).toBuilder();
        event.getContentBuilder().setData(ByteString.copyFrom(new byte[256 << 10]));
        return event.build();
    }

    private static Event completed(long sequence) {
        Event.Builder event = event(sequence).toBuilder();
        event.getPlanCompletedBuilder().setOutput(Value.newBuilder().setStringValue("done"));
        return event.build();
    }

    private static StatusRuntimeException status(Code code, String reason) {
        ErrorInfo info =
                ErrorInfo.newBuilder().setDomain("stepwire").setReason(reason).build();
        return StatusProto.toStatusRuntimeException(com.google.rpc.Status.newBuilder()
                .setCode(code.getNumber())
                .addDetails(Any.pack(info))
                .build());
    }
}
