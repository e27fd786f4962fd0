package stepwire

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

// read reads a run to its end, and returns the sequences of its events.
func read(t *testing.T, run *Run) []int64 {
	t.Helper()
	var sequences []int64
	for event, err := range run.Events() {
		if err != nil {
			t.Fatal(err)
		}
		sequences = append(sequences, event.GetSequence())
	}
	return sequences
}

func expect(t *testing.T, got []int64, want ...int64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got the events %v, not %v", got, want)
	}
}

func execute(t *testing.T, ctx context.Context, client *Client) *Run {
	t.Helper()
	run, err := client.Execute(ctx, Query("anything"))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestExecuteIsFollowedToItsEnd(t *testing.T) {
	server := serve(t, says(welcome(0), batch(event(1), event(2)), batch(completed(3))))
	run := execute(t, patient(t), server.connect(t))
	if run.ExecutionID() != executionID || run.Execution().GetExecutionId() != executionID {
		t.Errorf("the execution is %q", run.ExecutionID())
	}
	expect(t, read(t, run), 1, 2, 3)
	if run.Cursor() != 3 || run.Terminal().GetSequence() != 3 {
		t.Errorf("the cursor is %d, the terminal event %v", run.Cursor(), run.Terminal())
	}
	if tracker := run.Tracker(); tracker.Events() != 3 || tracker.Progress().GetPercentage() != 100 {
		t.Errorf("the tracker has %d events, %v", tracker.Events(), tracker.Progress())
	}
	for range 2 {
		if output, err := run.Result(); err != nil || output.GetStringValue() != "done" {
			t.Errorf("the result is %v, %v", output, err)
		}
	}
}

func TestEachExecuteHasARequestID(t *testing.T) {
	server := serve(t, says(welcome(0), batch(completed(1))), says(welcome(0), batch(completed(1))))
	client := server.connect(t)
	request := Query("anything")
	for range 2 {
		if _, err := client.Execute(patient(t), request); err != nil {
			t.Fatal(err)
		}
	}
	first := server.call(0).request.(*stepwirev1.ExecuteRequest).GetRequestId()
	second := server.call(1).request.(*stepwirev1.ExecuteRequest).GetRequestId()
	if first == "" || first == second || request.GetRequestId() != "" {
		t.Errorf("the request ids are %q and %q, the request's own is %q", first, second, request.GetRequestId())
	}
}

func TestARunOutlivesItsConnection(t *testing.T) {
	server := serve(t,
		holds(welcome(0), batch(event(1), event(2))),
		fails(status.Error(codes.Unavailable, "away"), welcome(2), batch(event(3))),
		says(welcome(3), batch(completed(4))),
	)
	filter := &stepwirev1.EventFilter{Kinds: []string{"stage"}}
	run, err := server.connect(t).Execute(patient(t), Query("anything"), Filter(filter), Heartbeat(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	var sequences []int64
	for event, err := range run.Events() {
		if err != nil {
			t.Fatal(err)
		}
		sequences = append(sequences, event.GetSequence())
		if len(sequences) == 2 {
			server.listener.cut()
		}
	}
	expect(t, sequences, 1, 2, 3, 4)
	for number, after := range map[int]int64{1: 2, 2: 3} {
		request := server.call(number).request.(*stepwirev1.WatchExecutionRequest)
		if request.GetExecutionId() != executionID || request.GetAfterSequence() != after ||
			request.GetFilter().GetKinds()[0] != "stage" || request.GetHeartbeatInterval().GetSeconds() != 60 {
			t.Errorf("call %d asks for %v", number, request)
		}
	}
}

func TestDrainingIsResumedOnANewConnection(t *testing.T) {
	server := serve(t, holds(welcome(0), batch(event(1)), draining(1)), says(welcome(1), batch(completed(2))))
	ctx := patient(t)
	run := execute(t, ctx, server.connect(t))
	expect(t, read(t, run), 1, 2)
	if server.call(0).peer == server.call(1).peer {
		t.Error("it was the same connection")
	}
	wait(t, ctx, server.listener.conn(0).closed, "the connection to the server that goes")
}

func TestASilentServerIsGivenUp(t *testing.T) {
	server := serve(t, holds(welcome(0), batch(event(1))), says(welcome(1), batch(completed(2))))
	run, err := server.connect(t).Execute(patient(t), Query("anything"), Heartbeat(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, read(t, run), 1, 2)
	if server.call(0).peer == server.call(1).peer {
		t.Error("it was the same connection")
	}
}

func TestAServerThatIsGoneIsToldAsThat(t *testing.T) {
	server := serve(t, holds(welcome(0), batch(event(1))))
	patience := Patience{ResumeFailures: 2, InitialDelay: time.Millisecond}
	run := execute(t, patient(t), server.connect(t, WithTimeout(100*time.Millisecond), WithPatience(patience)))
	var last error
	for _, err := range run.Events() {
		if last = err; err == nil {
			server.listener.Close()
			server.listener.cut()
		}
	}
	broken, cause := (*BrokenError)(nil), (*Error)(nil)
	if !errors.As(last, &broken) || !errors.As(last, &cause) || cause.Code != codes.Unavailable {
		t.Errorf("the run ended with %v", last)
	}
}

func TestAStreamThatDoesNotBeginIsGivenUp(t *testing.T) {
	server := serve(t, holds(), says(welcome(0), batch(completed(1))))
	run := execute(t, patient(t), server.connect(t, WithTimeout(100*time.Millisecond)))
	expect(t, read(t, run), 1)
}

func TestLeavingTheLoopEndsTheCallAndAnotherLoopGoesOn(t *testing.T) {
	server := serve(t, holds(welcome(0), batch(event(1), event(2))), says(welcome(2), batch(completed(3))))
	ctx := patient(t)
	run := execute(t, ctx, server.connect(t))
	for event, err := range run.Events() {
		if err != nil || event.GetSequence() != 1 {
			t.Fatal(event, err)
		}
		break
	}
	wait(t, ctx, server.call(0).left, "the call")
	if run.Cursor() != 0 {
		t.Errorf("the cursor is %d, though nobody said that event 1 is processed", run.Cursor())
	}
	expect(t, read(t, run), 2, 3)
}

func TestTheEndOfTheContextEndsTheRun(t *testing.T) {
	server := serve(t, holds(welcome(0), batch(event(1), event(2))))
	ctx, cancel := context.WithCancel(patient(t))
	defer cancel()
	run := execute(t, ctx, server.connect(t))
	var sequences []int64
	var last error
	for event, err := range run.Events() {
		if err != nil {
			last = err
			continue
		}
		sequences = append(sequences, event.GetSequence())
		cancel()
	}
	expect(t, sequences, 1)
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the error is %v", last)
	}
	wait(t, patient(t), server.call(0).left, "the call")
}

func TestTheEndOfTheContextEndsAWaitToTryAgain(t *testing.T) {
	delay, err := status.New(codes.Unavailable, "away").WithDetails(retryIn(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, fails(delay.Err()))
	ctx, cancel := context.WithTimeout(patient(t), 100*time.Millisecond)
	defer cancel()
	client := server.connect(t, WithPatience(Patience{StartDuration: 2 * time.Hour}))
	if _, err := client.Execute(ctx, Query("anything")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
}

func TestCloseEndsWhoeverReads(t *testing.T) {
	for name, closing := range map[string]func(*Client, *Run){
		"the run":    func(_ *Client, run *Run) { run.Close() },
		"the client": func(client *Client, _ *Run) { client.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, holds(welcome(0), batch(event(1))))
			client, ctx := server.connect(t), patient(t)
			run := execute(t, ctx, client)
			var last error
			for _, err := range run.Events() {
				last = err
				if err == nil {
					go closing(client, run)
				}
			}
			if last != ErrClosed {
				t.Errorf("the error is %v", last)
			}
			wait(t, ctx, server.call(0).left, "the call")
		})
	}
}

func TestCloseEndsAWaitToTryAgain(t *testing.T) {
	server := serve(t, fails(refusal(t, codes.Unavailable, JournalUnavailable, retryIn(time.Hour)).Err()))
	client := server.connect(t, WithPatience(Patience{StartDuration: 2 * time.Hour}))
	run := newRun(patient(t), client, source{executionID: executionID})
	run.resumption.random = func() float64 {
		// The call has failed: what comes next is the wait.
		go client.Close()
		return 0
	}
	if _, err := run.next(); err != ErrClosed {
		t.Errorf("the error is %v", err)
	}
}

func TestCloseEndsARunThatNobodyReads(t *testing.T) {
	server := serve(t, holds(welcome(0), batch(event(1))))
	client, ctx := server.connect(t), patient(t)
	execute(t, ctx, client)
	client.Close()
	wait(t, ctx, server.call(0).left, "the call")
	if _, err := client.Get(ctx, executionID); err != ErrClosed {
		t.Errorf("a call on the closed client returns %v", err)
	}
}

func TestARefusalIsTyped(t *testing.T) {
	s := refusal(t, codes.InvalidArgument, PlanInvalid, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "plan.steps", Description: "is empty"}},
	})
	server := serve(t, fails(s.Err()))
	_, err := server.connect(t).Execute(patient(t), Query("anything"))
	refused := (*Error)(nil)
	if !errors.As(err, &refused) || !errors.Is(err, PlanInvalid) || refused.Violations[0].Field != "plan.steps" {
		t.Errorf("the error is %#v", err)
	}
	if refused.RequestID != "" {
		t.Error("a refused request can't have been accepted")
	}
}

