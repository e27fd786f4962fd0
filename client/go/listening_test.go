package stepwire

import (
	"testing"
	"time"
)

func TestWhoBeginsToListenLateListensForAMoment(t *testing.T) {
	now := time.Unix(0, 0)
	var l listening
	l.expect(now, 10*time.Second)
	now = now.Add(time.Hour)
	if got := l.left(now); got != moment {
		t.Errorf("listens for %v", got)
	}
	if !l.over(now.Add(moment)) {
		t.Error("it is not given up after that")
	}
}

func TestASilenceThatIsNoticedLateIsGivenAMomentMoreOnce(t *testing.T) {
	now := time.Unix(0, 0)
	var l listening
	l.expect(now, 10*time.Second)
	l.left(now)
	now = now.Add(time.Hour)
	if l.over(now) {
		t.Error("a process that was stopped has had no time to read")
	}
	if got := l.left(now); got != moment {
		t.Errorf("listens for %v", got)
	}
	if !l.over(now.Add(time.Hour)) {
		t.Error("it is given another moment")
	}
}

func TestAShortWaitStaysShort(t *testing.T) {
	now := time.Unix(0, 0)
	var l listening
	l.expect(now, 100*time.Millisecond)
	if got := l.left(now.Add(time.Hour)); got != 100*time.Millisecond {
		t.Errorf("listens for %v", got)
	}
}
