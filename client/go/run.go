package stepwire

import (
	"context"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

// source is what a run follows: the request that starts it, or the execution that exists.
type source struct {
	request     *stepwirev1.ExecuteRequest
	executionID string
	after       int64
	filter      *stepwirev1.EventFilter
	heartbeat   *durationpb.Duration
}

// A Run is an execution that is being followed.
//
// It is for one goroutine at a time; only Close may be called from any.
type Run struct {
	client     *Client
	source     source
	resumption resumption
	tracker    Tracker
	ctx        context.Context
	end        context.CancelCauseFunc
	call       *call // nil where none is open
	link       *link // that of the newest call
}

func newRun(ctx context.Context, c *Client, s source) *Run {
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.lifetime, func() { end(ErrClosed) })
	context.AfterFunc(ctx, func() { stop() })
	heartbeat := defaultHeartbeat
	if s.heartbeat != nil {
		heartbeat = s.heartbeat.AsDuration()
	}
	return &Run{
		client: c,
		source: s,
		resumption: resumption{
			starts:      s.request != nil,
			executionID: s.executionID,
			cursor:      s.after,
			accepted:    s.after,
			given:       s.after,
			filtered:    len(s.filter.GetKinds())+len(s.filter.GetStepIds()) > 0,
			silence:     2*heartbeat + time.Second,
			opening:     c.timeout,
			patience:    c.patience,
			random:      rand.Float64,
		},
		ctx: ctx,
		end: end,
	}
}

// Events gives the events in order, each once, until the terminal one. An error is the last that it gives: an *[Error]
// where the server refused, a *[BrokenError] where the stream can't be gone on with, or that of the context.
//
// An event counts as processed when the next one is asked for. Leaving the loop early ends the call, not the execution;
// another loop goes on with the event after the one that was given last.
func (r *Run) Events() iter.Seq2[*stepwirev1.Event, error] {
	return func(yield func(*stepwirev1.Event, error) bool) {
		defer r.leave()
		for {
			event, err := r.next()
			if err != nil {
				yield(nil, err)
				return
			}
			if event == nil || !yield(event, nil) {
				return
			}
		}
	}
}

// Result reads what is left, and returns the execution's output. The error is a *[FailedError] or a *[CancelledError]
// where the execution did not complete, else one of those that Events gives.
func (r *Run) Result() (*structpb.Value, error) {
	for _, err := range r.Events() {
		if err != nil {
			return nil, err
		}
	}
	if terminal := r.resumption.terminal; terminal != nil {
		return outcomeOfEvent(terminal)
	}
	return outcomeOfSnapshot(r.resumption.execution)
}

// ExecutionID returns the id of the execution. It serves to watch it again, from any process.
func (r *Run) ExecutionID() string { return r.resumption.executionID }

// Execution returns the snapshot that the stream began with: of a resumed stream, that of its newest beginning.
func (r *Run) Execution() *stepwirev1.Execution { return r.resumption.execution }

// Cursor returns the sequence of the last event that was processed: the one before the event that was given last, until
// the next is asked for. It serves [After].
func (r *Run) Cursor() int64 { return r.resumption.cursor }

// Terminal returns the event that ended the execution, once it was received, else nil.
func (r *Run) Terminal() *stepwirev1.Event { return r.resumption.terminal }

// Tracker returns how far the execution is, by the events that were given so far.
func (r *Run) Tracker() *Tracker { return &r.tracker }

// Cancel asks the execution to end, and says why. Its last events still come.
func (r *Run) Cancel(ctx context.Context, reason string) (*stepwirev1.Execution, error) {
	return r.client.Cancel(ctx, r.ExecutionID(), reason)
}

// Close ends the call for good; the execution goes on. Whoever reads then gets [ErrClosed]. It must be called for a run
// that is not read to its end, unless its context ends. Closing twice is once.
func (r *Run) Close() { r.end(ErrClosed) }

// next returns the next event, or nil where there is none any more.
func (r *Run) next() (*stepwirev1.Event, error) {
	for {
		if r.ctx.Err() != nil && !r.resumption.over() {
			return nil, context.Cause(r.ctx)
		}
		if event := r.resumption.take(); event != nil {
			r.tracker.Add(event)
			return event, nil
		}
		if over, err := r.advance(); over || err != nil {
			return nil, err
		}
	}
}

// advance does what is to be done next. It tells whether the stream is over.
func (r *Run) advance() (over bool, err error) {
	switch step := r.resumption.step(time.Now()).(type) {
	case toCall:
		return false, r.open(step)
	case toRead:
		return false, r.read(step.within)
	case toEnd:
		r.drop()
		r.Close()
		return true, step.err
	}
	panic("unreachable")
}

func (r *Run) open(step toCall) error {
	r.drop()
	if step.wait > 0 {
		select {
		case <-time.After(step.wait):
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
	var insteadOf *link
	if step.fresh {
		insteadOf = r.link
	}
	call, err := r.client.wire.call(r.ctx, insteadOf, func(
		ctx context.Context, service stepwirev1.ExecutionServiceClient,
	) (eventStream, error) {
		waitForReady := grpc.WaitForReady(step.waitForReady)
		if step.execute {
			return service.Execute(ctx, r.source.request, waitForReady)
		}
		return service.WatchExecution(ctx, &stepwirev1.WatchExecutionRequest{
			ExecutionId:       r.resumption.executionID,
			AfterSequence:     step.after,
			Filter:            r.source.filter,
			HeartbeatInterval: r.source.heartbeat,
		}, waitForReady)
	})
	if err != nil {
		return err
	}
	r.call, r.link = call, call.link
	r.resumption.opened(time.Now())
	return nil
}

func (r *Run) read(within time.Duration) error {
	silence := time.NewTimer(within)
	defer silence.Stop()
	select {
	case message := <-r.call.messages:
		switch {
		case message.err == nil:
			r.resumption.received(message.batch, time.Now())
		case message.err == io.EOF:
			r.resumption.ended(nil, time.Now())
		default:
			r.resumption.ended(errorFrom(status.Convert(message.err)), time.Now())
		}
	case <-silence.C:
		if r.link.conn.GetState() == connectivity.Ready {
			r.resumption.silent(time.Now())
		} else { // The call waits for a connection: nobody was there who could have said something.
			away := errorFrom(status.New(codes.Unavailable, "there is no connection to the server"))
			r.resumption.ended(away, time.Now())
		}
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
	return nil
}

// leave ends the call that there may be. The stream goes on where it was when it is read again.
func (r *Run) leave() {
	if r.call != nil {
		r.drop()
		r.resumption.suspend()
	}
}

func (r *Run) drop() {
	if r.call != nil {
		r.call.cancel()
		r.call = nil
	}
}
