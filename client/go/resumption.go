package stepwire

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

const (
	// defaultHeartbeat is when the server says that it lives, where the request does not say otherwise.
	defaultHeartbeat = 15 * time.Second
	// endOfCall is how long the status may take after the terminal event. Nothing depends on it any more.
	endOfCall = time.Second
)

// A resumption says how a stream of events outlives its connections: a state machine without IO, clock and goroutines.
//
// take gives the next event; when it gives none, step says what to do, and what came of it is told with opened,
// received, ended or silent. Whoever leaves the call in the midst of it says so with suspend.
//
// The rules:
//
//  1. The cursor is the last event that the caller has processed, which it says by asking for the next. What was
//     received and not yet asked for does not move it.
//  2. An event at or below the last accepted one is a duplicate and is dropped.
//  3. A hole is refused: what came before it is given, the call is ended, and another is opened from the cursor.
//     Without a filter each event is checked, with one only the ranges that the messages say they cover.
//  4. The terminal event ends the stream. An event after it breaks the contract.
//  5. A call that ends OK without the terminal event is opened again, unless its snapshot says that the execution ended
//     at or before the cursor: then there is nothing left to give.
//  6. DRAINING opens again on a new connection, and is no failure: the first time at once, then with back-off. As a
//     status it is a failure, and needs a new connection, too: behind the old one there is the server that goes.
//  7. A status that can pass opens again with back-off: full jitter, doubled each time.
//  8. Before the first message Execute is opened, with a request id that makes it safe to send again; after it
//     WatchExecution.
//  9. Two budgets, one for the start and one for resuming. A new event or a heartbeat fills them again: a heartbeat
//     comes only over a call that has been healthy for a whole interval, and a quiet execution may be quiet for
//     days. Time in which nobody asks is not counted.
//  10. A call that says nothing for two heartbeat intervals and a second is dead, and its connection with it.
//  11. An event of an unknown kind is an event.
//  12. At the start a call fails at once where there is no connection, and says why. Later it waits for the connection,
//     as long as it may take to begin: two back-offs, ours and the connection's, would add up.
//
// Not safe for concurrent use.
type resumption struct {
	executionID string                // empty until Execute's first message has come
	execution   *stepwirev1.Execution // the newest snapshot that a call began with
	terminal    *stepwirev1.Event     // what ended the execution, once it has been received
	cursor      int64                 // the last event that was processed

	starts   bool // it begins with Execute; else with WatchExecution
	filtered bool
	silence  time.Duration
	opening  time.Duration
	patience Patience
	random   func() float64

	state     state
	pending   []*stepwirev1.Event
	accepted  int64 // everything up to here has been received, without a hole
	given     int64 // the last event that take gave
	welcomed  bool  // a first message came, once, over any call
	listening listening
	openAt    time.Time
	fresh     bool
	budget    budget
	drains    int
	err       error // why it is broken
}

type state int

const (
	toOpen   state = iota
	reading        // a call is under way
	ending         // the terminal event has come; the call's status has not
	finished       // there is nothing left to give
	broken         // it can't go on
)

// A step is what is to be done next: toCall, toRead or toEnd.
type step interface{ isStep() }

// toCall means: end the call that there may be, wait, open another.
type toCall struct {
	execute      bool  // Execute; else WatchExecution
	after        int64 // the cursor for WatchExecution
	wait         time.Duration
	fresh        bool // over a new connection
	waitForReady bool // wait for the connection; else fail at once where there is none
}

// toRead means: wait for the next message, or for the end of the call. After that time it is silence.
type toRead struct{ within time.Duration }

// toEnd means: the stream is over.
type toEnd struct{ err error }

func (toCall) isStep() {}
func (toRead) isStep() {}
func (toEnd) isStep()  {}

// take returns the next event, or nil where step must be asked. The one before it counts as processed.
func (r *resumption) take() *stepwirev1.Event {
	if len(r.pending) == 0 {
		// All is processed, and what a filter left out of the end of the last message with it.
		r.cursor, r.given = r.accepted, r.accepted
		return nil
	}
	event := r.pending[0]
	r.pending[0] = nil
	r.pending = r.pending[1:]
	r.cursor, r.given = r.given, event.GetSequence()
	return event
}

// over tells whether all was given that there will ever be.
func (r *resumption) over() bool {
	return len(r.pending) == 0 && (r.state == finished || r.state == broken)
}

// step returns what to do next. It must be asked only when take has given nothing.
func (r *resumption) step(now time.Time) step {
	switch r.state {
	case toOpen:
		if r.budget.failures > 0 && r.budget.since.IsZero() {
			r.budget.since = now
		}
		return toCall{
			execute:      r.starts && r.executionID == "",
			after:        r.accepted,
			wait:         max(0, r.openAt.Sub(now)),
			fresh:        r.fresh,
			waitForReady: r.welcomed,
		}
	case reading, ending:
		return toRead{within: r.listening.left(now)}
	default:
		return toEnd{err: r.err}
	}
}

// opened takes note that the call that step asked for is under way.
func (r *resumption) opened(now time.Time) {
	r.state, r.fresh = reading, false
	r.listening.expect(now, r.opening)
}

// suspend takes note that the call was ended from our side. Asked again, the stream goes on where it was.
func (r *resumption) suspend() {
	switch r.state {
	case reading:
		r.state, r.openAt = toOpen, time.Time{}
	case ending:
		r.state = finished
	}
}

