package dev.stepwire;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ConnectivityState;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import stepwire.v1.ExecutionServiceGrpc;

/** A call goes over the newest channel, and a channel that failed or was left is not the newest any more. */
class WireTest {
    private final List<FakeChannel> channels = new ArrayList<>();
    private final Wire wire = new Wire(this::connect, Duration.ofSeconds(10));

    @Test
    void oneChannelServesAllCalls() {
        assertSame(wire.newest(), wire.newest());
        assertEquals(1, channels.size());
    }

    @Test
    void aFailedConnectionIsTriedAgainByTheNextCall() {
        ManagedChannel failed = wire.newest();
        channels.get(0).state = ConnectivityState.TRANSIENT_FAILURE;
        assertNotSame(failed, wire.newest());
        assertTrue(failed.isShutdown());
        assertEquals(2, channels.size());
    }

    @Test
    void manyWhoLeaveAChannelGetOneNewOne() {
        ManagedChannel old = wire.newest();
        wire.leave(old);
        wire.leave(old);
        assertEquals(2, channels.size());
        assertTrue(old.isShutdown());
        assertFalse(wire.newest().isShutdown());
    }

    @Test
    void onlyAUnaryCallWithoutADeadlineGetsOne() {
        wire.newCall(ExecutionServiceGrpc.getGetExecutionMethod(), CallOptions.DEFAULT);
        assertTrue(channels.get(0).deadline.isBefore(Deadline.after(11, TimeUnit.SECONDS)));
        CallOptions own = CallOptions.DEFAULT.withDeadlineAfter(60, TimeUnit.SECONDS);
        wire.newCall(ExecutionServiceGrpc.getGetExecutionMethod(), own);
        assertSame(own.getDeadline(), channels.get(0).deadline);
        wire.newCall(ExecutionServiceGrpc.getWatchExecutionMethod(), CallOptions.DEFAULT);
        assertSame(null, channels.get(0).deadline);
    }

    @Test
    void closingEndsEveryChannel() throws Exception {
        wire.leave(wire.newest());
        wire.close();
        assertTrue(channels.stream().allMatch(ManagedChannel::isTerminated));
        assertThrows(IllegalStateException.class, wire::newest);
        wire.leave(channels.get(1));
        assertEquals(2, channels.size());
    }

    private FakeChannel connect() {
        channels.add(new FakeChannel());
        return channels.get(channels.size() - 1);
    }

    private static final class FakeChannel extends ManagedChannel {
        private ConnectivityState state = ConnectivityState.IDLE;
        private Deadline deadline;
        private boolean shut;
        private boolean terminated;

        @Override
        public ConnectivityState getState(boolean connect) {
            return state;
        }

        @Override
        public <Q, A> ClientCall<Q, A> newCall(MethodDescriptor<Q, A> method, CallOptions options) {
            deadline = options.getDeadline();
            return null;
        }

        @Override
        public ManagedChannel shutdown() {
            shut = true;
            return this;
        }

        @Override
        public ManagedChannel shutdownNow() {
            shut = true;
            terminated = true;
            return this;
        }

        @Override
        public boolean isShutdown() {
            return shut;
        }

        @Override
        public boolean isTerminated() {
            return terminated;
        }

        @Override
        public boolean awaitTermination(long timeout, TimeUnit unit) {
            return terminated;
        }

        @Override
        public String authority() {
            return "fake";
        }
    }
}
