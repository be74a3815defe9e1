package exitcoord_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/exitcoord"
)

func TestExit_GoesThroughAllPhasesInOrder(t *testing.T) {
	for _, observed := range []bool{true, false} {
		var events record
		var x *exitcoord.Exit
		var done <-chan struct{}
		sees := func(name string) exitcoord.Step {
			return step(name, func(context.Context) error {
				if p := x.Phase(); p != exitcoord.Cleaning {
					t.Errorf("step %s runs while the cage is %v, want cleaning", name, p)
				}
				select {
				case <-done:
					t.Errorf("step %s runs after Done (I6)", name)
				default:
				}
				return nil
			})
		}
		cfg := exitcoord.Config{Cage: 7, Stopper: &domain{}, Steps: []exitcoord.Step{sees("a"), sees("b")}}
		if observed {
			cfg.Observer = events.add
		}
		x = exitcoord.New(cfg)
		done = x.Done()
		if p := x.Phase(); p != exitcoord.Running {
			t.Fatalf("a new exit is %v", p)
		}
		if s, ok := x.Status(); ok {
			t.Fatalf("a running cage has the status %v", s)
		}
		if !x.Begin(exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 7, TID: 2}) {
			t.Fatal("the first cause lost")
		}
		if p := x.Phase(); p != exitcoord.Stopping {
			t.Fatalf("after Begin the cage is %v, want stopping", p)
		}
		if s, ok := x.Status(); !ok || s != exitcoord.CodeStatus(7) {
			t.Fatalf("after Begin the status is %v, %v, want code 7", s, ok)
		}
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		wait(t, x, "Done", done)
		if p := x.Phase(); p != exitcoord.Zombie {
			t.Fatalf("at Done the cage is %v, want zombie", p)
		}
		if !observed {
			if err := x.Reap(); err != nil || x.Phase() != exitcoord.Reaped {
				t.Fatalf("Reap: %v, the cage is %v", err, x.Phase())
			}
			continue
		}
		verify(t, x, &events, 2)
		want := []string{
			"cause", "stopping", "quiescent", "cleaning", "began a", "a ok", "began b", "b ok", "zombie", "reaped",
		}
		if got := events.kinds(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	}
}

func TestBegin_FirstCauseWins(t *testing.T) {
	stops := 0
	x := exitcoord.New(exitcoord.Config{Cage: 7, Stopper: &domain{stop: func(*domain) error { stops++; return nil }}})
	first := exitcoord.Cause{Kind: exitcoord.Trap, TID: 3, Message: "unreachable"}
	if !x.Begin(first) {
		t.Fatal("the first cause lost")
	}
	for range 3 {
		if x.Begin(exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 0}) {
			t.Fatal("a later cause won")
		}
	}
	if err := x.Quiescent(nil); err != nil {
		t.Fatal(err)
	}
	if x.Begin(kill) {
		t.Fatal("a cause won against a zombie")
	}
	if s, _ := x.Status(); s != first.Status() {
		t.Errorf("status %v, want that of the first cause, %v", s, first.Status())
	}
	r := x.Report()
	if r.Lost != 4 || r.Cause.Message != "unreachable" || r.Cause.At.IsZero() {
		t.Errorf("report: %d lost, cause %+v", r.Lost, r.Cause)
	}
	if stops != 1 {
		t.Errorf("Stop was called %d times, want once", stops)
	}
}

func TestBegin_KeepsTheTimeThatTheCauseCameWith(t *testing.T) {
	x := exitcoord.New(exitcoord.Config{Cage: 7})
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	x.Begin(exitcoord.Cause{Kind: exitcoord.HostKill, At: at})
	if got := x.Report().Cause.At; !got.Equal(at) {
		t.Errorf("the cause is of %v, want %v", got, at)
	}
}

