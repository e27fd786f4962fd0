package dev.stepwire;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import java.time.Duration;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Function;
import stepwire.v1.ExecutionOuterClass.Execution;
import stepwire.v1.ExecutionServiceGrpc;
import stepwire.v1.ExecutionServiceGrpc.ExecutionServiceBlockingStub;
import stepwire.v1.ExecutionServiceOuterClass.CancelExecutionRequest;
import stepwire.v1.ExecutionServiceOuterClass.ExecuteRequest;
import stepwire.v1.ExecutionServiceOuterClass.GetExecutionRequest;
import stepwire.v1.ExecutionServiceOuterClass.WatchExecutionRequest;

/**
 * Starts, follows and controls executions on one server. Connects when it is first used. Safe across threads.
 *
 * <pre>{@code
 * try (StepwireClient client = StepwireClient.connect("localhost:50051");
 *         Run run = client.execute("Bauantrag für Einfamilienhaus in Stuttgart")) {
 *     for (Event event : run) {
 *         System.out.println(event.getMessage());
 *     }
 * }
 * }</pre>
 */
public final class StepwireClient implements AutoCloseable {
    private final Wire wire;
    private final Duration timeout;
    private final Patience patience;

    private StepwireClient(Builder builder) {
        this.timeout = builder.timeout;
        this.patience = builder.patience;
        this.wire = new Wire(builder.channel()::build, timeout);
    }

    /**
     * Returns a client for a server without TLS, with all defaults.
     *
     * @param target {@code HOST:PORT}, or another target of gRPC's
     */
    public static StepwireClient connect(String target) {
        return builder(target).build();
    }

    /**
     * Returns a builder of a client.
     *
     * @param target {@code HOST:PORT}, or another target of gRPC's
     * @throws IllegalArgumentException if it is a URL of the web, whose scheme gRPC would look up as a host
     */
    public static Builder builder(String target) {
        return new Builder(target);
    }

    /** Starts an execution of what a planner makes of a query, and follows it. As {@link #execute(ExecuteRequest)}. */
    public Run execute(String query) {
        return execute(ExecuteRequest.newBuilder().setQuery(query).build());
    }

    /**
     * Starts an execution and follows it. Returns once the server has accepted it. A request without a request id
     * gets one, so that it can be sent again. Losing the connection, or this process, does not end the execution.
     *
     * @throws StepwireException if it was refused, or no server could be reached
     */
    public Run execute(ExecuteRequest request) {
        ExecuteRequest identified = request.getRequestId().isEmpty()
                ? request.toBuilder().setRequestId(UUID.randomUUID().toString()).build()
                : request;
        WatchExecutionRequest.Builder watch = WatchExecutionRequest.newBuilder();
        if (request.hasFilter()) {
            watch.setFilter(request.getFilter());
        }
        if (request.hasHeartbeatInterval()) {
            watch.setHeartbeatInterval(request.getHeartbeatInterval());
        }
        return new Run(this, wire, identified, watch.build()).begin();
    }

    /** Follows an execution that exists, ended or not, from its first event on. */
    public Run watch(String executionId) {
        return watch(executionId, 0);
    }

    /** Follows an execution that exists, ended or not, from what comes after {@code afterSequence}: exclusive. */
    public Run watch(String executionId, long afterSequence) {
        return watch(WatchExecutionRequest.newBuilder()
                .setExecutionId(executionId)
                .setAfterSequence(afterSequence)
                .build());
    }

    /**
     * Follows an execution that exists, ended or not. Returns once the stream has begun.
     *
     * @throws IllegalArgumentException if the request names no execution
     * @throws StepwireException if it was refused, or no server could be reached
     */
    public Run watch(WatchExecutionRequest request) {
        if (request.getExecutionId().isEmpty()) {
            throw new IllegalArgumentException("The request names no execution");
        }
        return new Run(this, wire, null, request).begin();
    }

    /** Returns a snapshot, without the plan. */
    public Execution get(String executionId) {
        GetExecutionRequest request =
                GetExecutionRequest.newBuilder().setExecutionId(executionId).build();
        return call(stub -> stub.getExecution(request)).getExecution();
    }

    /** Asks an execution to end. Returns once that is recorded; the end comes later. */
    public Execution cancel(String executionId, String reason) {
        CancelExecutionRequest request = CancelExecutionRequest.newBuilder()
                .setExecutionId(executionId)
                .setReason(reason)
                .build();
        return call(stub -> stub.cancelExecution(request)).getExecution();
    }

    /**
     * Makes a unary call, and makes it again where it failed in a way that can pass, within the timeout. It must be
     * safe to send twice: all calls of the service are, those that start something with a request id.
     *
     * <pre>{@code
     * Plan plan = client.call(stub -> stub.buildPlan(request)).getPlan();
     * }</pre>
     *
     * @throws StepwireException if it was refused, or no answer came in time
     */
    public <A> A call(Function<ExecutionServiceBlockingStub, A> rpc) {
        long deadline = System.nanoTime() + Patience.nanos(timeout);
        for (int failures = 1; ; failures++) {
            ManagedChannel channel = wire.newest();
            long left = deadline - System.nanoTime();
            try {
                return rpc.apply(ExecutionServiceGrpc.newBlockingStub(channel)
                        .withDeadlineAfter(left, TimeUnit.NANOSECONDS));
            } catch (StatusRuntimeException failure) {
                StepwireException error = StepwireException.of(failure);
                if (error.isDraining()) {
                    wire.leave(channel);
                }
                pauseAfter(error, failures, deadline);
            }
        }
    }

