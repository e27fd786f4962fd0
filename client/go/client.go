package stepwire

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

// A Client starts, follows and controls executions on one server. Safe for concurrent use.
type Client struct {
	wire     *wire
	timeout  time.Duration
	patience Patience
	lifetime context.Context // ends with Close
	end      context.CancelFunc
}

// New returns a client of the server at target: HOST:PORT, or another name that gRPC can resolve. It connects when it
// is first used.
func New(target string, options ...ClientOption) (*Client, error) {
	if scheme, _, ok := strings.Cut(strings.ToLower(target), "://"); ok && (scheme == "http" || scheme == "https") {
		return nil, fmt.Errorf("stepwire: %q is a URL; say HOST:PORT, and give credentials for TLS", target)
	}
	settings := clientSettings{credentials: insecure.NewCredentials(), timeout: defaultTimeout}
	for _, option := range options {
		option(&settings)
	}
	lifetime, end := context.WithCancel(context.Background())
	w := &wire{
		dial:     func() (*grpc.ClientConn, error) { return grpc.NewClient(target, settings.dialOptions()...) },
		timeout:  settings.timeout,
		lifetime: lifetime,
		links:    map[*link]struct{}{},
	}
	// What is wrong with the target or an option is said now, not at the first call.
	first, err := w.take(nil)
	if err != nil {
		end()
		return nil, fmt.Errorf("stepwire: %w", err)
	}
	w.give(first)
	return &Client{
		wire:     w,
		timeout:  settings.timeout,
		patience: settings.patience.withDefaults(),
		lifetime: lifetime,
		end:      end,
	}, nil
}

// Close ends all runs and the connection. What runs on the server goes on.
func (c *Client) Close() {
	c.end()
	c.wire.tidy()
}

// Query returns the request to run what a query asks for. It may be completed with labels, options and so on.
func Query(text string) *stepwirev1.ExecuteRequest {
	return &stepwirev1.ExecuteRequest{Work: &stepwirev1.ExecuteRequest_Query{Query: text}}
}

// Plan returns the request to run a plan.
func Plan(plan *stepwirev1.Plan) *stepwirev1.ExecuteRequest {
	return &stepwirev1.ExecuteRequest{Work: &stepwirev1.ExecuteRequest_Plan{Plan: plan}}
}

// Execute starts an execution and follows it. It returns once the server has accepted it. Where the request has no
// request id it is given one, so that it can be sent again safely; the request itself is not changed.
//
// The end of ctx ends the run, not the execution. Neither does losing the connection, or this process.
func (c *Client) Execute(ctx context.Context, request *stepwirev1.ExecuteRequest, options ...RunOption) (*Run, error) {
	request = proto.CloneOf(request)
	if request.GetRequestId() == "" {
		request.RequestId = newRequestID()
	}
	s := source{request: request, filter: request.GetFilter(), heartbeat: request.GetHeartbeatInterval()}
	for _, option := range options {
		option(&s)
	}
	request.Filter, request.HeartbeatInterval = s.filter, s.heartbeat
	run, err := c.follow(ctx, s)
	if refusal := (*Error)(nil); errors.As(err, &refusal) && canPass(refusal) {
		refusal.RequestID = request.GetRequestId()
	}
	return run, err
}

// Watch follows an execution that exists, ended or not. It returns once the server has shown that it knows it. The
// end of ctx ends the run, not the execution.
func (c *Client) Watch(ctx context.Context, executionID string, options ...WatchOption) (*Run, error) {
	s := source{executionID: executionID}
	for _, option := range options {
		option.apply(&s)
	}
	return c.follow(ctx, s)
}

func (c *Client) follow(ctx context.Context, s source) (*Run, error) {
	run := newRun(ctx, c, s)
	for over := false; !over && !run.resumption.welcomed; {
		var err error
		if over, err = run.advance(); err != nil {
			run.Close()
			return nil, err
		}
	}
	return run, nil
}

// Get returns a snapshot of an execution, without its plan.
func (c *Client) Get(ctx context.Context, executionID string) (*stepwirev1.Execution, error) {
	request := &stepwirev1.GetExecutionRequest{ExecutionId: executionID}
	response, err := repeat(ctx, c, request, c.Service().GetExecution)
	return response.GetExecution(), err
}

// Cancel asks an execution to end, and says why, if only to people. It returns its snapshot once that is recorded; the
// end comes later, as the terminal event. Where it has ended already, the error is [ExecutionEnded].
func (c *Client) Cancel(ctx context.Context, executionID, reason string) (*stepwirev1.Execution, error) {
	request := &stepwirev1.CancelExecutionRequest{ExecutionId: executionID, Reason: reason}
	response, err := repeat(ctx, c, request, c.Service().CancelExecution)
	return response.GetExecution(), err
}

// Service returns the generated stub, for all other rpcs. Its errors are *[Error], its unary calls end within the
// client's timeout (a WaitExecution within that and its own), and nothing is sent again.
func (c *Client) Service() stepwirev1.ExecutionServiceClient {
	return stepwirev1.NewExecutionServiceClient(c.wire)
}

// repeat makes a unary call that is safe to send again, until it is answered or the client's patience is spent.
func repeat[Request, Response any](
	ctx context.Context, c *Client, request Request,
	call func(context.Context, Request, ...grpc.CallOption) (Response, error),
) (Response, error) {
	deadline := time.Now().Add(c.timeout)
	late := errorFrom(status.New(codes.DeadlineExceeded, "the server did not answer in time"))
	limited, cancel := context.WithDeadlineCause(ctx, deadline, late)
	defer cancel()
	for failures := 1; ; failures++ {
		response, err := call(limited, request)
		refusal := (*Error)(nil)
		if !errors.As(err, &refusal) || !canRepeat(refusal) || failures >= c.patience.StartFailures {
			return response, err
		}
		asked, _ := refusal.RetryAfter()
		delay := asked + c.patience.backoff(failures, mathrand.Float64())
		if time.Until(deadline) < delay {
			return response, err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return response, context.Cause(ctx)
		case <-c.lifetime.Done():
			return response, ErrClosed
		}
	}
}

// newRequestID returns 128 random bits, as the contract's ids are written.
func newRequestID() string {
	bits := make([]byte, 16)
	if _, err := rand.Read(bits); err != nil {
		panic(err) // From Go 1.24 on it never returns one.
	}
	return base64.RawURLEncoding.EncodeToString(bits)
}