func TestMisuse_IsAnErrorAndChangesNothing(t *testing.T) {
	ran := 0
	var events record
	x := exitcoord.New(exitcoord.Config{
		Cage: 7, Observer: events.add,
		Steps: []exitcoord.Step{step("once", func(context.Context) error { ran++; return nil })},
	})
	refused := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), "cage 7") {
			t.Errorf("%s: %v, want an error that is %q and names the cage", what, err, want)
		}
	}
	before := x.Phase()
	refused("Quiescent of a running cage", x.Quiescent(nil), exitcoord.ErrPhase)
	refused("Reap of a running cage", x.Reap(), exitcoord.ErrPhase)
	refused("Resume of a running cage", x.Resume(), exitcoord.ErrPhase)
	if x.Phase() != before || ran != 0 || len(events.all()) != 0 {
		t.Fatalf("misuse had an effect: %v, %d steps, events %v", x.Phase(), ran, events.all())
	}
	x.Begin(kill)
	refused("Reap of a stopping cage", x.Reap(), exitcoord.ErrPhase)
	refused("Resume of a stopping cage", x.Resume(), exitcoord.ErrEnding)
	refused("BeginExec of a stopping cage", x.BeginExec(), exitcoord.ErrEnding)
	if err := x.Quiescent(nil); err != nil {
		t.Fatal(err)
	}
	refused("second Quiescent", x.Quiescent(nil), exitcoord.ErrPhase)
	refused("Resume of a zombie", x.Resume(), exitcoord.ErrEnding)
	verify(t, x, &events, 1)
	refused("second Reap", x.Reap(), exitcoord.ErrReaped)
	refused("Quiescent of a reaped cage", x.Quiescent(nil), exitcoord.ErrPhase)
	if ran != 1 {
		t.Errorf("the step ran %d times (I2)", ran)
	}
}

func TestQuiescent_MayComeFromInsideStop(t *testing.T) {
	var events record
	ran := false
	d := &domain{stop: func(d *domain) error { return d.exit.Quiescent(nil) }}
	d.exit = exitcoord.New(exitcoord.Config{
		Cage: 7, Stopper: d, StopDeadline: time.Hour, Observer: events.add,
		Steps: []exitcoord.Step{step("a", func(context.Context) error { ran = true; return nil })},
	})
	d.exit.Begin(kill)
	if !ran || d.exit.Phase() != exitcoord.Zombie {
		t.Errorf("after Begin: step ran %v, phase %v, want a zombie at once", ran, d.exit.Phase())
	}
	wait(t, d.exit, "Done", d.exit.Done())
	verify(t, d.exit, &events, 1)
}

func TestQuiescent_WithoutAStopperIsTheOwners(t *testing.T) {
	var events record
	x := exitcoord.New(exitcoord.Config{Cage: 7, Steps: []exitcoord.Step{okStep("a")}, Observer: events.add})
	x.Begin(exitcoord.Cause{Kind: exitcoord.StartFailed, Message: "no memory"})
	if err := x.Quiescent(nil); err != nil {
		t.Fatal(err)
	}
	verify(t, x, &events, 1)
	if code := x.Report().Status.ExitCode(); code != 126 {
		t.Errorf("exit code %d, want 126", code)
	}
}

// Whoever calls Begin may rely on the cage being Stopping afterwards, also who loses to one that is in the middle of it.
func TestBegin_LoserFindsTheCageStoppingToo(t *testing.T) {
	for range 500 {
		x := exitcoord.New(exitcoord.Config{Cage: 7})
		var group sync.WaitGroup
		start := make(chan struct{})
		for range 4 {
			group.Go(func() {
				<-start
				x.Begin(kill)
				if p := x.Phase(); p == exitcoord.Running {
					t.Error("the cage is running after Begin")
				}
			})
		}
		close(start)
		group.Wait()
	}
}

// The Observer runs where the winner is between its claim and its Stop. A loser in there must get away at once.
func TestBegin_IsHarmlessFromEverywhereInTheSameExit(t *testing.T) {
	var x *exitcoord.Exit
	calls := map[string]int{}
	again := func(where string) {
		calls[where]++
		if x.Begin(exitcoord.Cause{Kind: exitcoord.Trap, TID: 9}) {
			t.Errorf("a cause given inside %s won", where)
		}
		_, _ = x.Status()
		_, _ = x.Stuck()
		_ = x.StuckC()
		_ = x.Report().String()
	}
	d := &domain{stop: func(d *domain) error {
		again("Stop")
		err := d.exit.Quiescent(nil)
		again("Stop after Quiescent")
		return err
	}}
	var events record
	x = exitcoord.New(exitcoord.Config{
		Cage: 7, Stopper: d,
		Steps: []exitcoord.Step{step("a", func(context.Context) error { again("a step"); return nil })},
		Observer: func(e exitcoord.Event) {
			events.add(e)
			again("the observer")
		},
	})
	d.exit = x
	x.Begin(kill)
	verify(t, x, &events, 1)
	for _, where := range []string{"Stop", "Stop after Quiescent", "a step"} {
		if calls[where] != 1 {
			t.Errorf("%d calls inside %s, want 1", calls[where], where)
		}
	}
	if r := x.Report(); r.Lost != 3+calls["the observer"] || r.Cause.Kind != exitcoord.HostKill {
		t.Errorf("%d lost causes, cause %v; calls %v", r.Lost, r.Cause, calls)
	}
}

