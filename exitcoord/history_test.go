package exitcoord_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/exitcoord"
)

// This file runs random histories: causes that come from anywhere at any time, steps of every kind, stops that end
// early, late or badly, execs in between. A history is drawn first and then happens in a bubble with a clock of its own.
// What the exit promises is checked from outside: by a model of the domain, by the events and by the report.
//
// Whole seconds are deadlines, and everything else takes some milliseconds more, so that it is never a matter of luck
// which comes first.

const odd = 7 * time.Millisecond

// history is what happens to one cage.
type history struct {
	StopDeadline time.Duration
	Stops        []stopPlan // of the first stop, the second (after an exec), and so on; the last one for all others
	Steps        []stepPlan
	Kills        []time.Duration // when goroutines of their own give causes
	Execs        []execPlan
	KillOnEvent  []int // numbers of events at which the Observer gives a cause
	BadOnEvent   []int // numbers of events at which the Observer panics or ends its goroutine
	EarlyQuiet   bool  // misuse: Quiescent before anything, and once more after everything
}

// stopPlan is how a stop goes.
type stopPlan struct {
	How   string        // "inside": Stop calls Quiescent; else another goroutine does
	Takes time.Duration // until Quiescent
	End   string        // "ok", "error" or "panic"
	Kill  bool          // Stop gives a cause
}

// stepPlan is how a step goes.
type stepPlan struct {
	End      string // "ok", "error", "panic" or "goexit"
	Takes    time.Duration
	Deadline time.Duration
	Kill     bool // the step gives a cause
}

func (s stepPlan) want() exitcoord.Outcome {
	if s.Deadline > 0 && s.Takes > s.Deadline {
		return exitcoord.StepTimedOut
	}
	return s.late()
}

// late is what the step comes to in the end, deadline or not.
func (s stepPlan) late() exitcoord.Outcome {
	switch s.End {
	case "error", "goexit":
		return exitcoord.StepFailed
	case "panic":
		return exitcoord.StepPanicked
	}
	return exitcoord.StepOK
}

// execPlan is an exec that begins At and has its new image ready some time After it is quiescent.
type execPlan struct{ At, After time.Duration }

func drawHistory(t *rapid.T) history {
	seconds := func(label string, most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, label)) * time.Second
	}
	takes := func(label string, most int) time.Duration {
		if d := seconds(label, most); d > 0 {
			return d + odd
		}
		return 0
	}
	one := rapid.SampledFrom[[]string]
	h := history{StopDeadline: seconds("stop deadline", 3), EarlyQuiet: rapid.Bool().Draw(t, "early quiescent")}
	for range rapid.IntRange(1, 3).Draw(t, "stops") {
		h.Stops = append(h.Stops, stopPlan{
			How: one([]string{"inside", "outside"}).Draw(t, "stop"), Takes: takes("stop takes", 5),
			End: one([]string{"ok", "ok", "error", "panic"}).Draw(t, "stop ends"), Kill: rapid.Bool().Draw(t, "stop kills"),
		})
	}
	for range rapid.IntRange(0, 5).Draw(t, "steps") {
		h.Steps = append(h.Steps, stepPlan{
			End:   one([]string{"ok", "ok", "error", "panic", "goexit"}).Draw(t, "step ends"),
			Takes: takes("step takes", 4), Deadline: seconds("step deadline", 3), Kill: rapid.Bool().Draw(t, "step kills"),
		})
	}
	for range rapid.IntRange(1, 6).Draw(t, "kills") {
		h.Kills = append(h.Kills, seconds("kill at", 12))
	}
	for range rapid.IntRange(0, 2).Draw(t, "execs") {
		h.Execs = append(h.Execs, execPlan{At: seconds("exec at", 8), After: takes("exec takes", 3)})
	}
	events := rapid.SliceOfN(rapid.IntRange(1, 25), 0, 4)
	h.KillOnEvent, h.BadOnEvent = events.Draw(t, "kill on event"), events.Draw(t, "bad on event")
	return h
}

// stage is where a history happens: the domain, and what went wrong.
type stage struct {
	h      history
	exit   *exitcoord.Exit
	events record
	actors sync.WaitGroup

	mu sync.Mutex
	// All that follows is guarded by mu.
	inside  bool // guest code runs
	closed  bool // the gate
	stops   int
	stuck   int // how many stops take longer than they may
	runs    []int
	asked   int // causes given
	won     []int32
	faults  []error
	quietAt chan struct{} // receives when the stop of an exec is over
}

