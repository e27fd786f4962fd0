package stepwire

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

// A driver plays the IO around a resumption, with a clock of its own. Chance always gives all of a back-off.
type driver struct {
	*resumption
	t   *testing.T
	now time.Time
}

func newDriver(t *testing.T, changes ...func(*resumption)) *driver {
	r := &resumption{
		starts:   true,
		silence:  2*defaultHeartbeat + time.Second,
		opening:  10 * time.Second,
		patience: Patience{}.withDefaults(),
		random:   func() float64 { return 1 },
	}
	for _, change := range changes {
		change(r)
	}
	return &driver{resumption: r, t: t, now: time.Unix(1_000_000, 0)}
}

func watching(after int64) func(*resumption) {
	return func(r *resumption) {
		r.starts, r.executionID = false, executionID
		r.cursor, r.accepted, r.given = after, after, after
	}
}

func filtered(r *resumption) { r.filtered = true }

// begun returns a driver whose first call has said these messages.
func begun(t *testing.T, messages ...*stepwirev1.EventBatch) *driver {
	d := newDriver(t)
	d.call(toCall{execute: true})
	d.receive(messages...)
	return d
}

// call expects that a call is to be made, and makes it once its wait is over.
func (d *driver) call(want toCall) {
	d.t.Helper()
	got := d.step(d.now)
	if got != step(want) {
		d.t.Fatalf("the next step is %#v, not %#v", got, want)
	}
	d.now = d.now.Add(want.wait)
	d.opened(d.now)
}

func (d *driver) receive(messages ...*stepwirev1.EventBatch) {
	for _, message := range messages {
		d.received(message, d.now)
	}
}

// stay is silent until the machine has had enough.
func (d *driver) stay() time.Duration {
	d.t.Helper()
	began := d.now
	for {
		read, ok := d.step(d.now).(toRead)
		if !ok {
			return d.now.Sub(began)
		}
		d.now = d.now.Add(read.within)
		d.silent(d.now)
	}
}

func (d *driver) end(err *Error) { d.ended(err, d.now) }

// gives expects events with these sequences, and no other.
func (d *driver) gives(want ...int64) {
	d.t.Helper()
	var got []int64
	for event := d.take(); event != nil; event = d.take() {
		got = append(got, event.GetSequence())
	}
	if !slices.Equal(got, want) {
		d.t.Fatalf("gave the events %v, not %v", got, want)
	}
}

// reads expects that the call goes on.
func (d *driver) reads() {
	d.t.Helper()
	if got, ok := d.step(d.now).(toRead); !ok {
		d.t.Fatalf("the next step is %#v, not toRead", got)
	}
}

// finishes expects that the stream is over without an error.
func (d *driver) finishes() {
	d.t.Helper()
	if got := d.step(d.now); got != step(toEnd{}) {
		d.t.Fatalf("the next step is %#v, not the end", got)
	}
}

// breaks expects that the stream can't go on, for a reason with this text, and returns it.
func (d *driver) breaks(text string) *BrokenError {
	d.t.Helper()
	got, ok := d.step(d.now).(toEnd)
	broken := (*BrokenError)(nil)
	if !ok || !errors.As(got.err, &broken) || !strings.Contains(broken.Error(), text) {
		d.t.Fatalf("the next step is %#v, not broken with %q", got, text)
	}
	return broken
}

func (d *driver) unavailable() *Error { return errorFrom(refusal(d.t, codes.Unavailable, "")) }

// again is the first call after a failure of a stream that had begun.
func again(after int64) toCall {
	return toCall{after: after, wait: 100 * time.Millisecond, waitForReady: true}
}

func TestAStreamIsReadToItsEnd(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1), event(2)), heartbeat(2), batch(completed(3)))
	d.gives(1, 2, 3)
	d.end(nil)
	d.finishes()
	if d.cursor != 3 || d.terminal.GetSequence() != 3 {
		t.Errorf("the cursor is %d, the terminal event %d", d.cursor, d.terminal.GetSequence())
	}
}

func TestTheCursorIsTheLastEventProcessed(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1), event(2)))
	for want := range int64(2) {
		d.take()
		if d.cursor != want {
			t.Errorf("while event %d is being processed, the cursor is %d", want+1, d.cursor)
		}
	}
	d.take()
	if d.cursor != 2 {
		t.Errorf("when all is processed, the cursor is %d", d.cursor)
	}
}

func TestWhatAFilterLeavesOutMovesTheCursor(t *testing.T) {
	d := newDriver(t, filtered)
	d.call(toCall{execute: true})
	d.receive(welcome(0), &stepwirev1.EventBatch{Events: []*stepwirev1.Event{event(2), event(5)}, Sequence: 9})
	d.gives(2, 5)
	if d.cursor != 9 {
		t.Errorf("the cursor is %d", d.cursor)
	}
	d.end(d.unavailable())
	d.call(again(9))
}