// A cage's own cleanup may kill others, whose cleanup kills others again: a chain of exits on one stack.
func TestBegin_ChainOfExitsEachInAStepOfTheOneBefore(t *testing.T) {
	const n = 1000
	exits := make([]*exitcoord.Exit, n)
	for i := range exits {
		d := &domain{stop: func(d *domain) error { return d.exit.Quiescent(nil) }}
		d.exit = exitcoord.New(exitcoord.Config{
			Stopper: d, StopDeadline: time.Hour,
			Steps: []exitcoord.Step{step("next", func(context.Context) error {
				exits[(i+1)%n].Begin(kill)
				return nil
			})},
		})
		exits[i] = d.exit
	}
	exits[0].Begin(kill)
	for i, x := range exits {
		wait(t, x, "Done", x.Done())
		if err := x.Reap(); err != nil {
			t.Fatalf("exit %d: %v", i, err)
		}
	}
	if lost := exits[0].Report().Lost; lost != 1 {
		t.Errorf("the first was killed %d times more, want once, by the last", lost)
	}
}

func TestStop_FailureIsReportedAndTheExitGoesOn(t *testing.T) {
	failure := errors.New("no such domain")
	for name, stop := range map[string]func(*domain) error{
		"error": func(*domain) error { return failure },
		"panic": func(*domain) error { panic(failure.Error()) },
		"error that panics": func(*domain) error {
			return panickyError{}
		},
		"error after Quiescent": func(d *domain) error { return errors.Join(d.exit.Quiescent(nil), failure) },
	} {
		t.Run(name, func(t *testing.T) {
			var events record
			d := &domain{stop: stop}
			d.exit = exitcoord.New(exitcoord.Config{
				Cage: 7, Stopper: d, Steps: []exitcoord.Step{okStep("a")}, Observer: events.add,
			})
			d.exit.Begin(kill)
			if d.exit.Phase() == exitcoord.Stopping {
				if err := d.exit.Quiescent(nil); err != nil {
					t.Fatal(err)
				}
			}
			verify(t, d.exit, &events, 1)
			err := d.exit.Report().StopErr
			if err == nil || name != "error that panics" && !strings.Contains(err.Error(), failure.Error()) {
				t.Errorf("report: stop error %v, want %v", err, failure)
			}
			if !slices.Contains(events.kinds(), "stop_failed") {
				t.Errorf("no event of the failed stop: %v", events.kinds())
			}
		})
	}
}

// panickyError is an error that cannot be told.
type panickyError struct{}

func (panickyError) Error() string { panic("no text") }

func TestStop_ThatEndsItsGoroutineLeavesAnExitThatCanGoOn(t *testing.T) {
	var events record
	x := exitcoord.New(exitcoord.Config{
		Cage: 7, Stopper: &domain{stop: func(*domain) error { runtime.Goexit(); return nil }},
		StopDeadline: time.Nanosecond, Observer: events.add,
	})
	var group sync.WaitGroup
	group.Go(func() { x.Begin(kill) })
	waitGroup(t, "the goroutine that Stop ends", &group)
	wait(t, x, "the deadline", x.StuckC())
	if err := x.Quiescent(nil); err != nil {
		t.Fatal(err)
	}
	verify(t, x, &events, 0)
}

func TestQuiescent_PassesThreadsToTheReport(t *testing.T) {
	x := exitcoord.New(exitcoord.Config{Cage: 7})
	x.Begin(kill)
	threads := []exitcoord.ThreadState{{TID: 1, At: "guest"}, {TID: 2, At: "atomic wait at 0x40", Left: time.Millisecond}}
	if err := x.Quiescent(slices.Clone(threads)); err != nil {
		t.Fatal(err)
	}
	if got := x.Report().Threads; !slices.Equal(got, threads) {
		t.Errorf("threads %+v, want %+v", got, threads)
	}
}
