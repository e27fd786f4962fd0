package stepwire

import (
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

// outcomeOfEvent returns what a terminal event says.
func outcomeOfEvent(event *stepwirev1.Event) (*structpb.Value, error) {
	switch kind := event.GetKind().(type) {
	case *stepwirev1.Event_PlanFailed:
		return nil, failed(event.GetExecutionId(), kind.PlanFailed.GetError())
	case *stepwirev1.Event_PlanCancelled:
		return nil, &CancelledError{
			ExecutionID: event.GetExecutionId(),
			Actor:       kind.PlanCancelled.GetActor(),
			Message:     kind.PlanCancelled.GetReason(),
		}
	default:
		return event.GetPlanCompleted().GetOutput(), nil
	}
}

// outcomeOfSnapshot returns what the snapshot of an ended execution says.
func outcomeOfSnapshot(execution *stepwirev1.Execution) (*structpb.Value, error) {
	switch execution.GetState() {
	case stepwirev1.ExecutionState_EXECUTION_STATE_FAILED:
		return nil, failed(execution.GetExecutionId(), execution.GetError())
	case stepwirev1.ExecutionState_EXECUTION_STATE_CANCELLED:
		return nil, &CancelledError{ExecutionID: execution.GetExecutionId()}
	default:
		return execution.GetOutput(), nil
	}
}

func failed(executionID string, status *rpcstatus.Status) error {
	return &FailedError{ExecutionID: executionID, Reason: ErrorOf(status).Reason, Message: status.GetMessage()}
}

// isTerminal tells whether an event is its execution's last.
func isTerminal(event *stepwirev1.Event) bool {
	switch event.GetKind().(type) {
	case *stepwirev1.Event_PlanCompleted, *stepwirev1.Event_PlanFailed, *stepwirev1.Event_PlanCancelled:
		return true
	default:
		return false
	}
}

// hasEnded tells whether a snapshot is that of an ended execution.
func hasEnded(execution *stepwirev1.Execution) bool {
	switch execution.GetState() {
	case stepwirev1.ExecutionState_EXECUTION_STATE_COMPLETED,
		stepwirev1.ExecutionState_EXECUTION_STATE_FAILED,
		stepwirev1.ExecutionState_EXECUTION_STATE_CANCELLED:
		return true
	default:
		return false
	}
}
