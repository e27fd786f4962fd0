package stepwire

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

// A play is what the server does in one call.
type play func(*served) error

// A served call is one as the server sees it.
type served struct {
	context.Context
	request proto.Message
	peer    string // one for each connection
	left    chan struct{}
	send    func(*stepwirev1.EventBatch) error // of a stream
	reply   *stepwirev1.Execution              // of a unary call
}

// A scripted server plays one play for each call that comes, in their order.
type scripted struct {
	stepwirev1.UnimplementedExecutionServiceServer
	listener *cuttable
	target   string

	mu    sync.Mutex
	plays []play
	calls []*served
}

func serve(t *testing.T, plays ...play) *scripted {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{listener: &cuttable{Listener: listener}, target: listener.Addr().String(), plays: plays}
	server := grpc.NewServer()
	stepwirev1.RegisterExecutionServiceServer(server, s)
	go server.Serve(s.listener)
	t.Cleanup(server.Stop)
	return s
}

func (s *scripted) play(c *served) error {
	if p, ok := peer.FromContext(c.Context); ok {
		c.peer = p.Addr.String()
	}
	c.left = make(chan struct{})
	defer close(c.left)
	s.mu.Lock()
	s.calls = append(s.calls, c)
	next := play(holds())
	if len(s.plays) > 0 {
		next, s.plays = s.plays[0], s.plays[1:]
	}
	s.mu.Unlock()
	return next(c)
}

// call returns the call of that number, from 0.
func (s *scripted) call(number int) *served {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[number]
}

func (s *scripted) Execute(
	request *stepwirev1.ExecuteRequest, stream grpc.ServerStreamingServer[stepwirev1.EventBatch],
) error {
	return s.play(&served{Context: stream.Context(), request: request, send: stream.Send})
}

func (s *scripted) WatchExecution(
	request *stepwirev1.WatchExecutionRequest, stream grpc.ServerStreamingServer[stepwirev1.EventBatch],
) error {
	return s.play(&served{Context: stream.Context(), request: request, send: stream.Send})
}

func (s *scripted) WatchExecutions(
	request *stepwirev1.WatchExecutionsRequest, stream grpc.ServerStreamingServer[stepwirev1.EventBatch],
) error {
	return s.play(&served{Context: stream.Context(), request: request, send: stream.Send})
}

func (s *scripted) GetExecution(
	ctx context.Context, request *stepwirev1.GetExecutionRequest,
) (*stepwirev1.GetExecutionResponse, error) {
	c := &served{Context: ctx, request: request}
	err := s.play(c)
	return &stepwirev1.GetExecutionResponse{Execution: c.reply}, err
}

func (s *scripted) CancelExecution(
	ctx context.Context, request *stepwirev1.CancelExecutionRequest,
) (*stepwirev1.CancelExecutionResponse, error) {
	c := &served{Context: ctx, request: request}
	err := s.play(c)
	return &stepwirev1.CancelExecutionResponse{Execution: c.reply}, err
}

// says sends messages and ends with OK.
func says(messages ...*stepwirev1.EventBatch) play {
	return func(c *served) error {
		for _, message := range messages {
			if err := c.send(message); err != nil {
				return err
			}
		}
		return nil
	}
}

// holds sends messages, and nothing more until the caller leaves.
func holds(messages ...*stepwirev1.EventBatch) play {
	return func(c *served) error {
		if err := says(messages...)(c); err != nil {
			return err
		}
		<-c.Done()
		return c.Err()
	}
}

// fails ends with an error, after messages.
func fails(err error, messages ...*stepwirev1.EventBatch) play {
	return func(c *served) error {
		if err := says(messages...)(c); err != nil {
			return err
		}
		return err
	}
}

// replies answers a unary call with a snapshot.
func replies(c *served) error {
	c.reply = welcome(0).GetExecution()
	return nil
}

// A cuttable listener's connections can be cut.
type cuttable struct {
	net.Listener
	mu    sync.Mutex
	conns []*watched
}

func (l *cuttable) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	accepted := &watched{Conn: conn, closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, accepted)
	return accepted, nil
}

// conn returns the connection of that number, from 0.
func (l *cuttable) conn(number int) *watched {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[number]
}

func (l *cuttable) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
}

// A watched connection tells when it is closed, by whomever: gRPC closes one that its peer has.
type watched struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *watched) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// connect returns a client of the server. It is not patient.
func (s *scripted) connect(t *testing.T, options ...ClientOption) *Client {
	t.Helper()
	quick := Patience{InitialDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond, StartFailures: 3}
	client, err := New(s.target, append([]ClientOption{WithPatience(quick)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// patient returns a context that ends before a test hangs.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// wait waits until a channel is closed.
func wait(t *testing.T, ctx context.Context, closed <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-closed:
	case <-ctx.Done():
		t.Fatalf("%s: waited for too long", what)
	}
}
