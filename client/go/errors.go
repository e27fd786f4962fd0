package stepwire

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Reason says why a call was refused, or why a step or an execution failed. It serves [errors.Is]:
//
//	if errors.Is(err, stepwire.ExecutionNotFound) { ... }
//
// A newer server may have more of them than are listed here.
type Reason string

// Error returns the reason's name on the wire.
func (r Reason) Error() string { return string(r) }

// Reasons of calls. The contract says at each rpc which it may end with, and what to do then.
const (
	RequestMalformed   Reason = "REQUEST_MALFORMED"    // a field is out of its bounds
	RequestIncomplete  Reason = "REQUEST_INCOMPLETE"   // the request did not come in time
	RequestIDReused    Reason = "REQUEST_ID_REUSED"    // the request id was used with another request
	PlanInvalid        Reason = "PLAN_INVALID"         // the plan's form is wrong
	PlanNotFound       Reason = "PLAN_NOT_FOUND"       // the server has no plan of this name
	InputInvalid       Reason = "INPUT_INVALID"        // an input, or an answer, does not fit
	InputNotRequested  Reason = "INPUT_NOT_REQUESTED"  // no step waits for this answer
	FilterInvalid      Reason = "FILTER_INVALID"       // a filter names what does not exist
	PageTokenInvalid   Reason = "PAGE_TOKEN_INVALID"   // the token is not the server's, or another filter's
	QueryNotUnderstood Reason = "QUERY_NOT_UNDERSTOOD" // the planner can't serve the query
	NoPlanner          Reason = "NO_PLANNER"           // a query was sent, and the server has no planner
	OperationNotFound  Reason = "OPERATION_NOT_FOUND"  // the server does not have an operation
	ExecutionNotFound  Reason = "EXECUTION_NOT_FOUND"  // there is no such execution
	ExecutionEnded     Reason = "EXECUTION_ENDED"      // it has ended, or is being cancelled
	ExecutionRunning   Reason = "EXECUTION_RUNNING"    // it has not ended
	AtMostOnce         Reason = "AT_MOST_ONCE"         // a step would run again that must not
	CursorExpired      Reason = "CURSOR_EXPIRED"       // the events after the cursor are gone
	CursorAhead        Reason = "CURSOR_AHEAD"         // the cursor is beyond the last event
	LimitExecutions    Reason = "LIMIT_EXECUTIONS"     // too many executions run
	LimitWatchers      Reason = "LIMIT_WATCHERS"       // too many streams are open
	LimitCalls         Reason = "LIMIT_CALLS"          // too many calls run
	LimitSize          Reason = "LIMIT_SIZE"           // a request or an event is too large
	StorageFull        Reason = "STORAGE_FULL"         // the disk is full
	Draining           Reason = "DRAINING"             // the server is going
	JournalUnavailable Reason = "JOURNAL_UNAVAILABLE"  // the journal can't be reached now
	JournalDamaged     Reason = "JOURNAL_DAMAGED"      // the journal does not match its checksum
	InternalError      Reason = "INTERNAL_ERROR"       // a bug of the server; its log has the message's id
	NotBuiltYet        Reason = "NOT_BUILT_YET"        // this release does not have the rpc
)

// Reasons that only the statuses inside events have: step_retrying, step_failed, plan_failed. They share some with
// calls.
const (
	OperationFailed Reason = "OPERATION_FAILED" // the operation raised
	OutputInvalid   Reason = "OUTPUT_INVALID"   // what the operation returned can't be sent
	Timeout         Reason = "TIMEOUT"          // the attempt took too long
	InputExpired    Reason = "INPUT_EXPIRED"    // nobody answered in time
	OutcomeUnknown  Reason = "OUTCOME_UNKNOWN"  // a step that runs at most once, and nobody knows whether it did
	Recovered       Reason = "RECOVERED"        // the attempt ended with its process
	RecoveryLimit   Reason = "RECOVERY_LIMIT"   // too many attempts in a row did
	StepFailed      Reason = "STEP_FAILED"      // a step failed; its step_failed says why
	TimeLimit       Reason = "TIME_LIMIT"       // the execution took too long
	PlannerFailed   Reason = "PLANNER_FAILED"   // the planner raised
)

// domain is that of every ErrorInfo that Stepwire sends.
const domain = "stepwire"