func TestDuplicatesAreDropped(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1), event(2)), batch(event(1), event(2), event(3)), batch(event(2)))
	d.gives(1, 2, 3)
	d.reads()
}

func TestAHoleIsRefused(t *testing.T) {
	whole := func(after, sequence int64, events ...*stepwirev1.Event) *stepwirev1.EventBatch {
		return &stepwirev1.EventBatch{Events: events, AfterSequence: after, Sequence: sequence}
	}
	for name, message := range map[string]*stepwirev1.EventBatch{
		"between messages":      whole(2, 3, event(3)),
		"between events":        whole(1, 4, event(2), event(4)),
		"before the events":     whole(1, 3, event(3)),
		"after the events":      whole(1, 3, event(2)),
		"without events":        whole(1, 2),
		"beyond what it covers": whole(1, 2, event(2), event(3)),
	} {
		t.Run(name, func(t *testing.T) {
			d := begun(t, welcome(0), batch(event(1)), message)
			last := int64(1)
			for event := d.take(); event != nil; event = d.take() {
				last = event.GetSequence()
			}
			d.call(again(last))
			d.receive(welcome(last), batch(event(last+1)))
			d.gives(last + 1)
		})
	}
}

func TestWithAFilterOnlyTheRangesSayWhatIsMissing(t *testing.T) {
	d := newDriver(t, watching(0), filtered)
	d.call(toCall{})
	d.receive(welcome(0), &stepwirev1.EventBatch{Events: []*stepwirev1.Event{event(4)}, Sequence: 7})
	d.receive(&stepwirev1.EventBatch{Events: []*stepwirev1.Event{event(10)}, AfterSequence: 8, Sequence: 10})
	d.gives(4)
	d.call(again(7))
}

func TestWhatCanPassIsTriedAgainAndWhatCannotIsFinal(t *testing.T) {
	for _, test := range []struct {
		name   string
		code   codes.Code
		reason Reason
		retry  bool // with a RetryInfo of 2 s
		passes bool
		fresh  bool
	}{
		{"the transport's UNAVAILABLE", codes.Unavailable, "", false, true, false},
		{"the transport's CANCELLED", codes.Canceled, "", false, true, false},
		{"the transport's UNKNOWN", codes.Unknown, "", false, true, false},
		{"the transport's INTERNAL", codes.Internal, "", false, true, false},
		{"the transport's DEADLINE_EXCEEDED", codes.DeadlineExceeded, "", false, true, false},
		{"the transport's RESOURCE_EXHAUSTED", codes.ResourceExhausted, "", false, false, false},
		{"the transport's UNAUTHENTICATED", codes.Unauthenticated, "", false, false, false},
		{"a server that goes", codes.Unavailable, Draining, true, true, true},
		{"a journal that is away", codes.Unavailable, JournalUnavailable, false, true, false},
		{"a limit with a time to wait", codes.ResourceExhausted, LimitWatchers, true, true, false},
		{"a limit without one", codes.ResourceExhausted, LimitSize, false, false, false},
		{"a bug of the server", codes.Internal, InternalError, false, false, false},
		{"no such execution", codes.NotFound, ExecutionNotFound, false, false, false},
		{"a cursor that expired", codes.OutOfRange, CursorExpired, false, false, false},
		{"a reason that is new", codes.FailedPrecondition, "NEW", true, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := begun(t, welcome(0), batch(event(1)))
			d.gives(1)
			s := refusal(t, test.code, test.reason)
			want := again(1)
			if test.retry {
				s, _ = s.WithDetails(retryIn(2 * time.Second))
				want.wait += 2 * time.Second
			}
			d.end(errorFrom(s))
			if test.passes {
				want.fresh = test.fresh
				d.call(want)
				return
			}
			got, ok := d.step(d.now).(toEnd)
			if refused := (*Error)(nil); !ok || !errors.As(got.err, &refused) || refused.Code != test.code {
				t.Fatalf("the next step is %#v, not the refusal", got)
			}
		})
	}
}

func TestOKWithoutATerminalEventIsResumed(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1)))
	d.gives(1)
	d.end(nil)
	d.call(again(1))
}

func TestAWatchThatBeginsAtTheEndIsOver(t *testing.T) {
	d := newDriver(t, watching(5))
	d.call(toCall{after: 5})
	d.receive(ended(5))
	d.end(nil)
	d.finishes()
}

