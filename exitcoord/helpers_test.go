package exitcoord_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/exitcoord"
)

// This file holds what the tests share: a domain that is no domain, a record of events, and the checker that knows the
// rules which every record must obey.

// patience is how long a test waits for what must happen. It is long since nothing is learnt from a slow machine.
const patience = 30 * time.Second

// wait waits for c and fails with the report if nothing comes.
func wait(t testing.TB, x *exitcoord.Exit, what string, c <-chan struct{}) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-c:
	case <-timeout.C:
		t.Fatalf("waited %v for %s; the exit:\n%v", patience, what, x.Report())
	}
}

// waitGroup waits for a group of goroutines.
func waitGroup(t testing.TB, what string, group *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		t.Fatalf("waited %v for %s", patience, what)
	}
}

// domain is a Stopper made of functions; what is nil does nothing. Its exit is set when it is made.
type domain struct {
	exit    *exitcoord.Exit
	stop    func(d *domain) error
	threads func() []exitcoord.ThreadState
}

func (d *domain) Stop() error {
	if d.stop == nil {
		return nil
	}
	return d.stop(d)
}

func (d *domain) Threads() []exitcoord.ThreadState {
	if d.threads == nil {
		return nil
	}
	return d.threads()
}

// record keeps events and is safe for concurrent use, so that the race detector does not hide a missing order: it is the
// checker that finds one.
type record struct {
	mu     sync.Mutex
	events []exitcoord.Event // guarded by mu
	reaped chan struct{}     // closed at phase reaped, when somebody waits for that; guarded by mu
}

func (r *record) add(e exitcoord.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	if r.reaped != nil && isReaped(e) {
		close(r.reaped)
	}
}

func isReaped(e exitcoord.Event) bool {
	return e.Kind == exitcoord.EventPhase && e.Phase == exitcoord.Reaped
}

// complete is closed when the record has the last phase: the event may be told by another thread than Reap's.
func (r *record) complete() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reaped = make(chan struct{})
	if slices.ContainsFunc(r.events, isReaped) {
		close(r.reaped)
	}
	return r.reaped
}

func (r *record) all() []exitcoord.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// kinds is the events in short, for comparison: "cause", "stopping", "began a", "a ok".
func (r *record) kinds() []string {
	var out []string
	for _, e := range r.all() {
		switch e.Kind {
		case exitcoord.EventPhase:
			out = append(out, e.Phase.String())
		case exitcoord.EventStepBegan:
			out = append(out, "began "+e.Step.Name)
		case exitcoord.EventStepEnded:
			out = append(out, e.Step.Name+" "+e.Step.Outcome.String())
		case exitcoord.EventStepLate:
			out = append(out, "late "+e.Step.Name+" "+e.Step.Outcome.String())
		default:
			out = append(out, e.Kind.String())
		}
	}
	return out
}

func step(name string, run func(context.Context) error) exitcoord.Step {
	return exitcoord.Step{Name: name, Run: run}
}

func okStep(name string) exitcoord.Step {
	return step(name, func(context.Context) error { return nil })
}

// kill is a cause that the host gives.
var kill = exitcoord.Cause{Kind: exitcoord.HostKill}

// checkEvents checks a complete record of one exit, from its begin until Reaped, against the rules of Event.
func checkEvents(events []exitcoord.Event, steps int) error {
	c := eventChecker{phase: exitcoord.Running, next: 0, began: -1}
	var last time.Time
	for i, e := range events {
		if e.Seq != uint64(i+1) {
			return fmt.Errorf("event %d has number %d: %v", i+1, e.Seq, e)
		}
		if e.At.IsZero() {
			return fmt.Errorf("event without a time: %v", e)
		}
		if e.Kind != exitcoord.EventCause {
			if e.At.Before(last) {
				return fmt.Errorf("%v is of %v, the one before it of %v", e, e.At, last)
			}
			last = e.At
		}
		if err := c.take(e, steps); err != nil {
			return fmt.Errorf("%v: %w", e, err)
		}
	}
	if c.phase != exitcoord.Reaped {
		return fmt.Errorf("the record ends while the cage is %v", c.phase)
	}
	return nil
}

type eventChecker struct {
	phase exitcoord.Phase
	cause bool
	stuck bool
	next  int // the step whose turn it is
	began int // the step that runs, -1 if none does
	out   []int
}

var follows = map[exitcoord.Phase][]exitcoord.Phase{
	exitcoord.Running:   {exitcoord.Stopping},
	exitcoord.Stopping:  {exitcoord.Quiescent},
	exitcoord.Quiescent: {exitcoord.Cleaning, exitcoord.Running},
	exitcoord.Cleaning:  {exitcoord.Zombie},
	exitcoord.Zombie:    {exitcoord.Reaped},
}