func (s *stage) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Errorf(format, args...))
}

// kill gives a cause that no other has: its code is its number.
func (s *stage) kill() {
	s.mu.Lock()
	s.asked++
	code := int32(s.asked)
	s.mu.Unlock()
	if s.exit.Begin(exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: code}) {
		s.mu.Lock()
		s.won = append(s.won, code)
		s.mu.Unlock()
	}
	if s.exit.Phase() == exitcoord.Running {
		s.fault("running after Begin")
	}
}

// killFrom gives a cause from inside Stop or a step: on the same goroutine, unless the Observer might end that, which
// would end Stop or the step too.
func (s *stage) killFrom() {
	if len(s.h.BadOnEvent) == 0 {
		s.kill()
		return
	}
	var killed sync.WaitGroup
	killed.Go(s.kill)
	killed.Wait()
}

// Stop closes the gate and has whatever is inside leave as planned.
func (s *stage) Stop() error {
	s.mu.Lock()
	plan := s.h.Stops[min(s.stops, len(s.h.Stops)-1)]
	s.stops++
	s.closed = true
	if s.h.StopDeadline > 0 && plan.Takes > s.h.StopDeadline {
		s.stuck++
	}
	s.mu.Unlock()
	if plan.Kill {
		s.killFrom()
	}
	if plan.How == "inside" && plan.Takes == 0 {
		s.leave()
	} else {
		s.actors.Go(func() {
			time.Sleep(plan.Takes) // of the bubble's clock, as all of these
			s.leave()
		})
	}
	switch plan.End {
	case "error":
		return errors.New("stop went wrong")
	case "panic":
		panic("stop went wrong")
	}
	return nil
}

func (s *stage) leave() {
	s.mu.Lock()
	s.inside = false
	s.mu.Unlock()
	// Told however the goroutine goes on: a step or the Observer may end it.
	defer func() {
		select {
		case s.quietAt <- struct{}{}:
		default:
		}
	}()
	if err := s.exit.Quiescent(nil); err != nil {
		s.fault("quiescent: %w", err)
	}
}

func (s *stage) Threads() []exitcoord.ThreadState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.inside {
		return nil // the stop came after an exec and before the first thread
	}
	return []exitcoord.ThreadState{{TID: 1, At: "guest"}}
}

// step is the body of the i-th step.
func (s *stage) step(i int) func(context.Context) error {
	return func(context.Context) error {
		s.mu.Lock()
		s.runs[i]++
		switch {
		case s.inside:
			s.faults = append(s.faults, fmt.Errorf("step %d runs while guest code does (I1)", i))
		case !s.exit.Phase().CanFree():
			s.faults = append(s.faults, fmt.Errorf("step %d runs while the cage is %v (I1)", i, s.exit.Phase()))
		}
		s.mu.Unlock()
		select {
		case <-s.exit.Done():
			s.fault("step %d begins after Done (I6)", i)
		default:
		}
		plan := s.h.Steps[i]
		if plan.Kill {
			s.killFrom()
		}
		time.Sleep(plan.Takes)
		switch plan.End {
		case "error":
			return errors.New("step went wrong")
		case "panic":
			panic("step went wrong")
		case "goexit":
			runtime.Goexit()
		}
		return nil
	}
}

func (s *stage) observe(e exitcoord.Event) {
	s.events.add(e)
	n := int(e.Seq)
	if slices.Contains(s.h.KillOnEvent, n) {
		s.kill()
	}
	if i := slices.Index(s.h.BadOnEvent, n); i >= 0 {
		if i%2 == 0 {
			panic("observer went wrong")
		}
		runtime.Goexit()
	}
}

