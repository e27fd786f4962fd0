package dev.stepwire;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * The connection: one channel after the other. A channel that was left ends with its last call.
 *
 * <p>A call after a failed try to connect gets a new channel, which tries again at once. gRPC's own back-off, which
 * grows to two minutes and can't be set, would keep calls failing long after the server is back; how often one tries
 * is the caller's.
 */
final class Wire extends Channel {
    /** In seconds. What is left then ends by itself. */
    private static final long CLOSING = 5;

    private final Supplier<ManagedChannel> connect;
    private final Duration timeout;
    private final List<ManagedChannel> left = new ArrayList<>();
    private ManagedChannel newest;
    private boolean closed;

    /** @param timeout the deadline of a unary call that has none */
    Wire(Supplier<ManagedChannel> connect, Duration timeout) {
        this.connect = connect;
        this.timeout = timeout;
        this.newest = connect.get();
    }

    @Override
    public <Q, A> ClientCall<Q, A> newCall(MethodDescriptor<Q, A> method, CallOptions options) {
        boolean endless = method.getType() == MethodDescriptor.MethodType.UNARY && options.getDeadline() == null;
        CallOptions bounded = endless ? options.withDeadlineAfter(timeout) : options;
        return newest().newCall(method, bounded);
    }

    @Override
    public synchronized String authority() {
        return newest.authority();
    }

    /** Returns the channel for one more call. */
    synchronized ManagedChannel newest() {
        if (closed) {
            throw new IllegalStateException("The client is closed");
        }
        if (newest.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
            leave(newest);
        }
        return newest;
    }

    /** Has later calls use a new connection. Nothing happens where they do already. */
    synchronized void leave(ManagedChannel channel) {
        if (channel == newest && !closed) {
            left.removeIf(ManagedChannel::isTerminated);
            left.add(channel.shutdown());
            newest = connect.get();
        }
    }

    /** Ends all calls. Returns when the connections are closed. */
    void close() throws InterruptedException {
        List<ManagedChannel> open;
        synchronized (this) {
            closed = true;
            open = new ArrayList<>(left);
            open.add(newest);
        }
        open.forEach(ManagedChannel::shutdownNow);
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(CLOSING);
        for (ManagedChannel channel : open) {
            channel.awaitTermination(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
        }
    }
}
