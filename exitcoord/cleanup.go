package exitcoord

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// This file implements phase 2: the steps, in order, each once (I2), none before Quiescent (I1), and Zombie after the
// last (I6). Only the one call that moved the cage out of Quiescent gets here, so that there is one runner of steps.

// ErrGoexit is the error of a step that ended its goroutine (runtime.Goexit) instead of returning.
var ErrGoexit = errors.New("step called runtime.Goexit")

// Outcome is what became of a step.
type Outcome uint8

// The outcomes.
const (
	// StepWaiting: its turn has not come.
	StepWaiting Outcome = iota
	// StepRunning: it runs.
	StepRunning
	// StepOK: it returned nil.
	StepOK
	// StepFailed: it returned an error, or ended its goroutine.
	StepFailed
	// StepPanicked: it panicked.
	StepPanicked
	// StepTimedOut: it had not returned at its deadline, and the exit went on without it.
	StepTimedOut

	numOutcomes = iota
)

var outcomeNames = [numOutcomes]string{"waiting", "running", "ok", "failed", "panicked", "timed out"}

// String is the outcome in lower case, with a blank in "timed out".
func (o Outcome) String() string {
	if int(o) >= numOutcomes {
		return "outcome " + strconv.Itoa(int(o))
	}
	return outcomeNames[o]
}

// StepResult is what became of one step.
type StepResult struct {
	Index    int // of the step in Config.Steps
	Name     string
	Outcome  Outcome
	Took     time.Duration // how long it ran; for one that timed out, until the exit went on
	Deadline time.Duration // 0: none
	Err      error         // nil unless Outcome is StepFailed, StepPanicked or StepTimedOut
	Stack    string        // of the panic; else empty
}

// String is the result in words: "descriptors failed: input/output error".
func (r StepResult) String() string { return r.Name + " " + r.result() }

func (r StepResult) result() string {
	s := r.Outcome.String()
	if r.Err != nil {
		s += ": " + printable(firstLine(r.Err.Error()))
	}
	return s
}

// lateSteps are the steps that outlived their deadline. Guarded by the Exit's mu.
type lateSteps struct {
	out     int           // how many have not returned
	idle    chan struct{} // closed when out becomes 0; nil unless somebody waits for that
	results []StepResult  // of those that have, in the order of their return. Only ever appended to
}

// cleanUp takes a cage that is Quiescent, and has a cause, to Zombie.
//
// Here and below, what must follow is deferred rather than called: a step, or the Observer in deliver, may end the
// goroutine that it runs on (runtime.Goexit), and deferred calls run even then.
func (x *Exit) cleanUp() {
	x.mu.Lock()
	now := time.Now()
	x.cleaningAt, x.stepEndedAt = now, now
	x.results = x.freshResults()
	x.advanceLocked(Quiescent, Cleaning, now)
	x.mu.Unlock()
	defer x.runFrom(0)
	x.deliver()
}

// runFrom runs the steps from the i-th on, then makes the cage a Zombie.
func (x *Exit) runFrom(i int) {
	if i == len(x.steps) {
		x.becomeZombie()
		return
	}
	defer x.runFrom(i + 1)
	x.mu.Lock()
	x.results[i].Outcome = StepRunning
	if x.observer != nil {
		x.noteStepLocked(EventStepBegan, time.Now(), x.results[i])
	}
	x.mu.Unlock()
	defer x.run(i)
	x.deliver()
}

// run runs one step. It begins when the one before it ended: to read the clock once a step rather than twice is a third
// of what an exit costs.
func (x *Exit) run(i int) {
	began := x.stepEndedAt
	if x.observer != nil {
		began = time.Now() // the time of the Observer is not the step's
	}
	if x.steps[i].Deadline > 0 {
		x.runWithDeadline(i, began)
	} else {
		x.runInline(i, began)
	}
}

func (x *Exit) becomeZombie() {
	x.mu.Lock()
	x.zombieAt = x.stepEndedAt
	if x.observer != nil {
		x.zombieAt = time.Now() // other events may have come since
	}
	x.advanceLocked(Cleaning, Zombie, x.zombieAt)
	x.mu.Unlock()
	if x.observer == nil {
		close(x.done)
		return
	}
	x.deliver() // closes done when the Observer has been told
}

// runInline runs a trusted step on this goroutine.
func (x *Exit) runInline(i int, began time.Time) {
	outcome, err, stack := StepFailed, ErrGoexit, "" // unless attempt returns
	defer func() {
		x.mu.Lock()
		x.stepEndedLocked(i, outcome, err, stack, began, time.Now())
		x.mu.Unlock()
		x.deliver()
	}()
	outcome, err, stack = attempt(context.Background(), x.steps[i].Run)
}

