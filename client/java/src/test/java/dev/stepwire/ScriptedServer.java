package dev.stepwire;

import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import stepwire.v1.ExecutionOuterClass.EventBatch;
import stepwire.v1.ExecutionServiceGrpc.ExecutionServiceImplBase;
import stepwire.v1.ExecutionServiceOuterClass.ExecuteRequest;
import stepwire.v1.ExecutionServiceOuterClass.GetExecutionRequest;
import stepwire.v1.ExecutionServiceOuterClass.GetExecutionResponse;
import stepwire.v1.ExecutionServiceOuterClass.WatchExecutionRequest;

/** A server on this machine that plays one stream after another, and keeps what it was asked. */
final class ScriptedServer implements AutoCloseable {
    private static final Context.Key<SocketAddress> CALLER = Context.key("caller");

    final List<ExecuteRequest> executes = new CopyOnWriteArrayList<>();
    final List<WatchExecutionRequest> watches = new CopyOnWriteArrayList<>();
    /** Where each call came from: another address is another connection. */
    final List<SocketAddress> callers = new CopyOnWriteArrayList<>();

    final AtomicInteger gets = new AtomicInteger();

    private final Queue<Consumer<ServerCallStreamObserver<EventBatch>>> streams = new ConcurrentLinkedQueue<>();
    private volatile Consumer<StreamObserver<GetExecutionResponse>> get = caller -> {
        caller.onNext(GetExecutionResponse.getDefaultInstance());
        caller.onCompleted();
    };
    private final Server server;

    /** @param port 0: any that is free */
    ScriptedServer(int port) throws IOException {
        server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port))
                .addService(new Service())
                .intercept(new CallerInterceptor())
                .build()
                .start();
    }

    /** Adds what happens in one more stream. */
    ScriptedServer then(Consumer<ServerCallStreamObserver<EventBatch>> stream) {
        streams.add(stream);
        return this;
    }

    /** Sets what happens in each GetExecution. */
    void onGet(Consumer<StreamObserver<GetExecutionResponse>> answer) {
        get = answer;
    }

    int port() {
        return server.getPort();
    }

    String target() {
        return "127.0.0.1:" + port();
    }

    @Override
    public void close() throws InterruptedException {
        server.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }

    private void play(StreamObserver<EventBatch> caller) {
        callers.add(CALLER.get());
        streams.remove().accept((ServerCallStreamObserver<EventBatch>) caller);
    }

    private final class Service extends ExecutionServiceImplBase {
        @Override
        public void execute(ExecuteRequest request, StreamObserver<EventBatch> caller) {
            executes.add(request);
            play(caller);
        }

        @Override
        public void watchExecution(WatchExecutionRequest request, StreamObserver<EventBatch> caller) {
            watches.add(request);
            play(caller);
        }

        @Override
        public void getExecution(GetExecutionRequest request, StreamObserver<GetExecutionResponse> caller) {
            callers.add(CALLER.get());
            gets.incrementAndGet();
            get.accept(caller);
        }
    }

    private static final class CallerInterceptor implements ServerInterceptor {
        @Override
        public <Q, A> ServerCall.Listener<Q> interceptCall(
                ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
            SocketAddress caller = call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR);
            return Contexts.interceptCall(Context.current().withValue(CALLER, caller), call, headers, next);
        }
    }
}