func TestASnapshotThatIsAheadIsNotTheEnd(t *testing.T) {
	d := newDriver(t, watching(3))
	d.call(toCall{after: 3})
	first := ended(3)
	first.Execution.AsOfSequence = 5
	d.receive(first)
	d.end(nil)
	d.call(again(3))
}

func TestDrainingTakesANewConnectionAtOnceAndThenWithBackoff(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1)), draining(1))
	d.gives(1)
	d.call(toCall{after: 1, fresh: true, waitForReady: true})
	d.receive(welcome(1), draining(1))
	d.call(toCall{after: 1, wait: 200 * time.Millisecond, fresh: true, waitForReady: true})
	d.receive(welcome(1), draining(1))
	d.call(toCall{after: 1, wait: 400 * time.Millisecond, fresh: true, waitForReady: true})
	if d.budget.failures != 0 {
		t.Errorf("%d failures were counted", d.budget.failures)
	}
	d.receive(welcome(1), batch(event(2)), draining(2))
	d.gives(2)
	d.call(toCall{after: 2, fresh: true, waitForReady: true})
}

func TestANewConnectionIsTakenAlsoWhenTheNextCallFails(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1)), draining(1))
	d.gives(1)
	d.call(toCall{after: 1, fresh: true, waitForReady: true})
	d.end(d.unavailable())
	d.call(toCall{after: 1, wait: 200 * time.Millisecond, waitForReady: true})
}

func TestBackoffDoublesUpToItsBound(t *testing.T) {
	d := begun(t, welcome(0))
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000}
	for _, wait := range want {
		d.end(d.unavailable())
		d.call(toCall{wait: wait * time.Millisecond, waitForReady: true})
	}
}

func TestExecuteIsSentAgainOnlyBeforeTheFirstMessage(t *testing.T) {
	d := newDriver(t)
	d.call(toCall{execute: true})
	d.end(d.unavailable())
	d.call(toCall{execute: true, wait: 100 * time.Millisecond})
	d.receive(welcome(0))
	d.end(d.unavailable())
	d.call(again(0))
}

func TestAStartThatFailsTooOftenReturnsItsLastError(t *testing.T) {
	d := newDriver(t, func(r *resumption) { r.patience.StartFailures = 3 })
	d.call(toCall{execute: true})
	d.end(d.unavailable())
	d.call(toCall{execute: true, wait: 100 * time.Millisecond})
	d.end(d.unavailable())
	d.call(toCall{execute: true, wait: 200 * time.Millisecond})
	last := d.unavailable()
	d.end(last)
	if got := d.step(d.now); got != step(toEnd{err: last}) {
		t.Errorf("the next step is %#v", got)
	}
}

func TestResumingGivesUpAfterSoManyFailures(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1)))
	d.patience.ResumeFailures = 2
	d.gives(1)
	d.end(d.unavailable())
	d.call(again(1))
	last := d.unavailable()
	d.end(last)
	broken := d.breaks("gave up after 2 failures in a row")
	if broken.Cursor != 1 || broken.ExecutionID != executionID || !errors.Is(broken, error(last)) {
		t.Errorf("broken is %#v", broken)
	}
}

func TestResumingGivesUpAfterSoLong(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1)))
	d.patience.ResumeDuration = time.Minute
	d.gives(1)
	d.end(d.unavailable())
	d.call(again(1))
	d.now = d.now.Add(time.Minute)
	d.end(d.unavailable())
	d.breaks("gave up after 2 failures")
}

func TestAServersDelayBeyondThePatienceIsNotWaitedFor(t *testing.T) {
	d := newDriver(t, func(r *resumption) { r.patience.StartDuration = time.Second })
	d.call(toCall{execute: true})
	limit := errorFrom(refusal(t, codes.ResourceExhausted, LimitExecutions, retryIn(2*time.Second)))
	d.end(limit)
	if got := d.step(d.now); got != step(toEnd{err: limit}) {
		t.Errorf("the next step is %#v", got)
	}
}

func TestEventsAndHeartbeatsFillTheBudgetAgain(t *testing.T) {
	for name, after := range map[string]func(int64) *stepwirev1.EventBatch{
		"an event":    func(sequence int64) *stepwirev1.EventBatch { return batch(event(sequence + 1)) },
		"a heartbeat": heartbeat,
	} {
		t.Run(name, func(t *testing.T) {
			d := begun(t, welcome(0), batch(event(1)))
			d.patience.ResumeFailures = 2
			d.gives(1)
			for range 5 {
				d.end(d.unavailable())
				d.call(again(d.accepted))
				d.receive(welcome(d.accepted), after(d.accepted))
				for d.take() != nil {
				}
			}
			d.reads()
		})
	}
}

