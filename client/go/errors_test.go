package stepwire

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

func TestAnErrorSaysAllThatItsStatusSays(t *testing.T) {
	s, err := status.New(codes.OutOfRange, "The events after 3 are gone.").WithDetails(
		&errdetails.ErrorInfo{
			Domain: domain, Reason: "CURSOR_EXPIRED", Metadata: map[string]string{"first_sequence": "7"},
		},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "after_sequence", Description: "is too early"},
		}},
		retryIn(1500*time.Millisecond),
	)
	if err != nil {
		t.Fatal(err)
	}
	e := errorFrom(s)
	if e.Code != codes.OutOfRange || e.Reason != CursorExpired || e.Metadata["first_sequence"] != "7" {
		t.Errorf("the error is %#v", e)
	}
	if wait, asked := e.RetryAfter(); wait != 1500*time.Millisecond || !asked {
		t.Errorf("retry after %v, %v", wait, asked)
	}
	if want := "CURSOR_EXPIRED: The events after 3 are gone.; after_sequence: is too early"; e.Error() != want {
		t.Errorf("it reads %q", e.Error())
	}
	if status.Code(e) != codes.OutOfRange {
		t.Errorf("gRPC reads its code as %v", status.Code(e))
	}
}

func TestAnErrorNamesEveryFieldOnce(t *testing.T) {
	e := &Error{
		Code:    codes.InvalidArgument,
		Reason:  PlanInvalid,
		Message: "The plan is invalid: steps[0].id is missing",
		Violations: []Violation{
			{"steps[0].id", "is missing"},
			{"steps[1].id", "is missing"},
		},
	}
	if want := "PLAN_INVALID: The plan is invalid: steps[0].id is missing; steps[1].id: is missing"; e.Error() != want {
		t.Errorf("it reads %q", e.Error())
	}
}

func TestAnotherDomainsReasonIsNotOurs(t *testing.T) {
	s, err := status.New(codes.Unavailable, "away").WithDetails(
		&errdetails.ErrorInfo{Domain: "proxy.example", Reason: "DRAINING"})
	if err != nil {
		t.Fatal(err)
	}
	e := errorFrom(s)
	if e.Reason != "" || errors.Is(e, Draining) || e.Error() != "Unavailable: away" {
		t.Errorf("the error is %#v", e)
	}
	if _, asked := e.RetryAfter(); asked {
		t.Error("nobody asked to wait")
	}
}

func TestReasonsAreFoundThroughWrapping(t *testing.T) {
	refused := errorFrom(refusal(t, codes.NotFound, ExecutionNotFound))
	broken := &BrokenError{ExecutionID: executionID, Cursor: 4, Err: refused, text: "gave up"}
	wrapped := fmt.Errorf("while watching: %w", broken)
	if !errors.Is(wrapped, ExecutionNotFound) || errors.Is(wrapped, Draining) || errors.Is(refused, Reason("")) {
		t.Errorf("%v is not told apart", wrapped)
	}
}

func TestAnEventsStatusIsRead(t *testing.T) {
	if e := ErrorOf(refusal(t, codes.Unknown, OperationFailed).Proto()); !errors.Is(e, OperationFailed) {
		t.Errorf("the error is %#v", e)
	}
	if e := ErrorOf(nil); e.Code != codes.OK || e.Reason != "" {
		t.Errorf("of no status the error is %#v", e)
	}
}

func TestAnOutcomeIsToldByTheEventAndByTheSnapshot(t *testing.T) {
	stepFailed := refusal(t, codes.Aborted, StepFailed).Proto()
	failed := &FailedError{ExecutionID: executionID, Reason: StepFailed, Message: "told so"}
	for name, test := range map[string]struct {
		of   interface{ GetExecutionId() string }
		want error
	}{
		"plan_failed": {&stepwirev1.Event{
			ExecutionId: executionID,
			Kind:        &stepwirev1.Event_PlanFailed{PlanFailed: &stepwirev1.PlanFailed{Error: stepFailed}},
		}, failed},
		"FAILED": {&stepwirev1.Execution{
			ExecutionId: executionID,
			State:       stepwirev1.ExecutionState_EXECUTION_STATE_FAILED,
			Result:      &stepwirev1.Execution_Error{Error: stepFailed},
		}, failed},
		"plan_cancelled": {&stepwirev1.Event{
			ExecutionId: executionID,
			Kind: &stepwirev1.Event_PlanCancelled{
				PlanCancelled: &stepwirev1.PlanCancelled{Actor: "ann", Reason: "enough"},
			},
		}, &CancelledError{ExecutionID: executionID, Actor: "ann", Message: "enough"}},
		"CANCELLED": {&stepwirev1.Execution{
			ExecutionId: executionID,
			State:       stepwirev1.ExecutionState_EXECUTION_STATE_CANCELLED,
		}, &CancelledError{ExecutionID: executionID}},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			switch of := test.of.(type) {
			case *stepwirev1.Event:
				_, err = outcomeOfEvent(of)
			case *stepwirev1.Execution:
				_, err = outcomeOfSnapshot(of)
			}
			if !reflect.DeepEqual(err, test.want) {
				t.Errorf("it ended with %#v", err)
			}
		})
	}
	if !errors.Is(failed, StepFailed) || errors.Is(failed, TimeLimit) {
		t.Error("the reason does not serve errors.Is")
	}
}
