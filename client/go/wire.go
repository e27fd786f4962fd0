package stepwire

import (
	"context"
	"errors"
	"io"
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
	dial     func() (*grpc.ClientConn, error)
	timeout  time.Duration
	lifetime context.Context // no call outlives it

	mu     sync.Mutex
	links  map[*link]struct{} // the newest, and those that have calls
	newest *link              // nil until it is needed
}

// take returns the connection for one more call: another one where insteadOf is the newest.
func (w *wire) take(insteadOf *link) (*link, error) {
	if insteadOf != nil {
		w.leave(insteadOf)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lifetime.Err() != nil {
		return nil, ErrClosed
	}
	if w.newest == nil {
		conn, err := w.dial()
		if err != nil {
			return nil, err
		}
		w.newest = &link{conn: conn}
		w.links[w.newest] = struct{}{}
	}
	w.newest.calls++
	return w.newest, nil
}

// give takes note that a call on a connection is over.
func (w *wire) give(l *link) {
	w.mu.Lock()
	l.calls--
	w.mu.Unlock()
	w.tidy()
}

// leave takes note that a connection is going: no other call begins on it.
func (w *wire) leave(l *link) {
	w.mu.Lock()
	if l == w.newest {
		w.newest = nil
	}
	w.mu.Unlock()
	w.tidy()
}

// tidy closes the connections that are not needed any more. Closing one may take a while: it says goodbye.
func (w *wire) tidy() {
	var idle []*link
	w.mu.Lock()
	for l := range w.links {
		if l != w.newest && l.calls == 0 || w.lifetime.Err() != nil {
			idle = append(idle, l)
			delete(w.links, l)
		}
	}
	w.mu.Unlock()
	for _, l := range idle {
		l.conn.Close()
	}
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

// limit returns the longest that a unary call may take: a wait is given its own time, too, which is 30 s where it does
// not say.
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

// NewStream opens a stream.
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
	return typedStream{stream, ctx}, nil
}

// A typedStream is a stream whose errors are *Error.
type typedStream struct {
	grpc.ClientStream
	ctx context.Context // the caller's
}

func (s typedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil || err == io.EOF {
		return err
	}
	return typed(s.ctx, err)
}

// typed returns the error of a call as an *Error, or the context's where that is what ended the call.
func typed(ctx context.Context, err error) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		// The server knows the deadline, too, and may tell of it before the context does.
		<-ctx.Done()
	}
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

// call opens a stream: over another connection where insteadOf is the newest.
func (w *wire) call(
	ctx context.Context, insteadOf *link,
	open func(context.Context, stepwirev1.ExecutionServiceClient) (eventStream, error),
) (*call, error) {
	l, err := w.take(insteadOf)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	messages := make(chan message)
	// One message waits here; beyond it and gRPC's window, flow control holds the server back.
	send := func(m message) bool {
		select {
		case messages <- m:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer w.give(l)
		defer cancel()
		stream, err := open(ctx, stepwirev1.NewExecutionServiceClient(l.conn))
		for err == nil {
			var batch *stepwirev1.EventBatch
			if batch, err = stream.Recv(); err == nil && !send(message{batch: batch}) {
				return
			}
		}
		send(message{err: err})
	}()
	return &call{link: l, messages: messages, cancel: cancel}, nil
}
