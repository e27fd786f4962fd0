package stepwire

import (
	"slices"
	"testing"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

func question(sequence int64, step, input string) *stepwirev1.Event {
	asked := event(sequence)
	asked.StepId = step
	asked.StepState = stepwirev1.StepState_STEP_STATE_WAITING
	asked.Kind = &stepwirev1.Event_InputRequested{InputRequested: &stepwirev1.InputRequested{InputId: input}}
	return asked
}

func TestATrackerHasTheNewestFigures(t *testing.T) {
	var tracker Tracker
	if tracker.Progress().GetPercentage() != 0 || tracker.Terminal() != nil {
		t.Error("a new tracker knows something")
	}
	started := event(1)
	started.ExecutionState = stepwirev1.ExecutionState_EXECUTION_STATE_RUNNING
	started.Progress = &stepwirev1.Progress{Percentage: 10, TotalSteps: 1}
	for _, event := range []*stepwirev1.Event{started, completed(2), started} {
		tracker.Add(event)
	}
	if tracker.Events() != 2 || tracker.Progress().GetPercentage() != 100 || tracker.Terminal().GetSequence() != 2 ||
		tracker.State() != stepwirev1.ExecutionState_EXECUTION_STATE_COMPLETED {
		t.Errorf("it has %d events, %v, %v", tracker.Events(), tracker.State(), tracker.Progress())
	}
}

func TestAQuestionIsOpenUntilItIsClosed(t *testing.T) {
	answered := event(3)
	answered.StepId = "a"
	answered.Kind = &stepwirev1.Event_InputReceived{InputReceived: &stepwirev1.InputReceived{InputId: "q1"}}
	late := event(3)
	late.StepId = "b"
	late.Kind = &stepwirev1.Event_InputReceived{InputReceived: &stepwirev1.InputReceived{InputId: "q1"}}
	stepEnded := event(3)
	stepEnded.StepId, stepEnded.StepState = "a", stepwirev1.StepState_STEP_STATE_FAILED
	retrying := event(3)
	retrying.StepId, retrying.StepState = "a", stepwirev1.StepState_STEP_STATE_RUNNING
	for name, test := range map[string]struct {
		event *stepwirev1.Event
		want  []string
	}{
		"its answer":               {answered, []string{"q2"}},
		"its answer, from a retry": {late, []string{"q2"}},
		"another question":         {question(3, "a", "q3"), []string{"q2", "q3"}},
		"another step's question":  {question(3, "c", "q3"), []string{"q1", "q2", "q3"}},
		"its step's end":           {stepEnded, []string{"q2"}},
		"another attempt":          {retrying, []string{"q1", "q2"}},
		"the execution's end":      {completed(3), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var tracker Tracker
			for _, event := range []*stepwirev1.Event{question(1, "a", "q1"), question(2, "b", "q2"), test.event} {
				tracker.Add(event)
			}
			var got []string
			for _, open := range tracker.Questions() {
				got = append(got, open.GetInputRequested().GetInputId())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("open are %v, not %v", got, test.want)
			}
		})
	}
}
