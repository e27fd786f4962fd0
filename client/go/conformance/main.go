// Conformance is the adapter through which tests/conformance tests this client: it reads commands, does what
// they say, and writes what it saw.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	stepwire "github.com/stepwire/stepwire/client/go"
	"github.com/stepwire/stepwire/client/go/stepwirev1"
)

type command struct {
	Do            string          `json:"do"`
	Target        string          `json:"target"`
	Query         string          `json:"query"`
	Plan          json.RawMessage `json:"plan"`
	RequestID     string          `json:"request_id"`
	ExecutionID   string          `json:"execution_id"`
	AfterSequence int64           `json:"after_sequence"`
	Filter        json.RawMessage `json:"filter"`
	Heartbeat     float64         `json:"heartbeat_seconds"`
	Opening       float64         `json:"opening_seconds"`
	Timeout       float64         `json:"timeout_seconds"`
	StopAfter     int             `json:"stop_after"`
	Silent        bool            `json:"silent"`
	Reason        string          `json:"reason"`
	Type          string          `json:"type"`
	Base64        []byte          `json:"base64"`
	Patience      patience        `json:"patience"`
}

type patience struct {
	InitialDelay   float64 `json:"initial_delay"`
	MaxDelay       float64 `json:"max_delay"`
	StartFailures  int     `json:"start_failures"`
	ResumeFailures int     `json:"resume_failures"`
	StartSeconds   float64 `json:"start_seconds"`
	ResumeSeconds  float64 `json:"resume_seconds"`
}

type seenEvent struct {
	Sequence int64  `json:"sequence"`
	Kind     string `json:"kind"`
	StepID   string `json:"step_id"`
	Size     *int   `json:"size,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
}

type seenProgress struct {
	Percentage     float64 `json:"percentage"`
	CompletedSteps int32   `json:"completed_steps"`
	TotalSteps     int32   `json:"total_steps"`
	Events         int     `json:"events"`
}

type seenExecution struct {
	ExecutionID string `json:"execution_id"`
	State       string `json:"state"`
}

type seenEnd struct {
	Outcome  string     `json:"outcome,omitempty"`
	Error    *seenError `json:"error,omitempty"`
	Sequence int64      `json:"sequence"`
	Events   *int       `json:"events,omitempty"`
	Seconds  *float64   `json:"seconds,omitempty"`
}

type seenError struct {
	Kind       string            `json:"kind"`
	Code       string            `json:"code,omitempty"`
	Reason     stepwire.Reason   `json:"reason,omitempty"`
	Message    string            `json:"message"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Violations []seenViolation   `json:"violations,omitempty"`
	RetryAfter *float64          `json:"retry_after_seconds,omitempty"`
	RequestID  string            `json:"request_id,omitempty"`
}

type seenViolation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

