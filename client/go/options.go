package stepwire

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

const (
	defaultTimeout = 10 * time.Second
	// maxMessage is what the server sends at most, and what it takes. gRPC's own bound, 4 MiB, is below it.
	maxMessage = 5 << 20
	// window is room for a message of 512 short events. With HTTP/2's 64 KiB a server that replays waits in the midst
	// of each; and where the size is fixed, a reader that is slow does not take in some MB for each stream.
	window = 128 << 10
)

// A ClientOption says how [New] makes a client.
type ClientOption func(*clientSettings)

type clientSettings struct {
	credentials credentials.TransportCredentials
	timeout     time.Duration
	patience    Patience
	dial        []grpc.DialOption
}

// WithCredentials makes the connection TLS, or whatever the credentials are. Without it, it is plaintext.
func WithCredentials(c credentials.TransportCredentials) ClientOption {
	return func(s *clientSettings) { s.credentials = c }
}

// WithTimeout sets the longest that a unary call may take, with all that is tried again, and the longest that a stream
// may take to begin. An earlier deadline of a call's context wins. 10 s by default.
func WithTimeout(timeout time.Duration) ClientOption {
	return func(s *clientSettings) { s.timeout = timeout }
}

// WithPatience says how long to go on trying.
func WithPatience(p Patience) ClientOption {
	return func(s *clientSettings) { s.patience = p }
}

// WithDialOptions adds options of gRPC's own, such as interceptors. They win over this package's.
func WithDialOptions(options ...grpc.DialOption) ClientOption {
	return func(s *clientSettings) { s.dial = append(s.dial, options...) }
}

func (s *clientSettings) dialOptions() []grpc.DialOption {
	return append([]grpc.DialOption{
		grpc.WithTransportCredentials(s.credentials),
		// A dead line is noticed within 15 s, also while nothing is said.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// gRPC's own reconnecting would slow down to once in two minutes, and give a server that takes a connection and
		// says nothing 20 s.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Streams are resumed by their cursor, and Get and Cancel are tried again here.
		grpc.WithDisableRetry(),
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(8 * window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	}, s.dial...)
}

// A WatchOption says how [Client.Watch] follows an execution. Each [RunOption] is one.
type WatchOption interface{ apply(*source) }

// A RunOption says how [Client.Execute] and [Client.Watch] follow an execution.
type RunOption func(*source)

func (o RunOption) apply(s *source) { o(s) }

type after int64

func (a after) apply(s *source) { s.after = int64(a) }

// After begins with what follows the event of this sequence: the cursor of an earlier run. 0, the default, is the
// beginning.
func After(sequence int64) WatchOption { return after(sequence) }

// Filter selects events, on the server. The terminal event comes whatever it is.
func Filter(filter *stepwirev1.EventFilter) RunOption {
	return func(s *source) { s.filter = filter }
}

// Heartbeat sets after how long a silence the server says that it lives: 100 ms to 1 h, 15 s by default. A connection
// that says nothing for two of these and a second is given up.
func Heartbeat(interval time.Duration) RunOption {
	return func(s *source) { s.heartbeat = durationpb.New(interval) }
}
