package stepwire

import "time"

const (
	// moment is the time in which what is there already will be read.
	moment = time.Second
	// late is how long after its time a silence is noticed, at most, by who has listened all the while.
	late = 100 * time.Millisecond
)

// listening says when a call that says nothing is given up. It is the server that must have been silent, not the reader
// that was away: whoever begins to listen late listens for a moment at least, and a silence that is noticed late, by a
// process that was stopped, gets a moment more. Neither is given twice before the next message.
type listening struct {
	until    time.Time
	least    time.Duration
	begun    bool
	extended bool
}

// expect takes note that the next message is due within so long.
func (l *listening) expect(now time.Time, within time.Duration) {
	*l = listening{until: now.Add(within), least: min(within, moment)}
}

// left returns how long to listen. Who asks listens from now on.
func (l *listening) left(now time.Time) time.Duration {
	if !l.begun {
		l.begun = true
		if least := now.Add(l.least); least.After(l.until) {
			l.until = least
		}
	}
	return max(0, l.until.Sub(now))
}

// over tells whether nothing came in that time because nothing was said.
func (l *listening) over(now time.Time) bool {
	if l.extended || now.Sub(l.until) <= late {
		return true
	}
	l.extended, l.until = true, now.Add(moment)
	return false
}
