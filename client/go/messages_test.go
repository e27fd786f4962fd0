package stepwire

import (
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

// Short ways to write what a server says.

const executionID = "e-1"

func event(sequence int64) *stepwirev1.Event {
	return &stepwirev1.Event{
		ExecutionId: executionID,
		Sequence:    sequence,
		Kind:        &stepwirev1.Event_Stage{Stage: &stepwirev1.Stage{Name: "reading"}},
	}
}

func completed(sequence int64) *stepwirev1.Event {
	return &stepwirev1.Event{
		ExecutionId:    executionID,
		Sequence:       sequence,
		ExecutionState: stepwirev1.ExecutionState_EXECUTION_STATE_COMPLETED,
		Progress:       &stepwirev1.Progress{Percentage: 100, TotalSteps: 1, CompletedSteps: 1},
		Kind: &stepwirev1.Event_PlanCompleted{
			PlanCompleted: &stepwirev1.PlanCompleted{Output: structpb.NewStringValue("done")},
		},
	}
}

// welcome is the first message of a stream that begins after a sequence.
func welcome(after int64) *stepwirev1.EventBatch {
	return &stepwirev1.EventBatch{
		Execution: &stepwirev1.Execution{
			ExecutionId:  executionID,
			State:        stepwirev1.ExecutionState_EXECUTION_STATE_RUNNING,
			AsOfSequence: after,
		},
		AfterSequence: after,
		Sequence:      after,
	}
}

// batch is a message that covers what its events are, and what is between them.
func batch(events ...*stepwirev1.Event) *stepwirev1.EventBatch {
	return &stepwirev1.EventBatch{
		Events:        events,
		AfterSequence: events[0].GetSequence() - 1,
		Sequence:      events[len(events)-1].GetSequence(),
	}
}

func notice(what stepwirev1.EventBatch_Notice, sequence int64) *stepwirev1.EventBatch {
	return &stepwirev1.EventBatch{AfterSequence: sequence, Sequence: sequence, Notice: what}
}

func heartbeat(sequence int64) *stepwirev1.EventBatch {
	return notice(stepwirev1.EventBatch_NOTICE_HEARTBEAT, sequence)
}

func draining(sequence int64) *stepwirev1.EventBatch {
	return notice(stepwirev1.EventBatch_NOTICE_DRAINING, sequence)
}

// ended is the first message of a watch of an ended execution, which begins at its last event.
func ended(after int64) *stepwirev1.EventBatch {
	first := welcome(after)
	first.Execution.State = stepwirev1.ExecutionState_EXECUTION_STATE_COMPLETED
	first.Execution.Result = &stepwirev1.Execution_Output{Output: structpb.NewStringValue("done")}
	return first
}

// refusal is a status as a Stepwire server makes it. An empty reason leaves the ErrorInfo out.
func refusal(t *testing.T, code codes.Code, reason Reason, details ...protoadapt.MessageV1) *status.Status {
	t.Helper()
	if reason != "" {
		details = append(details, &errdetails.ErrorInfo{Domain: domain, Reason: string(reason)})
	}
	s, err := status.New(code, "told so").WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func retryIn(delay time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
}
