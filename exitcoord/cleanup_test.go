package exitcoord_test

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lindbridge/lindbridge/exitcoord"
)

// end takes an exit with nothing inside to its end, and checks it.
func end(t testing.TB, x *exitcoord.Exit, events *record, steps int) exitcoord.Report {
	t.Helper()
	x.Begin(kill)
	var group sync.WaitGroup
	group.Go(func() {
		if err := x.Quiescent(nil); err != nil {
			t.Error(err)
		}
	})
	wait(t, x, "Done", x.Done())
	waitGroup(t, "Quiescent to return", &group)
	verify(t, x, events, steps)
	return x.Report()
}

func TestSteps_AllRunInOrderWhateverBecomesOfEach(t *testing.T) {
	failure := errors.New("input/output error")
	var order []string
	var mu sync.Mutex
	run := func(name string, f func() error) func(context.Context) error {
		return func(context.Context) error {
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			return f()
		}
	}
	var nobody *domain
	bodies := []struct {
		name string
		f    func() error
		want exitcoord.Outcome
		text string
	}{
		{"fine", func() error { return nil }, exitcoord.StepOK, ""},
		{"error", func() error { return failure }, exitcoord.StepFailed, "input/output error"},
		{"panic", func() error { panic("out of cheese") }, exitcoord.StepPanicked, "panic: out of cheese"},
		{"panic with an error", func() error { panic(failure) }, exitcoord.StepPanicked, "panic: input/output error"},
		{"nil pointer", func() error { return nobody.stop(nil) }, exitcoord.StepPanicked, "nil pointer dereference"},
		{"panic of nil", func() error { panic(nil) }, exitcoord.StepPanicked, "nil"},
		{"error that panics", func() error { return panickyError{} }, exitcoord.StepPanicked, "no text"},
		{"end of goroutine", func() error { runtime.Goexit(); return nil }, exitcoord.StepFailed, "runtime.Goexit"},
		{"fine again", func() error { return nil }, exitcoord.StepOK, ""},
	}
	for _, deadline := range []time.Duration{0, time.Hour, -time.Second} {
		t.Run("deadline "+deadline.String(), func(t *testing.T) {
			order = nil
			var steps []exitcoord.Step
			var names []string
			for _, b := range bodies {
				steps = append(steps, exitcoord.Step{Name: b.name, Run: run(b.name, b.f), Deadline: deadline})
				names = append(names, b.name)
			}
			// A step that nobody gave a body to is a panic like another.
			steps = append(steps, exitcoord.Step{Name: "no body", Deadline: deadline})
			var events record
			x := exitcoord.New(exitcoord.Config{Cage: 7, Steps: steps, Observer: events.add})
			r := end(t, x, &events, len(steps))
			if !slices.Equal(order, names) {
				t.Errorf("ran %q, want each once in order: %q", order, names)
			}
			for i, b := range bodies {
				s := r.Steps[i]
				if s.Name != b.name || s.Outcome != b.want || s.Deadline != max(deadline, 0) {
					t.Errorf("%s: %+v, want %v", b.name, s, b.want)
				}
				if (s.Err == nil) != (b.text == "") || s.Err != nil && !strings.Contains(s.Err.Error(), b.text) {
					t.Errorf("%s: error %v, want %q", b.name, s.Err, b.text)
				}
				if panicked := b.want == exitcoord.StepPanicked; panicked != (s.Stack != "") {
					t.Errorf("%s: stack %q", b.name, s.Stack)
				}
			}
			if s := r.Steps[len(bodies)]; s.Outcome != exitcoord.StepPanicked {
				t.Errorf("a step without a body: %v", s)
			}
			if !errors.Is(r.Steps[1].Err, failure) || !errors.Is(r.Steps[3].Err, failure) {
				t.Errorf("the errors lost what they were: %v, %v", r.Steps[1].Err, r.Steps[3].Err)
			}
			if !errors.Is(r.Steps[7].Err, exitcoord.ErrGoexit) {
				t.Errorf("end of goroutine: %v, want ErrGoexit", r.Steps[7].Err)
			}
		})
	}
}

func TestSteps_StackOfAPanicBeginsWhereItPanicked(t *testing.T) {
	var events record
	x := exitcoord.New(exitcoord.Config{Cage: 7, Steps: []exitcoord.Step{step("a", culprit)}, Observer: events.add})
	r := end(t, x, &events, 1)
	first, _, _ := strings.Cut(r.Steps[0].Stack, "\n")
	if !strings.Contains(first, "culprit") {
		t.Errorf("the stack begins with %q, want the function that panicked:\n%s", first, r.Steps[0].Stack)
	}
}

//go:noinline
func culprit(context.Context) error { panic(fs.ErrClosed) }

func TestSteps_NoneStartsBeforeQuiescent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events record
		inside := true
		check := func(context.Context) error {
			if inside {
				t.Error("a step runs while something is inside (I1)")
			}
			return nil
		}
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, StopDeadline: time.Second, Observer: events.add,
			Steps: []exitcoord.Step{step("a", check), {Name: "b", Run: check, Deadline: time.Second}},
		})
		x.Begin(kill)
		<-x.StuckC()
		time.Sleep(time.Hour) // of the bubble's clock: enough for whatever timer there might be
		inside = false
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		verify(t, x, &events, 2)
	})
}