// runWithDeadline runs a step on a goroutine of its own and waits for the step's end or that of its deadline. Which of
// the two came first is decided under mu, once: so a result counts either as the step's or as a late one.
func (x *Exit) runWithDeadline(i int, began time.Time) {
	step := &x.steps[i]
	ctx, cancel := context.WithTimeout(context.Background(), step.Deadline)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		outcome, err, stack := StepFailed, ErrGoexit, "" // unless attempt returns
		defer func() {
			x.mu.Lock()
			now := time.Now()
			late := x.results[i].Outcome != StepRunning
			if late {
				x.cameLateLocked(i, outcome, err, stack, began, now)
			} else {
				x.stepEndedLocked(i, outcome, err, stack, began, now)
			}
			x.mu.Unlock()
			if late {
				x.deliver()
			} else {
				close(ended) // who waits for it tells the event
			}
		}()
		outcome, err, stack = attempt(ctx, step.Run)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		x.mu.Lock()
		if x.results[i].Outcome == StepRunning {
			err := fmt.Errorf("step %s: no end within %v: %w", step.Name, step.Deadline, context.DeadlineExceeded)
			x.stepEndedLocked(i, StepTimedOut, err, "", began, time.Now())
			x.late.out++
		}
		x.mu.Unlock()
	}
	x.deliver()
}

// attempt calls a step and turns a panic of it into an outcome. It does not return if the step ends its goroutine.
func attempt(ctx context.Context, run func(context.Context) error) (outcome Outcome, err error, stack string) {
	defer func() {
		if v := recover(); v != nil {
			outcome, err, stack = StepPanicked, panicError(v), panicStack(debug.Stack())
		}
	}()
	lockcheck.NoneHeld("a step")
	if err = run(ctx); err == nil {
		return StepOK, nil, ""
	}
	// Reports and events will call this: an Error that panics must do so here.
	_ = err.Error()
	return StepFailed, err, ""
}

// panicError is the value of a panic as an error: itself, wrapped, if it is one.
func panicError(v any) error {
	if err, ok := v.(error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic: %v", v)
}

// panicStack is a stack trace taken by a deferred function, from the call that panicked on.
func panicStack(trace []byte) string {
	s := string(trace)
	_, below, found := strings.Cut(s, "\npanic(") // one line for the call, one for its place
	if !found {
		return s
	}
	if parts := strings.SplitN(below, "\n", 3); len(parts) == 3 {
		return parts[2]
	}
	return s
}

func (x *Exit) stepEndedLocked(i int, outcome Outcome, err error, stack string, began, ended time.Time) {
	x.mu.AssertHeld()
	r := &x.results[i]
	r.Outcome, r.Err, r.Stack, r.Took = outcome, err, stack, ended.Sub(began)
	x.stepEndedAt = ended
	x.noteStepLocked(EventStepEnded, ended, *r)
}

// cameLateLocked records the result of a step whose deadline had passed. Nothing else follows from it.
func (x *Exit) cameLateLocked(i int, outcome Outcome, err error, stack string, began, ended time.Time) {
	x.mu.AssertHeld()
	r := x.results[i]
	r.Outcome, r.Err, r.Stack, r.Took = outcome, err, stack, ended.Sub(began)
	x.late.results = append(x.late.results, r)
	x.late.out--
	if x.late.out == 0 && x.late.idle != nil {
		close(x.late.idle)
		x.late.idle = nil
	}
	x.noteStepLocked(EventStepLate, ended, r)
}

// noteStepLocked makes the event of a step, with a copy of the result: the Observer may keep it.
func (x *Exit) noteStepLocked(kind EventKind, at time.Time, r StepResult) {
	if x.observer == nil {
		return
	}
	told := r // not &r: that would put every result on the heap, observed or not
	x.noteLocked(Event{Kind: kind, At: at, Step: &told})
}

// WaitLate waits until no step runs that has outlived its deadline. Nothing of the exit depends on it: it is for those
// who want to see that nothing is left behind, such as tests that count goroutines. Call it after Done. If ctx ends
// first, the error names the steps that still run.
func (x *Exit) WaitLate(ctx context.Context) error {
	x.mu.Lock()
	if x.late.out == 0 {
		x.mu.Unlock()
		return nil
	}
	if x.late.idle == nil {
		x.late.idle = make(chan struct{})
	}
	idle := x.late.idle
	x.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cage %d: steps still running: %v: %w", x.cage, x.stillOut(), context.Cause(ctx))
	}
}

// stillOut names the steps that have timed out and not returned.
func (x *Exit) stillOut() (names []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.results {
		if r.Outcome == StepTimedOut && !returned(x.late.results, r.Index) {
			names = append(names, r.Name)
		}
	}
	return names
}

func returned(late []StepResult, index int) bool {
	for i := range late {
		if late[i].Index == index {
			return true
		}
	}
	return false
}