func TestAWelcomeAloneDoesNotFillTheBudgetAgain(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1)))
	d.patience.ResumeFailures = 2
	d.gives(1)
	d.end(d.unavailable())
	d.call(again(1))
	d.receive(welcome(1))
	d.end(d.unavailable())
	d.breaks("gave up")
}

func TestTimeInWhichNobodyAsksIsNotCounted(t *testing.T) {
	// The hole is found while an event is pending; its reader takes an hour.
	d := begun(t, welcome(0), &stepwirev1.EventBatch{Events: []*stepwirev1.Event{event(1), event(3)}, Sequence: 3})
	d.take()
	d.now = d.now.Add(time.Hour)
	d.gives()
	d.call(toCall{after: 1, waitForReady: true})
	d.end(d.unavailable())
	d.call(toCall{after: 1, wait: 200 * time.Millisecond, waitForReady: true})
}

func TestSilenceIsTwoHeartbeatsAndASecond(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1)))
	d.gives(1)
	if silence := d.stay(); silence != 31*time.Second {
		t.Errorf("given up after %v", silence)
	}
	d.call(toCall{after: 1, wait: 100 * time.Millisecond, fresh: true, waitForReady: true})
}

func TestACallThatDoesNotBeginIsGivenUp(t *testing.T) {
	d := newDriver(t)
	d.call(toCall{execute: true})
	if silence := d.stay(); silence != 10*time.Second {
		t.Errorf("given up after %v", silence)
	}
	d.call(toCall{execute: true, wait: 100 * time.Millisecond, fresh: true})
}

func TestTheStatusAfterTheTerminalEventIsNotWaitedForLong(t *testing.T) {
	d := begun(t, welcome(0), batch(completed(1)))
	d.gives(1)
	if silence := d.stay(); silence != time.Second {
		t.Errorf("given up after %v", silence)
	}
	d.finishes()
}

func TestTheTerminalEventEndsTheStreamWhateverItsCallDoes(t *testing.T) {
	d := begun(t, welcome(0), batch(completed(1)))
	d.gives(1)
	d.receive(heartbeat(1))
	d.end(errorFrom(refusal(t, codes.NotFound, ExecutionNotFound)))
	d.finishes()
}

func TestAnEventAfterTheTerminalOneBreaksTheContract(t *testing.T) {
	for name, messages := range map[string][]*stepwirev1.EventBatch{
		"in its message": {batch(completed(1), event(2))},
		"in another":     {batch(completed(1)), batch(event(2))},
	} {
		t.Run(name, func(t *testing.T) {
			d := begun(t, welcome(0))
			d.receive(messages...)
			d.gives(1)
			d.breaks("after the terminal one")
		})
	}
}

func TestAnotherExecutionsEventsBreakTheContract(t *testing.T) {
	other := event(2)
	other.ExecutionId = "e-2"
	others := welcome(1)
	others.Execution.ExecutionId = "e-2"
	for name, message := range map[string]*stepwirev1.EventBatch{
		"an event":                      batch(other),
		"an event behind one of ours":   {Events: []*stepwirev1.Event{event(1), other}, Sequence: 2},
		"a snapshot at the next stream": others,
	} {
		t.Run(name, func(t *testing.T) {
			d := begun(t, welcome(0), batch(event(1)), message)
			d.gives(1)
			if broken := d.breaks(`"e-2"`); broken.Cursor != 1 {
				t.Errorf("the cursor is %d", broken.Cursor)
			}
		})
	}
}

func TestAStreamThatDoesNotSayWhatItIsAboutIsOpenedAgain(t *testing.T) {
	d := begun(t, heartbeat(0))
	d.call(toCall{execute: true, wait: 100 * time.Millisecond})
}

func TestAnEventOfAnUnknownKindIsAnEvent(t *testing.T) {
	unknown := event(2)
	unknown.Kind = nil
	d := begun(t, welcome(0), batch(event(1), unknown, completed(3)))
	d.gives(1, 2, 3)
}

func TestWhoLeavesGoesOnWhereHeWas(t *testing.T) {
	d := begun(t, welcome(0), batch(event(1), event(2), event(3)))
	d.take()
	d.suspend()
	d.gives(2, 3)
	d.call(toCall{after: 3, waitForReady: true})
	d.receive(welcome(3), batch(completed(4)))
	d.gives(4)
	d.suspend()
	d.finishes()
}

func TestBadRequestsAreKept(t *testing.T) {
	d := begun(t)
	d.end(errorFrom(refusal(t, codes.InvalidArgument, PlanInvalid, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "plan", Description: "is empty"}},
	})))
	got := d.step(d.now).(toEnd).err.(*Error)
	if want := []Violation{{"plan", "is empty"}}; !reflect.DeepEqual(got.Violations, want) {
		t.Errorf("the violations are %v", got.Violations)
	}
}
