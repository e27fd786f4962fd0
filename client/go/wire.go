package stepwire

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

// A link is a connection, with the number of its open calls.
type link struct {
	conn  *grpc.ClientConn
	calls int
}

// A wire is the way to the server. Where a connection is going, a fresh one takes its place, and the old one is closed
// with its last call. It is a [grpc.ClientConnInterface]: its unary calls have a deadline, and its errors are *Error.
type wire struct {
	dial    func() (*grpc.ClientConn, error)
	timeout time.Duration

	mu     sync.Mutex
	newest *link // nil until it is needed
	closed bool
}

// take returns the connection for one more call: another one where insteadOf is the newest.
func (w *wire) take(insteadOf *link) (*link, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, ErrClosed
	}
	if w.newest == nil || w.newest == insteadOf {
		conn, err := w.dial()
		if err != nil {
			return nil, err
		}
		w.retire()
		w.newest = &link{conn: conn}
	}
	w.newest.calls++
	return w.newest, nil
}

// give takes note that a call on a connection is over.
func (w *wire) give(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.calls--
	if l != w.newest && l.calls == 0 {
		l.conn.Close()
	}
}

// leave takes note that a connection is going: no other call begins on it.
func (w *wire) leave(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l == w.newest {
		w.retire()
	}
}

func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.retire()
}

// retire has the newest connection closed with its last call. The lock is held.
func (w *wire) retire() {
	if w.newest != nil && w.newest.calls == 0 {
		w.newest.conn.Close()
	}
	w.newest = nil
}

// Invoke makes a unary call with a deadline. After DRAINING the next one goes over a new connection.
func (w *wire) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	l, err := w.take(nil)
	if err != nil {
		return err
	}
	defer w.give(l)
	limited, cancel := context.WithTimeout(ctx, w.limit(args))
	defer cancel()
	if err = l.conn.Invoke(limited, method, args, reply, options...); err == nil {
		return nil
	}
	err = typed(ctx, err)
	if errors.Is(err, Draining) {
		w.leave(l)
	}
	return err
}

// limit returns the longest that a unary call may take: a wait is given its own time, too.
func (w *wire) limit(request any) time.Duration {
	wait, ok := request.(*stepwirev1.WaitExecutionRequest)
	if !ok {
		return w.timeout
	}
	if wait.Timeout == nil {
		return w.timeout + 30*time.Second
	}
	return w.timeout + wait.Timeout.AsDuration()
}

// NewStream opens a stream, for the rpcs of the generated stub.
func (w *wire) NewStream(
	ctx context.Context, description *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	l, err := w.take(nil)
	if err != nil {
		return nil, err
	}
	stream, err := l.conn.NewStream(ctx, description, method, options...)
	if err != nil {
		w.give(l)
		return nil, typed(ctx, err)
	}
	context.AfterFunc(stream.Context(), func() { w.give(l) })
	return stream, nil
}

// typed returns the error of a call as an *Error, or the context's where that is what ended the call.
func typed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errorFrom(status.Convert(err))
}

// A call is a stream that a goroutine reads, so that waiting for it can end in time.
type call struct {
	link     *link
	messages <-chan message
	cancel   context.CancelFunc
}

// A message is what came, or what the call ended with: io.EOF for OK.
type message struct {
	batch *stepwirev1.EventBatch
	err   error
}

type eventStream = grpc.ServerStreamingClient[stepwirev1.EventBatch]

// open begins a call, which opens a stream.
func (w *wire) open(
	ctx context.Context, insteadOf *link,
	open func(context.Context, stepwirev1.ExecutionServiceClient) (eventStream, error),
) (*call, error) {
	l, err := w.take(insteadOf)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	messages := make(chan message)
	go func() {
		defer w.give(l)
		defer cancel()
		stream, err := open(ctx, stepwirev1.NewExecutionServiceClient(l.conn))
		for err == nil {
			var batch *stepwirev1.EventBatch
			batch, err = stream.Recv()
			// One message waits here; beyond it and gRPC's window, flow control holds the server back.
			select {
			case messages <- message{batch, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return &call{link: l, messages: messages, cancel: cancel}, nil
}