// exec plays the owner of an exec, which calls Resume whatever happens.
func (s *stage) exec(plan execPlan) {
	time.Sleep(plan.At)
	started := make(chan error, 1)
	s.actors.Go(func() { // Stop may end the goroutine that BeginExec is called on
		defer close(started)
		started <- s.exit.BeginExec()
	})
	if err := <-started; err != nil {
		if !errors.Is(err, exitcoord.ErrEnding) && !errors.Is(err, exitcoord.ErrPhase) {
			s.fault("exec: %w", err)
		}
		return
	}
	<-s.quietAt
	time.Sleep(plan.After)
	s.mu.Lock()
	s.closed = false // the new image's gate
	s.mu.Unlock()
	resumed := make(chan error, 1)
	s.actors.Go(func() {
		defer close(resumed)
		resumed <- s.exit.Resume()
	})
	switch err, returned := <-resumed; {
	case !returned || errors.Is(err, exitcoord.ErrEnding):
	case err != nil:
		s.fault("resume: %w", err)
	default:
		s.mu.Lock()
		s.inside = !s.closed // as a thread that starts, and finds the gate open or not
		s.mu.Unlock()
	}
}

// play lets the history happen and checks what came of it.
func (h history) play(ctx context.Context) error {
	s := &stage{h: h, inside: true, runs: make([]int, len(h.Steps)), quietAt: make(chan struct{}, 1)}
	cfg := exitcoord.Config{Cage: 7, Stopper: s, StopDeadline: h.StopDeadline, Observer: s.observe}
	for i, plan := range h.Steps {
		cfg.Steps = append(cfg.Steps, exitcoord.Step{Name: fmt.Sprint("step", i), Run: s.step(i), Deadline: plan.Deadline})
	}
	s.exit = exitcoord.New(cfg)
	if h.EarlyQuiet && !errors.Is(s.exit.Quiescent(nil), exitcoord.ErrPhase) {
		return errors.New("a Quiescent before anything was taken")
	}
	for _, at := range h.Kills {
		s.actors.Go(func() {
			time.Sleep(at)
			s.kill()
		})
	}
	s.actors.Go(func() {
		for _, plan := range h.Execs {
			s.exec(plan)
		}
	})
	<-s.exit.Done()
	if p := s.exit.Phase(); p != exitcoord.Zombie {
		return fmt.Errorf("%v at Done", p)
	}
	if err := s.exit.WaitLate(ctx); err != nil {
		return err
	}
	s.actors.Wait()
	synctest.Wait()
	if h.EarlyQuiet && !errors.Is(s.exit.Quiescent(nil), exitcoord.ErrPhase) {
		return errors.New("a Quiescent after everything was taken")
	}
	reaped := make(chan error, 1)
	s.actors.Go(func() {
		defer close(reaped)
		reaped <- s.exit.Reap()
	})
	if err := <-reaped; err != nil {
		return err
	}
	synctest.Wait()
	return s.check()
}

func (s *stage) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, r := s.events.all(), s.exit.Report()
	errs := append(s.faults, checkEvents(events, len(s.h.Steps)), checkReport(r, events))
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	// A winner whose goroutine ended inside Begin could not say so.
	if len(s.won) > 1 || len(s.won) == 1 && r.Cause.Code != s.won[0] {
		fail("causes %v won, the report has %v (I5)", s.won, r.Cause)
	}
	if r.Lost != s.asked-1 {
		fail("%d causes were given, the report has %d that lost", s.asked, r.Lost)
	}
	stuck := 0
	for _, e := range events {
		if e.Kind == exitcoord.EventStuck {
			stuck++
		}
	}
	if stuck != s.stuck {
		fail("%d events of stuck, want %d", stuck, s.stuck)
	}
	late := map[int]exitcoord.Outcome{}
	for _, l := range r.Late {
		late[l.Index] = l.Outcome
	}
	for i, plan := range s.h.Steps {
		if s.runs[i] != 1 {
			fail("step %d ran %d times (I2)", i, s.runs[i])
		}
		if got := r.Steps[i]; got.Outcome != plan.want() {
			fail("step %d: %v, want %v", i, got, plan.want())
		}
		if out := plan.want() == exitcoord.StepTimedOut; out && late[i] != plan.late() || !out && late[i] != 0 {
			fail("step %d came back late as %v, want %v", i, late[i], plan.late())
		}
	}
	if err := checkText(r.String()); err != nil {
		fail("%w", err)
	}
	return errors.Join(errs...)
}

func TestHistories_KeepTheInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := drawHistory(rt)
		var err error
		synctest.Test(t, func(t *testing.T) { err = h.play(t.Context()) })
		if err != nil {
			rt.Fatalf("%+v\n%v", h, err)
		}
	})
}