func main() {
	log.SetFlags(0)
	commands := json.NewDecoder(os.Stdin)
	for {
		var c command
		err := commands.Decode(&c)
		if err == io.EOF {
			return
		}
		if err == nil {
			err = c.run(context.Background())
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}

func (c *command) run(ctx context.Context) error {
	if c.Do == "decode" {
		return c.decode()
	}
	client, err := stepwire.New(c.Target, c.options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	switch c.Do {
	case "execute", "watch":
		return c.follow(ctx, client)
	case "get":
		return c.answer(client.Get(ctx, c.ExecutionID))
	case "cancel":
		return c.answer(client.Cancel(ctx, c.ExecutionID, c.Reason))
	default:
		return fmt.Errorf("there is no %q", c.Do)
	}
}

func (c *command) options() []stepwire.ClientOption {
	p := c.Patience
	options := []stepwire.ClientOption{stepwire.WithPatience(stepwire.Patience{
		InitialDelay:   duration(p.InitialDelay),
		MaxDelay:       duration(p.MaxDelay),
		StartFailures:  p.StartFailures,
		ResumeFailures: p.ResumeFailures,
		StartDuration:  duration(p.StartSeconds),
		ResumeDuration: duration(p.ResumeSeconds),
	})}
	if limit := max(c.Opening, c.Timeout); limit > 0 {
		options = append(options, stepwire.WithTimeout(duration(limit)))
	}
	return options
}

func (c *command) follow(ctx context.Context, client *stepwire.Client) error {
	began := time.Now()
	run, err := c.begin(ctx, client)
	var tracker stepwire.Tracker
	end := seenEnd{Sequence: c.AfterSequence}
	if err == nil {
		err = c.read(run, &end)
		// The run counts an event as processed when the next one is asked for; this user was done with the last.
		end.Sequence = max(end.Sequence, run.Cursor())
		tracker = *run.Tracker()
	}
	if err != nil {
		if end.Error, err = describeError(err); err != nil {
			return err
		}
	}
	if count := tracker.Events(); c.Silent {
		seconds := time.Since(began).Seconds()
		end.Events, end.Seconds = &count, &seconds
	}
	progress := tracker.Progress()
	write("progress", seenProgress{
		progress.GetPercentage(), progress.GetCompletedSteps(), progress.GetTotalSteps(), tracker.Events(),
	})
	write("end", end)
	return nil
}

func (c *command) begin(ctx context.Context, client *stepwire.Client) (*stepwire.Run, error) {
	var options []stepwire.RunOption
	if c.Heartbeat > 0 {
		options = append(options, stepwire.Heartbeat(duration(c.Heartbeat)))
	}
	if c.Filter != nil {
		filter := new(stepwirev1.EventFilter)
		if err := protojson.Unmarshal(c.Filter, filter); err != nil {
			return nil, err
		}
		options = append(options, stepwire.Filter(filter))
	}
	if c.Do == "watch" {
		watch := []stepwire.WatchOption{stepwire.After(c.AfterSequence)}
		for _, option := range options {
			watch = append(watch, option)
		}
		return client.Watch(ctx, c.ExecutionID, watch...)
	}
	request := stepwire.Query(c.Query)
	if c.Plan != nil {
		plan := new(stepwirev1.Plan)
		if err := protojson.Unmarshal(c.Plan, plan); err != nil {
			return nil, err
		}
		request = stepwire.Plan(plan)
	}
	request.RequestId = c.RequestID
	return client.Execute(ctx, request, options...)
}

// read reads the events, and fills in how it ended.
func (c *command) read(run *stepwire.Run, end *seenEnd) error {
	defer run.Close()
	for event, err := range run.Events() {
		if err != nil {
			return err
		}
		end.Sequence = event.GetSequence()
		if !c.Silent {
			write("event", describeEvent(event))
		}
		if run.Tracker().Events() == c.StopAfter {
			end.Outcome = "stopped"
			return nil
		}
	}
	end.Outcome = "over"
	if run.Terminal() != nil {
		end.Outcome = strings.TrimPrefix(kindOf(run.Terminal()), "plan_")
	}
	return nil
}

func (c *command) answer(execution *stepwirev1.Execution, err error) error {
	if err != nil {
		said, err := describeError(err)
		if err != nil {
			return err
		}
		write("end", seenEnd{Error: said})
		return nil
	}
	write("execution", seenExecution{execution.GetExecutionId(), execution.GetState().String()})
	write("end", seenEnd{Outcome: "answered"})
	return nil
}

func (c *command) decode() error {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(c.Type))
	if err != nil {
		return err
	}
	message := kind.New().Interface()
	if err := proto.Unmarshal(c.Base64, message); err != nil {
		return err
	}
	decoded, err := protojson.Marshal(message)
	if err != nil {
		return err
	}
	write("decoded", json.RawMessage(decoded))
	write("end", seenEnd{Outcome: "answered"})
	return nil
}

func describeEvent(event *stepwirev1.Event) seenEvent {
	seen := seenEvent{Sequence: event.GetSequence(), Kind: kindOf(event), StepID: event.GetStepId()}
	if content := event.GetContent(); content != nil {
		piece := content.GetData()
		if text, ok := content.GetPiece().(*stepwirev1.Content_Text); ok {
			piece = []byte(text.Text)
		}
		size, sum := len(piece), sha256.Sum256(piece)
		seen.Size, seen.SHA256 = &size, hex.EncodeToString(sum[:])
	}
	return seen
}

func kindOf(event *stepwirev1.Event) string {
	message := event.ProtoReflect()
	arm := message.WhichOneof(message.Descriptor().Oneofs().ByName("kind"))
	if arm == nil {
		return ""
	}
	return string(arm.Name())
}

// describeError says what a client's error is. One that is none of the outcomes is returned.
func describeError(err error) (*seenError, error) {
	if broken := (*stepwire.BrokenError)(nil); errors.As(err, &broken) {
		return &seenError{Kind: "broken", Message: broken.Error()}, nil
	}
	refusal := (*stepwire.Error)(nil)
	if !errors.As(err, &refusal) {
		return nil, err
	}
	said := &seenError{
		Kind:      "refused",
		Code:      code.Code(refusal.Code).String(),
		Reason:    refusal.Reason,
		Message:   refusal.Message,
		Metadata:  refusal.Metadata,
		RequestID: refusal.RequestID,
	}
	for _, violation := range refusal.Violations {
		said.Violations = append(said.Violations, seenViolation(violation))
	}
	if wait, asked := refusal.RetryAfter(); asked {
		seconds := wait.Seconds()
		said.RetryAfter = &seconds
	}
	return said, nil
}

// write writes a line at once: the kit waits for some of them.
func write(name string, value any) {
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{name: value}); err != nil {
		log.Fatal(err)
	}
}

func duration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}
