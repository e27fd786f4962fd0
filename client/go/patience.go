package stepwire

import (
	"math"
	"time"

	"google.golang.org/grpc/codes"
)

// Patience says how long a client goes on trying. A field that is zero has its default: these give up after about 6 s
// at the start, and after 2 min when resuming.
type Patience struct {
	// StartFailures is how many failures in a row end a stream before its first message, or a call of [Client.Get] or
	// [Client.Cancel]. The last one is returned. 8 by default.
	StartFailures int
	// StartDuration is the longest that those may take, from the first of them on. 30 s by default.
	StartDuration time.Duration
	// ResumeFailures is how many failures in a row, without a new event or a heartbeat between them, end a stream that
	// had begun. Then a [BrokenError] is returned. 50 by default.
	ResumeFailures int
	// ResumeDuration is the longest that those may take, from the first of them on. 2 min by default.
	ResumeDuration time.Duration
	// InitialDelay is the most that the first wait can be. It doubles with each failure. 100 ms by default.
	InitialDelay time.Duration
	// MaxDelay is the longest wait, unless the server asked for more. 5 s by default.
	MaxDelay time.Duration
}

func (p Patience) withDefaults() Patience {
	setDefault(&p.StartFailures, 8)
	setDefault(&p.StartDuration, 30*time.Second)
	setDefault(&p.ResumeFailures, 50)
	setDefault(&p.ResumeDuration, 2*time.Minute)
	setDefault(&p.InitialDelay, 100*time.Millisecond)
	setDefault(&p.MaxDelay, 5*time.Second)
	return p
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// backoff returns the wait after so many failures in a row: any share of the doubled delay (full jitter). random is
// 0 to 1.
func (p Patience) backoff(failures int, random float64) time.Duration {
	ceiling := min(float64(p.MaxDelay), math.Ldexp(float64(p.InitialDelay), failures-1))
	return time.Duration(random * ceiling)
}

// budget is what is left of a stream's patience.
type budget struct {
	failures int       // in a row
	since    time.Time // when the first of them was to be made good; zero until then
}

func (b *budget) refill() { *b = budget{} }

// spent tells whether a try after such a delay would be too late, or one too many.
func (b *budget) spent(now time.Time, delay time.Duration, failures int, duration time.Duration) bool {
	passed := delay
	if !b.since.IsZero() {
		passed += now.Sub(b.since)
	}
	return b.failures >= failures || passed > duration
}

// canPass tells whether the same stream can do better later, or over another connection.
func canPass(e *Error) bool {
	switch e.Code {
	case codes.Unavailable:
		return true
	case codes.ResourceExhausted:
		_, asked := e.RetryAfter()
		return asked
	case codes.Canceled, codes.Unknown, codes.Internal, codes.DeadlineExceeded:
		// Of the transport or a proxy these say nothing about the request. A server that stops ends its calls so.
		return e.Reason == ""
	default:
		return false
	}
}

// canRepeat tells whether a unary call that ended so may be sent again. It must be safe to send twice.
func canRepeat(e *Error) bool {
	return e.Code == codes.Unavailable || e.Code == codes.Canceled && e.Reason == ""
}