func TestDeadline_PassesAndTheExitGoesOnWithoutTheStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events record
		failure := errors.New("grate is gone")
		release := make(chan struct{})
		var ctxErr error
		hang := func(ctx context.Context) error {
			if d, ok := ctx.Deadline(); !ok || time.Until(d) != 3*time.Second {
				t.Errorf("the context's deadline is in %v, %v; want 3s", time.Until(d), ok)
			}
			<-ctx.Done()
			ctxErr = ctx.Err()
			<-release
			return failure
		}
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, Observer: events.add,
			Steps: []exitcoord.Step{{Name: "notify", Run: hang, Deadline: 3 * time.Second}, okStep("memory")},
		})
		x.Begin(kill)
		began := time.Now()
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the exit took %v, want the deadline, 3s", took)
		}
		<-x.Done()
		r := x.Report()
		if s := r.Steps[0]; s.Outcome != exitcoord.StepTimedOut || s.Took != 3*time.Second ||
			!errors.Is(s.Err, context.DeadlineExceeded) {
			t.Errorf("step: %+v, want one that timed out after 3s", s)
		}
		if s := r.Steps[1]; s.Outcome != exitcoord.StepOK || len(r.Late) != 0 {
			t.Errorf("next step %+v, late %v", s, r.Late)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := x.WaitLate(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "notify") {
			t.Errorf("WaitLate while the step runs: %v, want an error that names it", err)
		}
		close(release)
		if err := x.WaitLate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(ctxErr, context.DeadlineExceeded) {
			t.Errorf("the step's context ended with %v", ctxErr)
		}
		synctest.Wait() // until the event of the late step was told too
		verify(t, x, &events, 2)
		after := x.Report()
		if len(after.Late) != 1 || after.Late[0].Outcome != exitcoord.StepFailed || !errors.Is(after.Late[0].Err, failure) ||
			after.Late[0].Took != 3*time.Second+time.Minute {
			t.Errorf("late steps %+v, want the failure after 1m3s", after.Late)
		}
		if after.Steps[0] != r.Steps[0] || after.Phase != exitcoord.Reaped {
			t.Errorf("the late return changed the step to %+v", after.Steps[0])
		}
		want := []string{
			"cause", "stopping", "quiescent", "cleaning", "began notify", "notify timed out", "began memory", "memory ok",
			"zombie", "late notify failed", "reaped",
		}
		if got := events.kinds(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestDeadline_StepThatEndsInTimeIsNoDifferentFromATrustedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events record
		var stepCtx context.Context
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, Observer: events.add,
			Steps: []exitcoord.Step{{
				Name: "notify", Deadline: time.Minute,
				Run: func(ctx context.Context) error {
					stepCtx = ctx
					time.Sleep(time.Second) // of the bubble's clock
					return nil
				},
			}},
		})
		r := end(t, x, &events, 1)
		if s := r.Steps[0]; s.Outcome != exitcoord.StepOK || s.Took != time.Second || r.Cleaning != time.Second {
			t.Errorf("step %+v in a cleaning of %v, want ok after 1s", s, r.Cleaning)
		}
		if err := x.WaitLate(t.Context()); err != nil {
			t.Error(err)
		}
		if stepCtx.Err() == nil {
			t.Error("the context of a step that ended is still alive: its timer runs on")
		}
	})
}

// Steps whose end and whose deadline come together: either is right, but it is one of the two, and the record agrees.
func TestDeadline_EndAtTheVeryMoment_Hammer(t *testing.T) {
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			var events record
			var steps []exitcoord.Step
			for range 3 {
				steps = append(steps, exitcoord.Step{
					Name: "a", Deadline: time.Second,
					Run: func(context.Context) error { time.Sleep(time.Second); return nil }, // of the bubble's clock
				})
			}
			x := exitcoord.New(exitcoord.Config{Cage: 7, Steps: steps, Observer: events.add})
			x.Begin(kill)
			if err := x.Quiescent(nil); err != nil {
				t.Fatal(err)
			}
			<-x.Done()
			if err := x.WaitLate(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			verify(t, x, &events, 3)
			late := 0
			for _, s := range x.Report().Steps {
				if s.Outcome == exitcoord.StepTimedOut {
					late++
				}
			}
			if got := len(x.Report().Late); got != late {
				t.Errorf("%d steps timed out and %d came back", late, got)
			}
		})
	}
}

func TestWaitLate_WaitsForTheLastOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events record
		var steps []exitcoord.Step
		for i := range 3 {
			steps = append(steps, exitcoord.Step{
				Name: "a", Deadline: time.Second,
				Run: func(context.Context) error {
					time.Sleep(time.Duration(10*(3-i)) * time.Second) // of the bubble's clock: the first comes back last
					if i == 1 {
						runtime.Goexit()
					}
					if i == 2 {
						panic("late")
					}
					return nil
				},
			})
		}
		x := exitcoord.New(exitcoord.Config{Cage: 7, Steps: steps, Observer: events.add})
		began := time.Now()
		x.Begin(kill)
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		if err := x.WaitLate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != 30*time.Second {
			t.Errorf("waited %v, want until the last came back, 30s", waited)
		}
		synctest.Wait()
		verify(t, x, &events, 3)
		var got []exitcoord.Outcome
		for _, s := range x.Report().Late {
			got = append(got, s.Outcome)
		}
		// The third began after 2 s and slept 10, the second after 1 s and slept 20.
		want := []exitcoord.Outcome{exitcoord.StepPanicked, exitcoord.StepFailed, exitcoord.StepOK}
		if !slices.Equal(got, want) {
			t.Errorf("late steps came to %v, want %v", got, want)
		}
	})
}
