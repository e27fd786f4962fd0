package dev.stepwire;

import com.google.protobuf.Value;
import io.grpc.ManagedChannel;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import stepwire.v1.EventOuterClass.Event;
import stepwire.v1.ExecutionOuterClass.EventFilter;
import stepwire.v1.ExecutionOuterClass.Execution;
import stepwire.v1.ExecutionServiceGrpc;
import stepwire.v1.ExecutionServiceOuterClass.ExecuteRequest;
import stepwire.v1.ExecutionServiceOuterClass.WatchExecutionRequest;

/**
 * One execution that is being followed: its events, in order, each once, to the terminal one. Lost connections are
 * made again meanwhile.
 *
 * <pre>{@code
 * try (Run run = client.execute("...")) {
 *     for (Event event : run) {
 *         System.out.println(event.getMessage());
 *     }
 * }
 * }</pre>
 *
 * <p>There is one pass: all its iterators are the run itself. It is for one thread; {@link #close} alone may come
 * from another. Asking for an event waits for it, and an interruption ends the wait with a {@link StepwireException}
 * whose cause is the {@link InterruptedException}; the thread stays interrupted, the run can be read on, and nothing
 * is lost. While nobody asks, a few messages are kept, and the server is held back.
 *
 * <p>Reading throws {@link StepwireException} where the server refuses to go on, and {@link StreamBrokenException}
 * where the stream can't be resumed, or was closed.
 */
public final class Run implements Iterable<Event>, Iterator<Event>, AutoCloseable {
    private static final String CANCELLED = "The execution was cancelled";

    private final StepwireClient client;
    private final Wire wire;
    private final ExecuteRequest execute;
    private final WatchExecutionRequest watch;
    private final Resumption resumption;
    private final ProgressTracker progress = new ProgressTracker();
    private final CountDownLatch closed = new CountDownLatch(1);
    private volatile Call call;
    private ManagedChannel channel;
    private Event next;

    /**
     * @param execute the request that starts the execution; null where there is one already
     * @param watch the request to watch it, but for what only the stream will tell
     */
    Run(StepwireClient client, Wire wire, ExecuteRequest execute, WatchExecutionRequest watch) {
        this.client = client;
        this.wire = wire;
        this.execute = execute;
        this.watch = watch;
        EventFilter filter = watch.getFilter();
        com.google.protobuf.Duration interval = watch.getHeartbeatInterval();
        this.resumption = new Resumption(
                watch.getExecutionId(),
                watch.getAfterSequence(),
                filter.getKindsCount() > 0 || filter.getStepIdsCount() > 0,
                watch.hasHeartbeatInterval()
                        ? Duration.ofSeconds(interval.getSeconds(), interval.getNanos())
                        : Resumption.DEFAULT_HEARTBEAT,
                client.timeout(),
                client.patience(),
                () -> ThreadLocalRandom.current().nextDouble());
    }

    /** Returns the execution's id. Keep it to watch the execution again, from any process. */
    public String executionId() {
        return resumption.executionId();
    }

    /** Returns the request id that the execution was asked for with. Empty for one that is only watched. */
    public String requestId() {
        return execute == null ? "" : execute.getRequestId();
    }

    /** Returns the snapshot that the stream began with; of a resumed stream, that of its newest beginning. */
    public Execution execution() {
        return resumption.execution();
    }

    /**
     * Returns the cursor: the last event that was processed. An event counts as processed once the next one is asked
     * for, with {@link #hasNext} or {@link #next}. Watch on after this.
     */
    public long sequence() {
        return resumption.sequence();
    }

    /** Returns how far the execution is, by the events that were read so far. */
    public ProgressTracker progress() {
        return progress;
    }

    /** Returns the event that ended the execution, once it has been received. */
    public Optional<Event> terminal() {
        return resumption.terminal();
    }

    /** Returns this run. */
    @Override
    public Iterator<Event> iterator() {
        return this;
    }

    /** Waits for the next event, or for the end. */
    @Override
    public boolean hasNext() {
        try {
            while (next == null) {
                next = resumption.take();
                if (next == null && !advance()) {
                    return false;
                }
            }
            return true;
        } catch (InterruptedException e) {
            throw StepwireException.interrupted(e);
        }
    }

