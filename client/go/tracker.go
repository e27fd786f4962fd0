package stepwire

import (
	"slices"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

// A Tracker folds events into how far an execution is. The server counts; the tracker keeps what its newest event says.
// So it is right with a filter, and from the middle of a stream on. Its zero value is ready to use.
type Tracker struct {
	events    int
	newest    *stepwirev1.Event
	terminal  *stepwirev1.Event
	questions []*stepwirev1.Event
}

// Add takes an event. One that is not newer than the last changes nothing, so none counts twice.
func (t *Tracker) Add(event *stepwirev1.Event) {
	if t.newest != nil && event.GetSequence() <= t.newest.GetSequence() {
		return
	}
	t.newest = event
	t.events++
	if isTerminal(event) {
		t.terminal = event
	}
	t.questions = slices.DeleteFunc(t.questions, func(question *stepwirev1.Event) bool {
		return closes(event, question)
	})
	if event.GetInputRequested() != nil {
		t.questions = append(t.questions, event)
	}
}

// Events returns how many events were added.
func (t *Tracker) Events() int { return t.events }

// Progress returns the figures as of the newest event: percentage, counts of steps, elapsed time, and an estimate of
// the time that remains. Before the first event it is nil, whose getters return zeros.
func (t *Tracker) Progress() *stepwirev1.Progress { return t.newest.GetProgress() }

// State returns the execution's state as of the newest event.
func (t *Tracker) State() stepwirev1.ExecutionState { return t.newest.GetExecutionState() }

// Terminal returns the event that ended the execution, or nil.
func (t *Tracker) Terminal() *stepwirev1.Event { return t.terminal }

// Questions returns what steps ask people and nobody has answered: the input_requested events, oldest first. A filter
// of events must let input_requested, input_received and the ends of steps through.
func (t *Tracker) Questions() []*stepwirev1.Event { return slices.Clone(t.questions) }

// closes tells whether a question is not open any more after an event.
func closes(event, question *stepwirev1.Event) bool {
	if received := event.GetInputReceived(); received != nil {
		return received.GetInputId() == question.GetInputRequested().GetInputId()
	}
	if isTerminal(event) {
		return true
	}
	if event.GetStepId() == "" || event.GetStepId() != question.GetStepId() {
		return false
	}
	switch event.GetStepState() {
	case stepwirev1.StepState_STEP_STATE_COMPLETED, stepwirev1.StepState_STEP_STATE_FAILED,
		stepwirev1.StepState_STEP_STATE_SKIPPED, stepwirev1.StepState_STEP_STATE_CANCELLED:
		return true
	default:
		// A step has one question at a time.
		return event.GetInputRequested() != nil
	}
}