// received takes a message.
func (r *resumption) received(batch *stepwirev1.EventBatch, now time.Time) {
	if r.state == ending {
		for _, event := range batch.GetEvents() {
			if event.GetSequence() > r.accepted {
				r.fail(r.brokenError("the server sent an event after the terminal one"))
			}
		}
		return
	}
	r.listening.expect(now, r.silence)
	if text := r.strange(batch); text != "" {
		r.fail(r.brokenError(text))
		return
	}
	if r.executionID == "" {
		r.lose(r.brokenError("the server did not say which execution the stream is about"), now, false)
		return
	}
	if !r.welcomed {
		r.welcomed = true
		r.refill()
	}
	hole := r.accept(batch)
	switch {
	case r.state == broken:
	case r.terminal != nil:
		r.state = ending
		r.listening.expect(now, endOfCall)
	case hole != "":
		r.lose(r.brokenError(hole), now, false)
	case batch.GetNotice() == stepwirev1.EventBatch_NOTICE_DRAINING:
		r.drain(now)
	case batch.GetNotice() == stepwirev1.EventBatch_NOTICE_HEARTBEAT:
		r.refill()
	}
}

// ended takes the end of the call: its error, or nil for OK.
func (r *resumption) ended(err *Error, now time.Time) {
	switch {
	case r.state == ending:
		r.state = finished
	case err != nil && canPass(err):
		r.lose(err, now, err.Reason == Draining)
	case err != nil:
		r.fail(err)
	case hasEnded(r.execution) && r.execution.GetAsOfSequence() <= r.accepted:
		r.state = finished
	default:
		r.lose(r.brokenError("the stream ended before the execution did"), now, false)
	}
}

// silent takes note that nothing came in the time that step gave.
func (r *resumption) silent(now time.Time) {
	if r.state == ending {
		r.state = finished
	} else if r.listening.over(now) {
		r.lose(errorFrom(status.New(codes.DeadlineExceeded, "the server was silent for too long")), now, true)
	}
}

// strange takes what a message says about the execution, and returns what is wrong where that is another one.
func (r *resumption) strange(batch *stepwirev1.EventBatch) string {
	if batch.Execution != nil {
		if text := r.meet(batch.Execution.GetExecutionId()); text != "" {
			return text
		}
		r.execution = batch.Execution
	}
	for _, event := range batch.GetEvents() {
		if text := r.meet(event.GetExecutionId()); text != "" {
			return text
		}
	}
	return ""
}

func (r *resumption) meet(executionID string) string {
	if r.executionID == "" {
		r.executionID = executionID
	}
	if executionID != r.executionID {
		return fmt.Sprintf("the server sent what is of execution %q", executionID)
	}
	return ""
}

// accept takes the events of a message up to the first hole, and returns what is wrong there.
func (r *resumption) accept(batch *stepwirev1.EventBatch) string {
	last, before := batch.GetSequence(), r.accepted
	if batch.GetAfterSequence() > before {
		return missing(before+1, batch.GetAfterSequence())
	}
	for _, event := range batch.GetEvents() {
		sequence := event.GetSequence()
		if sequence <= r.accepted {
			continue
		}
		if r.terminal != nil {
			r.fail(r.brokenError("the server sent an event after the terminal one"))
			return ""
		}
		if sequence > last {
			return fmt.Sprintf("event %d is beyond what its message covers", sequence)
		}
		if !r.filtered && sequence != r.accepted+1 {
			return missing(r.accepted+1, sequence-1)
		}
		r.pending = append(r.pending, event)
		r.accepted = sequence
		r.refill()
		if isTerminal(event) {
			r.terminal = event
		}
	}
	if last > r.accepted {
		if !r.filtered {
			return missing(r.accepted+1, last)
		}
		r.accepted = last
		r.refill()
	}
	return ""
}

func missing(first, last int64) string {
	if first == last {
		return fmt.Sprintf("event %d is missing", first)
	}
	return fmt.Sprintf("events %d to %d are missing", first, last)
}

func (r *resumption) refill() {
	r.budget.refill()
	r.drains = 0
}

// drain opens again because the server goes.
func (r *resumption) drain(now time.Time) {
	r.drains++
	var delay time.Duration
	if r.drains > 1 {
		delay = r.backoff()
	}
	r.open(now.Add(delay), true)
}

// lose takes note that a call failed in a way that can pass, and opens again within the budget.
func (r *resumption) lose(err error, now time.Time, fresh bool) {
	r.budget.failures++
	delay := r.backoff()
	if refusal := (*Error)(nil); errors.As(err, &refusal) {
		asked, _ := refusal.RetryAfter()
		delay += asked
	}
	failures, duration := r.patience.StartFailures, r.patience.StartDuration
	if r.welcomed {
		failures, duration = r.patience.ResumeFailures, r.patience.ResumeDuration
	}
	switch {
	case !r.budget.spent(now, delay, failures, duration):
		r.open(now.Add(delay), fresh)
	case r.welcomed:
		gaveUp := r.brokenError(fmt.Sprintf("gave up after %d failures in a row: %v", r.budget.failures, err))
		gaveUp.Err = err
		r.fail(gaveUp)
	default:
		r.fail(err)
	}
}

func (r *resumption) backoff() time.Duration {
	return r.patience.backoff(r.budget.failures+r.drains, r.random())
}

func (r *resumption) open(at time.Time, fresh bool) {
	r.state, r.openAt = toOpen, at
	r.fresh = r.fresh || fresh
}

func (r *resumption) fail(err error) { r.state, r.err = broken, err }

func (r *resumption) brokenError(text string) *BrokenError {
	return &BrokenError{ExecutionID: r.executionID, Cursor: r.accepted, text: text}
}