func (c *eventChecker) take(e exitcoord.Event, steps int) error {
	switch e.Kind {
	case exitcoord.EventCause:
		if c.cause || e.Cause == nil {
			return errors.New("a second cause, or an empty one (I5)")
		}
		if c.phase.CanFree() {
			return fmt.Errorf("the cause comes while the cage is %v", c.phase)
		}
		c.cause = true
	case exitcoord.EventPhase:
		return c.move(e.Phase, steps)
	case exitcoord.EventStopFailed:
		if c.phase == exitcoord.Running || e.Err == nil {
			return errors.New("a failed stop without a stop, or without an error")
		}
	case exitcoord.EventStuck:
		if c.phase != exitcoord.Stopping || c.stuck || e.Stuck == nil || e.Stuck.Over {
			return fmt.Errorf("stuck while %v, or twice, or over as it begins", c.phase)
		}
		c.stuck = true
	case exitcoord.EventStepBegan:
		if c.phase != exitcoord.Cleaning {
			return fmt.Errorf("a step begins while the cage is %v (I1)", c.phase)
		}
		if c.began >= 0 || e.Step.Index != c.next || e.Step.Outcome != exitcoord.StepRunning {
			return fmt.Errorf("step %d begins; it is the turn of %d and %d runs (I2)", e.Step.Index, c.next, c.began)
		}
		c.began = c.next
	case exitcoord.EventStepEnded:
		if c.phase != exitcoord.Cleaning || e.Step.Index != c.began {
			return fmt.Errorf("step %d ends while %v and %d runs (I2, I6)", e.Step.Index, c.phase, c.began)
		}
		switch e.Step.Outcome {
		case exitcoord.StepOK, exitcoord.StepFailed, exitcoord.StepPanicked:
		case exitcoord.StepTimedOut:
			c.out = append(c.out, c.began)
		default:
			return errors.New("no outcome for a step that ended")
		}
		c.began, c.next = -1, c.next+1
	case exitcoord.EventStepLate:
		i := slices.Index(c.out, e.Step.Index)
		if i < 0 {
			return errors.New("a step comes back late that did not time out, or did already")
		}
		c.out = slices.Delete(c.out, i, i+1)
	default:
		return errors.New("unknown kind")
	}
	return nil
}

func (c *eventChecker) move(to exitcoord.Phase, steps int) error {
	if !slices.Contains(follows[c.phase], to) {
		return fmt.Errorf("after %v", c.phase)
	}
	switch to {
	case exitcoord.Stopping:
		c.stuck = false
	case exitcoord.Running:
		if c.cause {
			return errors.New("the cage runs again though it has a cause to end")
		}
	case exitcoord.Cleaning:
		if !c.cause {
			return errors.New("cleaning without a cause")
		}
	case exitcoord.Zombie:
		if c.began >= 0 || c.next != steps {
			return fmt.Errorf("zombie after %d of %d steps, and step %d runs (I2, I6)", c.next, steps, c.began)
		}
	}
	c.phase = to
	return nil
}

// checkReport compares the report of a cage that is reaped with what the events said.
func checkReport(r exitcoord.Report, events []exitcoord.Event) error {
	var cause *exitcoord.Cause
	var stuck bool
	ended, late := map[int]exitcoord.StepResult{}, map[int]exitcoord.StepResult{}
	for _, e := range events {
		switch e.Kind {
		case exitcoord.EventCause:
			cause = e.Cause
		case exitcoord.EventStuck:
			stuck = true
		case exitcoord.EventPhase:
			if e.Phase == exitcoord.Running {
				stuck = false // that of an exec, which the report of the exit forgets
			}
		case exitcoord.EventStepEnded:
			ended[e.Step.Index] = *e.Step
		case exitcoord.EventStepLate:
			late[e.Step.Index] = *e.Step
		}
	}
	if r.Cause == nil || cause == nil || *r.Cause != *cause || r.Status != cause.Status() {
		return fmt.Errorf("cause %v with status %v, want %v (I5)", r.Cause, r.Status, cause)
	}
	if (r.Stuck != nil) != stuck || stuck && !r.Stuck.Over {
		return fmt.Errorf("stuck: report says %+v, events %v", r.Stuck, stuck)
	}
	if len(r.Steps) != len(ended) || len(r.Late) != len(late) {
		return fmt.Errorf("%d steps and %d late, want %d and %d", len(r.Steps), len(r.Late), len(ended), len(late))
	}
	for i, s := range r.Steps {
		if s.Index != i || s != ended[i] {
			return fmt.Errorf("step %d is %+v, its event said %+v", i, s, ended[i])
		}
	}
	for _, s := range r.Late {
		if s != late[s.Index] {
			return fmt.Errorf("late step %+v, its event said %+v", s, late[s.Index])
		}
	}
	if s := r.Stuck; s != nil && (s.Lasted < 0 || s.After < 0 || r.Stopping < s.After+s.Lasted) {
		return fmt.Errorf("stuck after %v for %v in a stop of %v", s.After, s.Lasted, r.Stopping)
	}
	if r.Stopping < 0 || r.Cleaning < 0 || r.Total < r.Stopping+r.Cleaning {
		return fmt.Errorf("stopping %v and cleaning %v in a total of %v", r.Stopping, r.Cleaning, r.Total)
	}
	return nil
}

// verify reaps the cage and checks its record and its report.
func verify(t testing.TB, x *exitcoord.Exit, r *record, steps int) {
	t.Helper()
	if err := x.Reap(); err != nil {
		t.Fatal(err)
	}
	wait(t, x, "the event of Reap", r.complete())
	events := r.all()
	err := errors.Join(checkEvents(events, steps), checkReport(x.Report(), events))
	if err != nil {
		t.Fatalf("%v\nevents:\n%v\nreport:\n%v", err, events, x.Report())
	}
}