// ErrClosed is returned where a [Run] is read, or a call is made, after Close.
var ErrClosed = errors.New("stepwire: closed")

// A Violation is one thing that is wrong with a request.
type Violation struct {
	// Field is where, as a path: plan.steps[3].depends_on[0].
	Field string
	// Description is what is wrong, and what would be right.
	Description string
}

// An Error is a status that a call ended with. Where it is not the server's but the transport's or a proxy's, it has no
// reason.
type Error struct {
	// Code is the status' code.
	Code codes.Code
	// Reason is why, for programs. Empty where the status is not Stepwire's.
	Reason Reason
	// Message is why, for people.
	Message string
	// Violations are all that is wrong with the request, where the request is.
	Violations []Violation
	// Metadata has what belongs to the reason, such as first_sequence of CURSOR_EXPIRED.
	Metadata map[string]string
	// RequestID is that of the Execute that ended so, where the execution may have been accepted all the same: the same
	// request with this id attaches to it.
	RequestID string

	status *status.Status
	retry  *errdetails.RetryInfo
}

// ErrorOf returns what a status inside an event says, such as that of step_failed.
func ErrorOf(s *rpcstatus.Status) *Error { return errorFrom(status.FromProto(s)) }

func errorFrom(s *status.Status) *Error {
	e := &Error{Code: s.Code(), Message: s.Message(), status: s}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				e.Reason, e.Metadata = Reason(detail.GetReason()), detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.retry = detail
		}
	}
	return e
}

// RetryAfter returns how long the server asks to wait before the call is sent again, and whether it does.
func (e *Error) RetryAfter() (time.Duration, bool) {
	return max(0, e.retry.GetRetryDelay().AsDuration()), e.retry != nil
}

// Error returns the code or reason, the message, and each violation that the message does not have.
func (e *Error) Error() string {
	text := e.Code.String()
	if e.Reason != "" {
		text = string(e.Reason)
	}
	text += ": " + e.Message
	for _, violation := range e.Violations {
		if !strings.Contains(e.Message, violation.Field) || !strings.Contains(e.Message, violation.Description) {
			text += "; " + violation.Field + ": " + violation.Description
		}
	}
	return text
}

// Is tells whether target is the error's [Reason].
func (e *Error) Is(target error) bool { return isReason(e.Reason, target) }

// GRPCStatus returns the status as it came.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// A BrokenError says that a stream can't be gone on with: the server broke the contract, or the patience to resume is
// spent. Everything up to the cursor was given: Watch goes on after it.
type BrokenError struct {
	// ExecutionID is the execution that was followed. Empty where the server has not said it.
	ExecutionID string
	// Cursor is the sequence of the last event that was given.
	Cursor int64
	// Err is the last failure, where the patience is spent.
	Err error

	text string
}

// Error returns what broke, and the cursor.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("%s (execution %q, after event %d)", e.text, e.ExecutionID, e.Cursor)
}

// Unwrap returns the last failure.
func (e *BrokenError) Unwrap() error { return e.Err }

// A FailedError says that an execution ran and failed: it ended in plan_failed.
type FailedError struct {
	// ExecutionID is the execution.
	ExecutionID string
	// Reason is why, for programs, such as STEP_FAILED.
	Reason Reason
	// Message is why, for people.
	Message string
}

// Error returns the message and the reason.
func (e *FailedError) Error() string {
	return fmt.Sprintf("execution %s failed: %s: %s", e.ExecutionID, e.Reason, e.Message)
}

// Is tells whether target is the error's [Reason].
func (e *FailedError) Is(target error) bool { return isReason(e.Reason, target) }

// A CancelledError says that an execution was cancelled: it ended in plan_cancelled.
type CancelledError struct {
	// ExecutionID is the execution.
	ExecutionID string
	// Actor is who asked for it. May be empty.
	Actor string
	// Message is why. May be empty.
	Message string
}

// Error returns who cancelled the execution, and why.
func (e *CancelledError) Error() string {
	text := "execution " + e.ExecutionID + " was cancelled"
	if e.Actor != "" {
		text += " by " + e.Actor
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

func isReason(reason Reason, target error) bool {
	wanted, ok := target.(Reason)
	return ok && wanted != "" && wanted == reason
}
