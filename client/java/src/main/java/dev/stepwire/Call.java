package dev.stepwire;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import stepwire.v1.ExecutionOuterClass.EventBatch;

/** An open stream. A few of its messages may wait for the reader; beyond that flow control holds the server back. */
final class Call {
    /** Messages that may wait. */
    private static final int ROOM = 4;

    /** What a call brings. */
    sealed interface Item {}

    /** A message. */
    record Message(EventBatch batch) implements Item {}

    /** The end of the call. */
    record End(Status status, Metadata trailers) implements Item {}

    private final ClientCall<?, EventBatch> rpc;
    private final BlockingQueue<Item> box = new LinkedBlockingQueue<>();

    private Call(ClientCall<?, EventBatch> rpc) {
        this.rpc = rpc;
    }

    static <Q> Call open(Channel channel, MethodDescriptor<Q, EventBatch> method, Q request) {
        ClientCall<Q, EventBatch> rpc = channel.newCall(method, CallOptions.DEFAULT);
        Call call = new Call(rpc);
        rpc.start(call.new Listener(), new Metadata());
        rpc.request(ROOM);
        rpc.sendMessage(request);
        rpc.halfClose();
        return call;
    }

    /** Returns what is next, or null where nothing came in so many nanoseconds. */
    Item poll(long time) throws InterruptedException {
        Item item = box.poll(time, TimeUnit.NANOSECONDS);
        if (item instanceof Message) {
            rpc.request(1);
        }
        return item;
    }

    /** Ends the call. Who waits for a message gets the end. */
    void cancel() {
        rpc.cancel("The reader left", null);
    }

    private final class Listener extends ClientCall.Listener<EventBatch> {
        @Override
        public void onMessage(EventBatch batch) {
            box.add(new Message(batch));
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            box.add(new End(status, trailers));
        }
    }
}