func TestAStartThatMayHaveBeenAcceptedSaysItsRequestID(t *testing.T) {
	away := fails(status.Error(codes.Unavailable, "away"))
	server := serve(t, away, away, away)
	_, err := server.connect(t).Execute(patient(t), Query("anything"))
	want := server.call(2).request.(*stepwirev1.ExecuteRequest).GetRequestId()
	if refused := (*Error)(nil); !errors.As(err, &refused) || refused.RequestID != want || want == "" {
		t.Errorf("the error is %#v, the request id was %q", err, want)
	}
}

func TestAnEndedExecutionsOutcomeIsItsSnapshots(t *testing.T) {
	server := serve(t, says(ended(5)))
	run, err := server.connect(t).Watch(patient(t), executionID, After(5))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, read(t, run))
	if output, err := run.Result(); err != nil || output.GetStringValue() != "done" || run.Cursor() != 5 {
		t.Errorf("the result is %v, %v, the cursor %d", output, err, run.Cursor())
	}
}

func TestMessagesAboveGRPCsOwnBoundAreTaken(t *testing.T) {
	large := event(1)
	large.Message = strings.Repeat("x", 4<<20+1)
	server := serve(t, says(welcome(0), batch(large), batch(completed(2))))
	expect(t, read(t, execute(t, patient(t), server.connect(t))), 1, 2)
}