    @Override
    public Event next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        Event event = next;
        next = null;
        progress.add(event);
        return event;
    }

    /**
     * Reads what is left, and returns the output.
     *
     * @throws ExecutionFailedException if the execution failed
     * @throws ExecutionCancelledException if it was cancelled
     */
    public Value result() {
        while (hasNext()) {
            next();
        }
        return terminal().map(this::outputOf).orElseGet(() -> outputOf(execution()));
    }

    /** Asks the execution to end, as {@link StepwireClient#cancel}. Its last events still come. */
    public Execution cancel(String reason) {
        return client.cancel(executionId(), reason);
    }

    /**
     * Ends the call. What runs on the server goes on. Who reads gets what was received before, and then a
     * {@link StreamBrokenException}. Closing twice is once.
     */
    @Override
    public void close() {
        closed.countDown();
        endCall();
    }

    /** Returns once the stream has begun. */
    Run begin() {
        try {
            boolean more = true;
            while (more && !resumption.welcomed()) {
                more = advance();
            }
            return this;
        } catch (InterruptedException e) {
            close();
            throw StepwireException.interrupted(e).withRequestId(requestId());
        } catch (StepwireException e) {
            close();
            throw e.canPass() ? e.withRequestId(requestId()) : e;
        }
    }

    /** Does what the state machine asks for next. Returns false where the stream is over. */
    private boolean advance() throws InterruptedException {
        Step step = resumption.step(System.nanoTime());
        if (step instanceof Step.Finish || isClosed() && terminal().isPresent()) {
            endCall();
            return false;
        }
        if (step instanceof Step.Refuse refuse) {
            endCall();
            throw refuse.error();
        }
        if (isClosed()) {
            String message = "The run was closed. Watch " + executionId() + " again after " + sequence();
            throw new StreamBrokenException(message, executionId(), sequence(), null);
        }
        if (step instanceof Step.Read read) {
            read(call.poll(read.time()));
        } else if (step instanceof Step.Open open) {
            open(open);
        }
        return true;
    }

    private void read(Call.Item item) {
        long now = System.nanoTime();
        if (isClosed()) {
            return;
        }
        if (item instanceof Call.Message message) {
            resumption.received(message.batch(), now);
        } else if (item instanceof Call.End end) {
            resumption.ended(end.status().isOk() ? null : StepwireException.of(end.status(), end.trailers()), now);
        } else {
            resumption.silent(now);
        }
    }

    private void open(Step.Open step) throws InterruptedException {
        endCall();
        if (closed.await(step.delay(), TimeUnit.NANOSECONDS)) {
            return;
        }
        if (step.fresh()) {
            wire.leave(channel);
        }
        channel = wire.newest();
        call = step.execute()
                ? Call.open(channel, ExecutionServiceGrpc.getExecuteMethod(), execute)
                : Call.open(channel, ExecutionServiceGrpc.getWatchExecutionMethod(), watchAfter(step.afterSequence()));
        resumption.opened(System.nanoTime());
        if (isClosed()) {
            // It was closed meanwhile, and what close ended was the call before.
            endCall();
        }
    }

    private WatchExecutionRequest watchAfter(long sequence) {
        return watch.toBuilder().setExecutionId(executionId()).setAfterSequence(sequence).build();
    }

    private void endCall() {
        Call open = call;
        if (open != null) {
            open.cancel();
        }
    }

    private boolean isClosed() {
        return closed.getCount() == 0;
    }

    private Value outputOf(Event event) {
        return switch (event.getKindCase()) {
            case PLAN_FAILED -> throw new ExecutionFailedException(event.getPlanFailed().getError(), executionId());
            case PLAN_CANCELLED -> {
                String reason = event.getPlanCancelled().getReason();
                throw new ExecutionCancelledException(
                        reason.isEmpty() ? CANCELLED : CANCELLED + ": " + reason, executionId());
            }
            default -> event.getPlanCompleted().getOutput();
        };
    }

    private Value outputOf(Execution ended) {
        return switch (ended.getState()) {
            case EXECUTION_STATE_FAILED -> throw new ExecutionFailedException(ended.getError(), executionId());
            case EXECUTION_STATE_CANCELLED -> throw new ExecutionCancelledException(CANCELLED, executionId());
            default -> ended.getOutput();
        };
    }
}