    /**
     * Returns the generated stub, for what this class does not have. Each unary call has the client's timeout as
     * deadline, unless it is given another; a call of {@code waitExecution} for longer needs one. Nothing is tried
     * again, and failures are those of gRPC: {@link StepwireException#of(StatusRuntimeException)} reads them.
     */
    public ExecutionServiceBlockingStub stub() {
        return ExecutionServiceGrpc.newBlockingStub(wire);
    }

    /** Ends all streams and the connection. What runs on the server goes on. Closing twice is once. */
    @Override
    public void close() {
        try {
            wire.close();
        } catch (InterruptedException e) {
            // All calls have ended; that the connections are closed too, nobody needs to wait for.
            Thread.currentThread().interrupt();
        }
    }

    Duration timeout() {
        return timeout;
    }

    Patience patience() {
        return patience;
    }

    /** Returns when the call is to be made again. Throws the error where it is not. */
    private void pauseAfter(StepwireException error, int failures, long deadline) {
        boolean passing = error.code() == Status.Code.UNAVAILABLE
                || error.code() == Status.Code.CANCELLED && !Thread.currentThread().isInterrupted();
        long pause = patience.backoff(failures, ThreadLocalRandom.current()::nextDouble);
        long asked = error.retryAfter().map(Patience::nanos).orElse(0L);
        if (!passing || failures >= patience.startFailures() || asked >= deadline - System.nanoTime() - pause) {
            throw error;
        }
        try {
            TimeUnit.NANOSECONDS.sleep(asked + pause);
        } catch (InterruptedException e) {
            throw StepwireException.interrupted(e);
        }
    }

    /** What a client is made of. */
    public static final class Builder {
        private static final int WINDOW = 256 << 10;
        private static final int LARGEST_MESSAGE = 8 << 20;
        private static final int CONNECT_MILLIS = 5_000;

        private final String target;
        private ChannelCredentials credentials = InsecureChannelCredentials.create();
        private Duration timeout = Duration.ofSeconds(10);
        private Patience patience = Patience.DEFAULT;
        private Consumer<? super ManagedChannelBuilder<?>> channelOptions = channel -> {};

        private Builder(String target) {
            if (target.regionMatches(true, 0, "http://", 0, 7) || target.regionMatches(true, 0, "https://", 0, 8)) {
                throw new IllegalArgumentException(target + " is a URL; say HOST:PORT, and give credentials for TLS");
            }
            this.target = target;
        }

        /** Sets how to connect, such as {@code TlsChannelCredentials.create()}. Default: without TLS. */
        public Builder credentials(ChannelCredentials credentials) {
            this.credentials = Objects.requireNonNull(credentials);
            return this;
        }

        /**
         * Sets the deadline of each unary call, and the longest that a stream may take to begin. Default: 10 s.
         *
         * @throws IllegalArgumentException if it is not above 0
         */
        public Builder timeout(Duration timeout) {
            if (timeout.isNegative() || timeout.isZero()) {
                throw new IllegalArgumentException("The timeout is not above 0: " + timeout);
            }
            this.timeout = timeout;
            return this;
        }

        /** Sets how long to go on trying. Default: {@link Patience#DEFAULT}. */
        public Builder patience(Patience patience) {
            this.patience = Objects.requireNonNull(patience);
            return this;
        }

        /** Sets what else to tell gRPC: interceptors, a user agent. It wins over what is set here. */
        public Builder channelOptions(Consumer<? super ManagedChannelBuilder<?>> channelOptions) {
            this.channelOptions = Objects.requireNonNull(channelOptions);
            return this;
        }

        /** Returns the client. */
        public StepwireClient build() {
            return new StepwireClient(this);
        }

        private NettyChannelBuilder channel() {
            NettyChannelBuilder channel = NettyChannelBuilder.forTarget(target, credentials)
                    // A dead line is noticed within 15 s, also while nothing is said.
                    .keepAliveTime(10, TimeUnit.SECONDS)
                    .keepAliveTimeout(5, TimeUnit.SECONDS)
                    .keepAliveWithoutCalls(true)
                    .withOption(ChannelOption.CONNECT_TIMEOUT_MILLIS, CONNECT_MILLIS)
                    // A full message, and no more, for each stream that is read slowly. gRPC's own grows to 8 MiB.
                    .flowControlWindow(WINDOW)
                    .maxInboundMessageSize(LARGEST_MESSAGE)
                    // Streams are resumed by their cursor, unary calls are tried again here.
                    .disableRetry();
            channelOptions.accept(channel);
            return channel;
        }
    }
}