func TestGetIsSentAgain(t *testing.T) {
	server := serve(t,
		fails(status.Error(codes.Unavailable, "away")),
		fails(refusal(t, codes.Unavailable, Draining, retryIn(0)).Err()),
		replies,
	)
	execution, err := server.connect(t).Get(patient(t), executionID)
	if err != nil || execution.GetExecutionId() != executionID {
		t.Fatalf("got %v, %v", execution, err)
	}
	if server.call(0).peer != server.call(1).peer || server.call(1).peer == server.call(2).peer {
		t.Error("a new connection must be taken after DRAINING, and only then")
	}
}

func TestCancelSaysWhy(t *testing.T) {
	server := serve(t, replies, fails(refusal(t, codes.FailedPrecondition, ExecutionEnded).Err()))
	client := server.connect(t)
	if _, err := client.Cancel(patient(t), executionID, "enough"); err != nil {
		t.Fatal(err)
	}
	if reason := server.call(0).request.(*stepwirev1.CancelExecutionRequest).GetReason(); reason != "enough" {
		t.Errorf("the reason is %q", reason)
	}
	if _, err := client.Cancel(patient(t), executionID, ""); !errors.Is(err, ExecutionEnded) {
		t.Errorf("the error is %v", err)
	}
}

func TestAUnaryCallHasADeadline(t *testing.T) {
	server := serve(t)
	client := server.connect(t, WithTimeout(100*time.Millisecond))
	_, err := client.Get(patient(t), executionID)
	if refused := (*Error)(nil); !errors.As(err, &refused) || refused.Code != codes.DeadlineExceeded {
		t.Errorf("Get returns %v", err)
	}
	_, err = client.Service().GetExecution(patient(t), &stepwirev1.GetExecutionRequest{})
	if refused := (*Error)(nil); !errors.As(err, &refused) || refused.Code != codes.DeadlineExceeded {
		t.Errorf("the stub returns %v", err)
	}
	ctx, cancel := context.WithTimeout(patient(t), 50*time.Millisecond)
	defer cancel()
	if _, err := client.Get(ctx, executionID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline of its context, Get returns %v", err)
	}
}

func TestAWaitHasItsOwnTimeBesideTheClients(t *testing.T) {
	w := &wire{timeout: time.Second}
	for request, want := range map[any]time.Duration{
		&stepwirev1.GetExecutionRequest{}:                                  time.Second,
		&stepwirev1.WaitExecutionRequest{}:                                 31 * time.Second,
		&stepwirev1.WaitExecutionRequest{Timeout: retryIn(9e9).RetryDelay}: 10 * time.Second,
	} {
		if got := w.limit(request); got != want {
			t.Errorf("%v may take %v", request, got)
		}
	}
}

func TestTheStubHasTypedErrorsAndStreams(t *testing.T) {
	server := serve(t,
		fails(refusal(t, codes.NotFound, ExecutionNotFound).Err()),
		says(heartbeat(0)),
		fails(refusal(t, codes.OutOfRange, CursorAhead).Err()),
	)
	service, ctx := server.connect(t).Service(), patient(t)
	if _, err := service.GetExecution(ctx, &stepwirev1.GetExecutionRequest{}); !errors.Is(err, ExecutionNotFound) {
		t.Errorf("the error is %v", err)
	}
	stream, err := service.WatchExecutions(ctx, &stepwirev1.WatchExecutionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("the stream ends with %v", err)
	}
	if stream, err = service.WatchExecutions(ctx, &stepwirev1.WatchExecutionsRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, CursorAhead) {
		t.Errorf("the stream ends with %v", err)
	}
}

func TestATargetIsNoURL(t *testing.T) {
	if _, err := New("http://localhost:50051"); err == nil {
		t.Error("a URL was taken")
	}
}
