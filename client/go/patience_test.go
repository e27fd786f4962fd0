package stepwire

import (
	"testing"
	"time"
)

func TestABackOffIsAnyShareOfItsCeiling(t *testing.T) {
	patience := Patience{}.withDefaults()
	for _, test := range []struct {
		failures int
		random   float64
		want     time.Duration
	}{
		{1, 0, 0},
		{1, 0.5, 50 * time.Millisecond},
		{1, 1, 100 * time.Millisecond},
		{4, 1, 800 * time.Millisecond},
		{7, 1, 5 * time.Second},
		{7, 0.1, 500 * time.Millisecond},
		{1_000_000, 1, 5 * time.Second},
	} {
		if got := patience.backoff(test.failures, test.random); got != test.want {
			t.Errorf("after %d failures and by chance %v: %v, not %v", test.failures, test.random, got, test.want)
		}
	}
}

func TestWhatIsSetIsNotDefaulted(t *testing.T) {
	got := Patience{StartFailures: 1, MaxDelay: time.Minute}.withDefaults()
	if got.StartFailures != 1 || got.MaxDelay != time.Minute || got.ResumeFailures != 50 {
		t.Errorf("the patience is %+v", got)
	}
}
